"""A folder of remote videos among processes that fetch, read, are killed, and have no room left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

import pytest
from nfs_locks import nfs_locks

from edge_runtime.errors import CacheFailed, OutputFailed, SourceUnavailable
from offline.data import video_cache
from offline.data.places import Remote, Stamp
from offline.data.video_cache import VideoCache

__all__ = ["nfs_locks"]

SIZE = 1000


class Shelf:
    """What stands in for a bucket: any name is a video of SIZE bytes, the name over and over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tag = "1"
        self.fetched: list[str] = []
        monkeypatch.setattr(video_cache, "stamp", lambda _: Stamp(SIZE, self.tag))
        monkeypatch.setattr(video_cache, "download", self.download)

    @staticmethod
    def content(name: str) -> bytes:
        return (name.encode() * SIZE)[:SIZE]

    def download(self, path: Remote, target: IO[bytes], _expected: Stamp) -> None:
        self.fetched.append(path.name)
        target.write(self.content(path.name))


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(monkeypatch)


def video(name: str) -> Remote:
    return Remote(f"shelf://videos/{name}")


def fetch(cache: VideoCache, name: str) -> None:
    with cache.held(video(name)) as local:
        assert local.read_bytes() == Shelf.content(name)


class TestErrors:
    """A folder that cannot be written says nothing against the video."""

    def test_a_full_disk_is_no_unreadable_video(
        self, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(video_cache, "download", full)
        with pytest.raises(CacheFailed, match=r"a: cannot be kept in .*\(No space left on device\).*--video-cache"):
            fetch(VideoCache(tmp_path), "a")
        assert issubclass(CacheFailed, OutputFailed)
        assert not issubclass(CacheFailed, SourceUnavailable)

    def test_a_folder_that_cannot_be_made(self, shelf: Shelf, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CacheFailed, match=r"cannot be kept in .*file/videos \(Not a directory\)"):
            fetch(VideoCache(tmp_path / "file" / "videos"), "a")
        assert not shelf.fetched


@pytest.mark.usefixtures("nfs_locks")
def test_a_folder_on_nfs(shelf: Shelf, tmp_path: Path) -> None:
    cache = VideoCache(tmp_path, limit=SIZE)
    for name in "aab":
        fetch(cache, name)
    assert shelf.fetched == ["a", "b"]
    assert [file.name for file in tmp_path.glob("*/*")] == ["b"]
