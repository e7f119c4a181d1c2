"""A file is whole or as it was before, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import stat
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed
from edge_runtime.files import make_folder, printable, shown_path, write_atomic


@pytest.mark.parametrize("write", [b"new", lambda file: file.write(b"new")], ids=["bytes", "function"])
def test_the_new_content_replaces_the_old(tmp_path, write):
    path = tmp_path / "store.npz"
    for _ in range(2):
        write_atomic(path, write)
        assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.npz"]


def fill_the_disk(file):
    file.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def be_interrupted(file):
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("write", "error"), [(fill_the_disk, OutputFailed), (be_interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failure_leaves_what_was_there(tmp_path, write, error, before):
    path = tmp_path / "store.npz"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error):
        write_atomic(path, write)
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_a_full_disk_at_the_sync_or_the_rename_names_the_path(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, owner in [("fsync", os), ("replace", Path)]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(OutputFailed, match=r"store\.npz: cannot be written \(No space left"):
                write_atomic(tmp_path / "store.npz", b"new")
        assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_in_the_way(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "none" / "file", tmp_path / "taken"):
        with pytest.raises(OutputFailed, match=path.name):
            write_atomic(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(tmp_path, monkeypatch, mask):
    before = os.umask(mask)
    try:
        with monkeypatch.context() as patch:
            # Setting it even for a moment would open the files of other threads to everyone.
            patch.setattr(os, "umask", lambda _: pytest.fail("the umask is the process's"))
            write_atomic(tmp_path / "file", b"")
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")}
    assert modes == {0o666 & ~mask}


def test_many_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "file"
    threads = [threading.Thread(target=write_atomic, args=(path, bytes([n]) * 50_000)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 50_000
    assert len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_make_folder(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputFailed, match="cannot be created"):
            make_folder(path)


def test_a_device_stays_a_device(tmp_path):
    # A device node of its own: if this breaks, it must not break /dev/full.
    full = tmp_path / "full"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        full.open("wb").close()
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")
    with pytest.raises(OutputFailed, match="No space left"):
        write_atomic(full, b"new")
    assert full.is_char_device()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "hunt.json").symlink_to(tmp_path / "real" / "hunt.json")
    for content in (b"first", b"second"):
        write_atomic(tmp_path / "hunt.json", content)
    assert (tmp_path / "hunt.json").is_symlink()
    assert (tmp_path / "real" / "hunt.json").read_bytes() == b"second"
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["hunt.json"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Größe, 監視, é, 🚨 — “quoted” ~\\", "Größe, 監視, é, 🚨 — “quoted” ~\\"),
        ("a\u00a0b\u3000c", "a\\xa0b\\u3000c"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\rtwo\nthree\ttab", "one\\rtwo\\nthree\\ttab"),
        ("\x7f\x9b2J", "\\x7f\\x9b2J"),
        ("gate\u202egpj.exe", "gate\\u202egpj.exe"),
        ("\u2028\u2029\u200b\ufeff", "\\u2028\\u2029\\u200b\\ufeff"),
        ("caf\udce9", "caf\\udce9"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_text_that_a_terminal_only_shows(text, shown):
    assert printable(text) == shown
    assert shown_path(Path(text)) == shown


@given(st.text(st.characters()))
def test_no_text_gets_a_terminal_to_act(text):
    shown = printable(text)
    assert all(unicodedata.category(one)[0] != "C" for one in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown) == shown
    kept = [one for one in text if one.isprintable()]
    assert [one for one in shown if one in kept] != [] or not kept
