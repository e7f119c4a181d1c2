"""What was verified is what is loaded: a copy that nobody else can write, made once, and anew where it is damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from killed import dies_before

from edge_runtime.bundle import strongroom
from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.signature import BUNDLE, sign
from edge_runtime.bundle.strongroom import Strongroom
from edge_runtime.errors import BundleRefused, OutputFailed, UsageError

KEY, NEXT = PrivateKey.generate("builder"), PrivateKey.generate("next")


def signed(folder: Path, key: PrivateKey = KEY, others: bytes | None = None) -> Path:
    data = (folder / MANIFEST).read_bytes()
    (folder / SIGNATURE).write_text(sign(key, BUNDLE, data, others))
    return folder


@pytest.fixture
def given(bundle_dir: Path, tmp_path: Path) -> Path:
    """A signed bundle as it was copied onto a machine."""
    return signed(Path(shutil.copytree(bundle_dir, tmp_path / "given")))


@pytest.fixture
def room(tmp_path: Path) -> Strongroom:
    return Strongroom(tmp_path / "state" / "bundles", [KEY.public])


def another(given: Path, target: Path, created: str) -> Path:
    shutil.copytree(given, target)
    document = json.loads((target / MANIFEST).read_text()) | {"created": created}
    (target / MANIFEST).write_bytes(seal(document))
    return signed(target)


def copies(room: Strongroom) -> list[str]:
    return sorted(name for name in os.listdir(room.folder) if name != ".lock")


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_it_is_copied_once_for_its_owner_alone(given: Path, room: Strongroom) -> None:
    bundle = room.open(given)
    assert bundle.path == room.folder / bundle.manifest.bundle_id
    assert bundle.signed_by == (KEY.public,)
    for folder in (room.folder, bundle.path):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in bundle.path.iterdir():
        assert path.read_bytes() == (given / path.name).read_bytes()
    first = inodes(bundle.path)
    assert room.open(given) == bundle
    assert Strongroom(room.folder, [KEY.public]).open(given) == bundle
    assert inodes(bundle.path) == first, "it is not copied again"
    assert copies(room) == [bundle.manifest.bundle_id]


def test_what_changes_afterwards_is_not_loaded(given: Path, room: Strongroom) -> None:
    bundle = room.open(given)
    whole = bundle.file("vision.onnx").read_bytes()
    (given / "vision.onnx").write_bytes(b"other")
    assert bundle.file("vision.onnx").read_bytes() == whole
    # The copy is what counts; and a bundle that is not there yet is refused.
    assert room.open(given) == bundle
    with pytest.raises(BundleRefused, match=r"vision\.onnx: size or sha256 differs"):
        Strongroom(room.folder.parent / "fresh", [KEY.public]).open(given)
    assert [name for name in os.listdir(room.folder.parent / "fresh") if name != ".lock"] == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "add", "manifest", "signature"])
def test_a_copy_that_is_damaged_is_made_anew(given: Path, room: Strongroom, damage: str) -> None:
    path = room.open(given).path
    victim = path / {"manifest": MANIFEST, "signature": SIGNATURE}.get(damage, "vision.onnx.data")
    content = victim.read_bytes()
    if damage == "remove":
        victim.unlink()
    elif damage == "add":
        (path / "more").write_text("")
    elif damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    bundle = room.open(given)
    assert {one.name: one.read_bytes() for one in bundle.path.iterdir()} == {
        one.name: one.read_bytes() for one in given.iterdir()
    }
    assert copies(room) == [path.name]


def test_a_copy_that_was_torn_is_cleared(given: Path, room: Strongroom, monkeypatch: pytest.MonkeyPatch) -> None:
    room.open(given)
    torn = room.folder / ".copying-abc"
    torn.mkdir()
    (torn / MANIFEST).write_text("{")
    bundle = room.open(given)
    assert copies(room) == [bundle.path.name]


def test_a_kill_in_the_middle_of_copying_leaves_nothing_that_is_taken(given: Path, room: Strongroom) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edge_runtime.bundle import strongroom as s\n"
        "whole = s._copy_file\n"
        "def half(root, work, entry):\n"
        "    whole(root, work, entry)\n"
        "    if entry.path == 'scorer.onnx': os._exit(9)\n"
        "s._copy_file = half\n"
        "s.Strongroom(Path(sys.argv[1]), [sys.argv[2]]).open(sys.argv[3])\n"
    )
    command = [sys.executable, "-c", code, str(room.folder), KEY.public.line, str(given)]
    assert subprocess.run(command, check=False).returncode == 9
    assert [name.startswith(".copying-") for name in copies(room)] == [True]
    bundle = room.open(given)
    assert copies(room) == [bundle.path.name]


def test_keys_can_be_changed_without_copying(given: Path, room: Strongroom) -> None:
    bundle = room.open(given)
    first = inodes(bundle.path)
    signed(given, NEXT, (given / SIGNATURE).read_bytes())
    later = Strongroom(room.folder, [NEXT.public]).open(given)
    assert later.signed_by == (NEXT.public,)
    assert {name for name, inode in inodes(later.path).items() if first.get(name) != inode} == {SIGNATURE}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_the_signature_changes_costs_no_copy(given: Path, room: Strongroom) -> None:
    copy = room.open(given).path
    first = inodes(copy)
    old = (given / SIGNATURE).read_bytes()
    step, killed = 0, True
    while killed:
        step += 1
        (copy / SIGNATURE).write_bytes(old)
        signed(given, NEXT, old)
        killed = dies_before(step, lambda: Strongroom(room.folder, [KEY.public]).open(given))
        assert Bundle.open(copy, [KEY.public])
        later = Strongroom(room.folder, [NEXT.public]).open(given)
        assert {name for name, inode in inodes(later.path).items() if first.get(name) != inode} <= {SIGNATURE}
        assert copies(room) == [copy.name]
    assert step > 4


def test_what_is_not_signed_is_not_even_copied(given: Path, room: Strongroom) -> None:
    (given / SIGNATURE).unlink()
    with pytest.raises(BundleRefused, match="is not signed"):
        room.open(given)
    signed(given, NEXT)
    with pytest.raises(BundleRefused, match="none of them is trusted"):
        room.open(given)
    assert not room.folder.exists()


def test_links_and_pipes_are_not_followed(given: Path, room: Strongroom) -> None:
    content = given / "report.html"
    content.rename(given.parent / "elsewhere")
    content.symlink_to(given.parent / "elsewhere")
    with pytest.raises(BundleRefused, match=r"report\.html: cannot be read"):
        room.open(given)
    content.unlink()
    os.mkfifo(content)
    with pytest.raises(BundleRefused, match=r"report\.html: is not a regular file"):
        room.open(given)


def test_a_disk_that_is_full_is_told_in_one_line(
    given: Path, room: Strongroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strongroom, "free_space", lambda path: 1000)
    with pytest.raises(OutputFailed, match=r"takes .* MiB, .* are free; free some space"):
        room.open(given)
    monkeypatch.undo()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(strongroom.os, "fsync", full)
    with pytest.raises(OutputFailed, match=r"cannot be kept there \(No space left on device\)") as caught:
        room.open(given)
    assert str(caught.value).isprintable()
    monkeypatch.undo()
    assert copies(room) == []


def test_a_folder_that_others_could_write_is_closed_or_refused(given: Path, room: Strongroom) -> None:
    room.folder.mkdir(parents=True)
    room.folder.chmod(0o777)
    room.open(given)
    assert stat.S_IMODE(room.folder.stat().st_mode) == 0o700
    room.folder.parent.chmod(0o777)
    with pytest.raises(UsageError, match="everybody can write there"):
        room.open(given)
    room.folder.parent.chmod(0o755)
    elsewhere = room.folder.rename(room.folder.parent / "elsewhere")
    room.folder.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is no folder"):
        room.open(given)


def test_old_bundles_make_room_but_for_those_in_use(given: Path, room: Strongroom, tmp_path: Path) -> None:
    used = room.open(given)
    other = Strongroom(room.folder, [KEY.public])
    opened = []
    for number in range(4):
        bundle = other.open(another(given, tmp_path / f"b{number}", f"2026-01-0{number + 1}T00:00:00Z"))
        os.utime(bundle.path, ns=(number, number))
        opened.append(bundle.path.name)
        other.close()
    # Those that somebody held when the last one came, and the newest two of the others.
    assert copies(room) == sorted([used.path.name, *opened[-3:]])
    assert Bundle.open(used.path) == Bundle(used.path, used.manifest)
