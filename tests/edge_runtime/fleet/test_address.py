"""Addresses: what operators write, and what is never shown."""

from __future__ import annotations

import pytest

from edge_runtime.errors import UsageError
from edge_runtime.fleet.address import Address


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://cdn.example.com/a/b", "https://cdn.example.com/a/b/vision.onnx.data?x-seal=12"),
        ("https://cdn.example.com/a/b/", "https://cdn.example.com/a/b/vision.onnx.data?x-seal=12"),
        ("http://[::1]:8080", "http://[::1]:8080/vision.onnx.data?x-seal=12"),
        ("https://h/c?sv=1&sig=a%2Bb", "https://h/c/vision.onnx.data?sv=1&sig=a%2Bb&x-seal=12"),
        ("s3://models/gates", "https://models.s3.eu-central-1.amazonaws.com/gates/vision.onnx.data?x-seal=12"),
        ("s3://my.models/g", "https://s3.eu-central-1.amazonaws.com/my.models/g/vision.onnx.data?x-seal=12"),
    ],
)
def test_files_of_a_folder(url: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Address.parse(url).file("vision.onnx.data", "12").url == asked


def test_another_s3_server() -> None:
    found = Address.parse("s3://models/gates", "http://10.0.0.9:9000")
    assert found.file("a b.onnx").url == "http://10.0.0.9:9000/models/gates/a%20b.onnx"
    assert found.region


def test_passwords_and_signatures_are_not_shown() -> None:
    address = Address.parse("https://me:secret@host:8443/a?sig=secret")
    assert address.shown == "https://host:8443/a"
    assert "secret" not in address.file("x").shown
    assert "me" not in address.url
    assert address.authorization == "Basic bWU6c2VjcmV0"


def test_what_one_server_is_told_no_other_learns() -> None:
    address = Address.parse("https://me:secret@host/a?sig=1")
    assert address.redirected("/b").authorization
    assert not address.redirected("https://other/b").authorization
    assert not address.redirected("https://host:8443/b").authorization
    assert "sig" not in address.redirected("https://other/b").url
    with pytest.raises(ValueError, match="from https to http"):
        address.redirected("http://host/b")
    for nonsense in ("ftp://x/y", "http://[", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="redirects"):
            address.redirected(nonsense)


@pytest.mark.parametrize(
    "url",
    ["", "bundle/", "ftp://h/x", "https://", "https://h:99999/", "https://h/a b", "https://h/ü", "s3://a_b/x"],
)
def test_what_is_no_address_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url)
    with pytest.raises(UsageError) as raised:
        Address.parse("https://me:secret@h:port/")
    assert "secret" not in str(raised.value)
