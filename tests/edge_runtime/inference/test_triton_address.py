"""Addresses of Triton servers: what they hold, what is refused, and that no token is ever written into one."""

from __future__ import annotations

import pytest

from edge_runtime.errors import UsageError
from edge_runtime.inference.providers import find_provider
from edge_runtime.inference.triton_address import TOKEN_VARIABLE, parse_address


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def test_an_address_names_servers_models_and_options():
    found = parse_address("triton+tls://a:8001,[::1]:8002/gate?wire=jpeg&deadline_s=2.5&ca=/etc/ca.pem")
    assert found.replicas == ("a:8001", "[::1]:8002")
    assert (found.name, found.tls, found.wire, found.deadline_s) == ("gate", True, "jpeg", 2.5)
    assert found.ca == "/etc/ca.pem"
    plain = parse_address("triton://10.0.0.5:8001")
    assert (plain.name, plain.tls, plain.wire, plain.deadline_s) == (None, False, "raw", 10.0)


def test_it_is_a_row_of_the_table_of_providers():
    row = find_provider("triton+tls://a:8001?wire=jpeg")
    assert (row.kind, row.remote, row.auto_rank) == ("triton", True, None)
    with pytest.raises(UsageError, match="unknown provider"):
        find_provider("cpu+tls://a:8001")
    with pytest.raises(UsageError, match="unknown provider 'triton\\+tls'"):
        find_provider("triton+tls")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("triton", "needs the address of a server, as in triton://host:8001"),
        ("triton:8001", "needs the address"),
        ("triton://", "no address of a server"),
        ("triton://host", "'host' is no address of a server; write host:port"),
        ("triton://host:0", "no address of a server"),
        ("triton://host:65536", "no address of a server"),
        ("triton://a:1,a:1", "names a server twice"),
        ("triton://a:1,", "no address of a server"),
        ("triton://a:1/x y", "no name of models"),
        ("triton://a:1?wire=png", "unknown wire 'png'; choose from raw, jpeg"),
        ("triton://a:1?deadline_s=soon", "deadline_s is a number"),
        ("triton://a:1?deadline_s=nan", "deadline_s is a time"),
        ("triton://a:1?deadline_s=0", "deadline_s is a time"),
        ("triton://a:1?speed=9", "unknown option 'speed'"),
        ("triton://a:1?wire", "are written"),
        ("triton://a:1?ca=x", "triton\\+tls://"),
        ("triton+tls://a:1?cert=x", "cert and key"),
        ("triton://a:1?token_header=A%0d", "token_header"),
    ],
)
def test_what_is_none_is_refused_in_one_line(text, said):
    with pytest.raises(UsageError, match=said) as refused:
        parse_address(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["triton://me:hunter2@a:1", "triton://a:1?token=hunter2", "triton://a:1?password=hunter2"]
)
def test_a_secret_in_an_address_is_refused_without_repeating_it(text):
    with pytest.raises(UsageError, match=TOKEN_VARIABLE) as refused:
        parse_address(text)
    assert "hunter2" not in str(refused.value)


def test_a_token_comes_from_the_environment_or_a_file(monkeypatch, tmp_path):
    assert parse_address("triton://far:1").headers() == {}
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    assert parse_address("triton+tls://far:1").headers() == {"authorization": "Bearer s3cret"}
    (tmp_path / "token").write_text("other\n")
    address = parse_address(f"triton+tls://far:1?token_file={tmp_path / 'token'}&token_header=triton-grpc-protocol-x")
    assert address.headers() == {"triton-grpc-protocol-x": "other"}
    assert parse_address("triton://127.0.0.1:1,localhost:2,[::1]:3").headers()
    with pytest.raises(UsageError, match="in the clear"):
        parse_address("triton://127.0.0.1:1,far:1").headers()


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"a\nb", b"\xff", "é".encode()])
def test_a_file_that_holds_no_token_is_named_and_not_quoted(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        parse_address(f"triton+tls://far:1?token_file={tmp_path / 'token'}").headers()
    with pytest.raises(UsageError, match="cannot be read"):
        parse_address(f"triton+tls://far:1?token_file={tmp_path / 'none'}").headers()
