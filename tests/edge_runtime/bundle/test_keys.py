"""Keys are made once, read back as they were, and never weak, never readable by others, never overwritten."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_runtime.bundle.keys import (
    PrivateKey,
    PublicKey,
    device_key,
    is_key_line,
    read_private,
    trusted_keys,
    write_key_pair,
)
from edge_runtime.errors import MissingExtra, OutputFailed, UsageError

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_it_is_ed25519_as_the_standard_says() -> None:
    key = PrivateKey(SEED)
    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert PublicKey(PUBLIC).verifies(SIGNATURE, b"\x72")
    assert not PublicKey(PUBLIC).verifies(SIGNATURE, b"\x73")
    assert not PublicKey(PUBLIC).verifies(SIGNATURE[:-1], b"\x72")


@given(st.binary(min_size=32, max_size=32), st.text("abc :#,=", max_size=30))
def test_a_line_is_read_back(raw: bytes, comment: str) -> None:
    assume(any(raw[1:31]))  # of small order
    key = PublicKey(raw, comment)
    read = PublicKey.parse(f"  {key.line}\n")
    assert read == key
    assert read.comment == comment.strip(" \t")
    assert is_key_line(key.line)


@given(st.integers(0, 61), st.sampled_from("0123456789abcdefABCXYZ+/= \t"))
def test_a_line_with_one_character_changed_is_no_key_or_the_same(place: int, put: str) -> None:
    line = PublicKey(PUBLIC).line
    changed = line[:place] + put + line[place + 1 :]
    try:
        assert PublicKey.parse(changed).raw == PUBLIC
    except ValueError:
        assert changed != line


def small_order() -> list[bytes]:
    """Every encoding of a point of small order, computed here: y with eight times the point the neutral one."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def x_of(y: int) -> int | None:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        if (x * x - square) % p:
            x = x * pow(2, (p - 1) // 4, p) % p
        return None if (x * x - square) % p else x

    def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = one, other
        k = d * x1 * x2 * y1 * y2 % p
        x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, p) % p
        return x, (y1 * y2 + x1 * x2) * pow(1 - k, -1, p) % p

    # Any point times the order of the large subgroup is of small order; these ones and their multiples are all.
    order = 2**252 + 27742317777372353535851937790883648493
    found = {0, 1}
    for y in range(2, 40):
        if (x := x_of(y)) is None:
            continue
        total, doubled, left = (0, 1), (x, y), order
        while left:
            total = added(total, doubled) if left & 1 else total
            doubled, left = added(doubled, doubled), left >> 1
        found.add(total[1])
    assert len(found) == 5
    whole = {y for one in found for y in (one, one + p) if y < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(whole) for sign in (0, 1)]


def test_keys_with_which_anybody_can_sign_are_refused() -> None:
    weak = small_order()
    assert bytes(32) in weak
    for raw in weak:
        with pytest.raises(ValueError, match="anybody can sign"):
            PublicKey(raw)


def test_a_pair_is_written_for_its_owner_and_read_back(tmp_path: Path) -> None:
    key = PrivateKey.generate("vision team, 2026")
    public = write_key_pair(tmp_path / "k.key", key)
    assert stat.S_IMODE((tmp_path / "k.key").stat().st_mode) == 0o600
    assert public == tmp_path / "k.key.pub"
    assert public.read_text() == f"{key.public.line}\n"
    read = read_private(tmp_path / "k.key")
    assert (read.public, read.public.comment) == (key.public, "vision team, 2026")
    assert read.sign(b"x") == key.sign(b"x")
    assert trusted_keys([public]) == (key.public,)
    assert "PRIVATE KEY" in (tmp_path / "k.key").read_text()
    assert sorted(os.listdir(tmp_path)) == ["k.key", "k.key.pub"]


@pytest.mark.parametrize("there", ["k.key", "k.key.pub"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).symlink_to("nowhere")
    with pytest.raises(UsageError, match="never overwritten"):
        write_key_pair(tmp_path / "k.key", PrivateKey.generate())
    assert os.listdir(tmp_path) == [there]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match=r"k\.key\.pub: cannot be written"):
        write_key_pair(tmp_path / "none" / "k.key", PrivateKey.generate())


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_key_pair(tmp_path / "k.key", PrivateKey.generate())
    (tmp_path / "k.key").chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_private(tmp_path / "k.key")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ed25519 private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no ed25519 private key"),
        (b"x" * 70_000, "more than"),
        (b"\xff\xfe\0", "no ed25519 private key"),
    ],
)
def test_what_is_no_private_key_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "k.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=words) as caught:
        read_private(path)
    assert str(caught.value).isprintable()


def test_keys_of_another_kind_and_encrypted_ones_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    path = tmp_path / "k.key"
    plain, kind = forms.NoEncryption(), forms.PrivateFormat.PKCS8
    path.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(forms.Encoding.PEM, kind, plain))
    path.chmod(0o600)
    with pytest.raises(UsageError, match="no ed25519"):
        read_private(path)
    locked = forms.BestAvailableEncryption(b"secret")
    path.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(forms.Encoding.PEM, kind, locked))
    with pytest.raises(UsageError, match="is encrypted"):
        read_private(path)


def test_trusted_keys_are_lines_files_and_keys_each_once(tmp_path: Path) -> None:
    one, other = PrivateKey.generate("one").public, PrivateKey.generate("other").public
    path = tmp_path / "trusted"
    path.write_text(f"# those of the house\n\n{one.line}\n{other.line}\n")
    assert trusted_keys([one.line, path, str(path), other]) == (one, other)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no public key"),
        (b"# nothing\n", "holds no public key"),
        (b"\xff\xfe", "line 1: a public key is a line of"),
        (b"0123456789abcdef " + base64.b64encode(PUBLIC), "line 1: the key's id is"),
        (b"0123456789abcdef " + base64.b64encode(bytes(32)), "anybody can sign"),
    ],
)
def test_a_file_without_keys_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "k.pub").write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        trusted_keys([tmp_path / "k.pub"])
    assert str(caught.value).isprintable()


def test_no_key_at_all_trusts_nobody() -> None:
    with pytest.raises(UsageError, match="no trusted key is named"):
        trusted_keys([])


@pytest.mark.parametrize("name", ["none.pub", "a\0b", ".", "x" * 300])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        trusted_keys([str(tmp_path / name)])
    assert str(caught.value).isprintable()


def test_a_private_key_where_a_public_one_is_wanted_is_told_as_such(tmp_path: Path) -> None:
    write_key_pair(tmp_path / "k.key", PrivateKey.generate())
    with pytest.raises(UsageError, match=r"belongs on no other machine; name the file k\.key\.pub"):
        trusted_keys([tmp_path / "k.key"])


def test_a_device_has_one_key_however_many_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: device_key(tmp_path / "state").public, range(8)))
    assert len(set(keys)) == 1
    assert device_key(tmp_path / "state").public == keys[0]
    assert os.listdir(tmp_path / "state") == ["device.key"]


def test_no_repr_shows_a_private_key() -> None:
    key = PrivateKey(SEED)
    assert repr(key) == f"PrivateKey({key.public.id})"


def test_without_cryptography_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(MissingExtra, match=r'pip install "headhunt-edge\[sign\]"'):
        PrivateKey.generate()
    with pytest.raises(MissingExtra):
        PublicKey(PUBLIC).verifies(SIGNATURE, b"\x72")


def test_cryptography_is_loaded_only_where_something_is_signed_or_checked() -> None:
    code = "import sys, edge_runtime, edge_runtime.bundle.strongroom; print('cryptography' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
