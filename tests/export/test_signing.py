"""A bundle that was signed opens with the key and with no other; only a whole one is signed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from resealed import edit

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.summary import as_dict, as_text
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import BundleRefused, UsageError
from export.signing import make_key, sign_bundle
from offline.cli import cli


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_signed_opened_and_changed_keys(copy: Path, tmp_path: Path) -> None:
    one, other = (make_key(tmp_path / name, name) for name in ("one.key", "other.key"))
    with pytest.raises(BundleRefused, match="bundle: is not signed"):
        Bundle.open(copy, [one])
    assert sign_bundle(copy, tmp_path / "one.key") == [one.id]
    assert Bundle.open(copy, [other, one]).signed_by == (one,)
    assert Bundle.open(copy).signed_by == ()
    with pytest.raises(BundleRefused, match=rf"{one.id}, and none of them is trusted here \({other.id}"):
        Bundle.open(copy, [other])
    # Both sign, the old one is dropped later.
    assert sign_bundle(copy, tmp_path / "other.key") == [one.id, other.id]
    assert sign_bundle(copy, tmp_path / "other.key") == [one.id, other.id]
    for key in (one, other):
        assert Bundle.open(copy, [tmp_path / f"{key.comment}.pub"]).signed_by == (key,)
        assert Bundle.open(copy, [key.line]).signed_by == (key,)
    # One byte of the manifest, even one that says nothing.
    (copy / MANIFEST).write_bytes((copy / MANIFEST).read_bytes() + b"\n")
    assert Bundle.open(copy).signed_by == ()
    with pytest.raises(BundleRefused, match="is wrong"):
        Bundle.open(copy, [one])


def test_nothing_of_a_manifest_is_parsed_that_is_not_signed(copy: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path / "k.key")
    sign_bundle(copy, tmp_path / "k.key")
    (copy / MANIFEST).write_bytes(b"{" * 1000)
    with pytest.raises(BundleRefused, match=rf"manifest\.sig: the signature of key {key.id} is wrong"):
        Bundle.open(copy, [key])
    with pytest.raises(BundleRefused, match="not valid JSON"):
        Bundle.open(copy)


def test_only_a_whole_bundle_is_signed(copy: Path) -> None:
    (copy / "report.html").write_text("")
    with pytest.raises(BundleRefused, match=r"report\.html"):
        sign_bundle(copy, PrivateKey.generate())
    assert not (copy / SIGNATURE).exists()


def test_what_is_no_signature_is_not_replaced(copy: Path) -> None:
    (copy / SIGNATURE).write_text("mine")
    with pytest.raises(BundleRefused, match="the old signatures: is no signature"):
        sign_bundle(copy, PrivateKey.generate())
    assert (copy / SIGNATURE).read_text() == "mine"


def test_without_a_key_or_with_none_in_the_list(copy: Path) -> None:
    with pytest.raises(UsageError, match="no trusted key"):
        Bundle.open(copy, [])


def test_inspect_says_who_signed(copy: Path, tmp_path: Path) -> None:
    assert as_dict(Bundle.open(copy))["signers"] == []
    assert "signed by" not in as_text(Bundle.open(copy))
    one, other = make_key(tmp_path / "one.key", "builder"), PrivateKey.generate()
    sign_bundle(copy, tmp_path / "one.key")
    sign_bundle(copy, other)
    opened = Bundle.open(copy, [one])
    assert as_dict(opened)["signers"] == [
        {"key": one.id, "checked": True, "comment": "builder"},
        {"key": other.public.id, "checked": False, "comment": ""},
    ]
    assert f"{one.id} builder, trusted" in as_text(opened)
    assert f"{other.public.id}, as the signature says; not checked" in as_text(opened)
    (copy / SIGNATURE).unlink()
    os.mkfifo(copy / SIGNATURE)
    assert as_dict(Bundle.open(copy))["signers"] == []


def test_the_commands(copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "keys" / "b.key"
    assert run_command(cli, ["keygen", str(key), "--comment", "vision team"]) == 0
    line = capfd.readouterr().out.strip()
    assert line == (tmp_path / "keys" / "b.key.pub").read_text().strip()
    assert line.endswith(" vision team")
    before = key.read_bytes()
    assert run_command(cli, ["keygen", str(key)]) == 2
    assert "is there already" in capfd.readouterr().err
    assert key.read_bytes() == before
    assert run_command(cli, ["keygen", str(tmp_path / "c.key"), "--comment", "a\nb"]) == 2
    assert "one line" in capfd.readouterr().err
    assert run_command(cli, ["sign", str(copy), "--key", str(key)]) == 0
    assert line[:16] in capfd.readouterr().out
    assert Bundle.open(copy, [line]).signed_by[0].comment == "vision team"
    edit(copy, lambda document: None)
    (copy / "report.html").write_text("x")
    assert run_command(cli, ["sign", str(copy), "--key", str(key)]) == 3
    err = capfd.readouterr().err
    assert err.startswith("error: report.html")
    assert err.count("\n") == 1
