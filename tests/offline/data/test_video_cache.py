"""A folder of remote videos among processes that fetch, read, are killed, and have no room left."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from nfs_locks import nfs_locks

from edge_runtime.errors import CacheFailed, OutputFailed, SourceUnavailable
from offline.data import video_cache
from offline.data.places import Remote, Stamp
from offline.data.video_cache import VideoCache

__all__ = ["nfs_locks"]

ROOT = Path(__file__).parents[3]
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


def kept(folder: Path) -> dict[str, int]:
    """Whatever lies there, by the name of the video: how long it is."""
    return {file.name: file.stat().st_size for file in folder.glob("*/*")}


FETCHING = """
import sys, time
from pathlib import Path
from offline.data import video_cache
from offline.data.places import Remote, Stamp

def download(path, target, expected):
    target.write(b"half")
    target.flush()
    print("half", flush=True)
    time.sleep(600)

video_cache.stamp, video_cache.download = lambda _: Stamp(1000, "1"), download
video_cache.VideoCache(Path(sys.argv[1])).held(Remote(f"shelf://videos/{sys.argv[2]}")).__enter__()
"""


class TestLimit:
    """What lies in the folder stays below the limit, whatever others do there and whoever is killed."""

    def test_a_download_counts_whole_from_its_start_and_is_removed_when_it_was_killed(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        cache = VideoCache(tmp_path, limit=3 * SIZE)
        commands = [[sys.executable, "-c", FETCHING, str(tmp_path), name] for name in ("a", "b")]
        others = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for command in commands]
        try:
            for other in others:
                assert other.stdout is not None
                assert other.stdout.readline() == b"half\n"
            for name in ("c", "d"):
                fetch(cache, name)
                assert kept(tmp_path) == dict.fromkeys(("a", "b", name), SIZE)
        finally:
            for other in others:
                other.kill()
                other.communicate()
        # One of those that were killed is asked for again, the other one is not.
        fetch(cache, "a")
        assert kept(tmp_path) == dict.fromkeys("ad", SIZE)

    def test_who_fetches_at_once_makes_room_for_both(
        self, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache, both, seen = VideoCache(tmp_path, limit=2 * SIZE), threading.Barrier(2), []
        fetch(cache, "a")

        def download(path: Remote, target: IO[bytes], expected: Stamp) -> None:
            both.wait(20)
            seen.append(kept(tmp_path))
            both.wait(20)
            shelf.download(path, target, expected)

        monkeypatch.setattr(video_cache, "download", download)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(fetch, [cache] * 2, "bc"))
        assert seen == [dict.fromkeys("bc", SIZE)] * 2
        assert kept(tmp_path) == dict.fromkeys("bc", SIZE)

    def test_it_holds_among_many(self, shelf: Shelf, tmp_path: Path) -> None:
        """No more than three videos are in use at once, so that there is always one to remove."""
        cache = VideoCache(tmp_path, limit=4 * SIZE)

        def use(seed: int) -> None:
            draw = random.Random(seed)
            for _ in range(60):
                name = draw.choice("abcdefgh")
                with cache.held(video(name)) as local:
                    time.sleep(draw.choice((0, 0.001)))
                    with video_cache._making_room(tmp_path):
                        assert sum(kept(tmp_path).values()) <= cache.limit
                    assert local.read_bytes() == Shelf.content(name)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(use, range(3)))
        assert all(size == SIZE for size in kept(tmp_path).values())

    def test_what_is_not_of_the_cache_stays(self, shelf: Shelf, tmp_path: Path) -> None:
        for name in (".git", "films"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"in{name}").write_bytes(bytes(5 * SIZE))
        cache = VideoCache(tmp_path, limit=SIZE)
        for name in "ab":
            fetch(cache, name)
        assert kept(tmp_path).keys() == {"in.git", "infilms", "b"}


class TestUse:
    """Who reads a video hinders nobody else who does."""

    def test_two_read_the_same_at_once(self, shelf: Shelf, tmp_path: Path) -> None:
        cache = VideoCache(tmp_path)
        with cache.held(video("a")) as local, ThreadPoolExecutor(1) as pool:
            pool.submit(fetch, cache, "a").result(20)
            assert local.is_file()
        assert shelf.fetched == ["a"]

    def test_who_waits_for_a_download_that_fails_fetches_itself(
        self, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, cache = threading.Event(), VideoCache(tmp_path)

        def fails(path: Remote, *_: object) -> None:
            begun.set()
            monkeypatch.setattr(video_cache, "download", shelf.download)
            time.sleep(0.2)
            raise SourceUnavailable(f"{path}: gone")

        monkeypatch.setattr(video_cache, "download", fails)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(fetch, cache, "a")
            assert begun.wait(20)
            second = pool.submit(fetch, cache, "a")
            with pytest.raises(SourceUnavailable, match="gone"):
                first.result(20)
            second.result(20)
        assert shelf.fetched == ["a"]

    def test_a_video_that_lost_its_end_is_fetched_again(self, shelf: Shelf, tmp_path: Path) -> None:
        cache = VideoCache(tmp_path)
        with cache.held(video("a")) as local:
            pass
        local.write_bytes(b"")
        fetch(cache, "a")
        assert shelf.fetched == ["a", "a"]


class TestTags:
    """What a store says of a content decides whether it is used again."""

    def test_another_tag_is_another_content(self, shelf: Shelf, tmp_path: Path) -> None:
        for tag in ("1", "1", "2"):
            shelf.tag = tag
            fetch(VideoCache(tmp_path), "a")
        assert shelf.fetched == ["a", "a"]

    def test_without_a_tag_each_use_fetches_anew_and_leaves_nothing(self, shelf: Shelf, tmp_path: Path) -> None:
        shelf.tag, cache = "", VideoCache(tmp_path, limit=2 * SIZE)
        with cache.held(video("a")) as first, cache.held(video("a")) as second:
            assert first != second
            assert first.name == second.name == "a"
            assert sum(file.stat().st_size for file in (first, second)) == 2 * SIZE
        assert shelf.fetched == ["a", "a"]
        assert [file.name for file in tmp_path.iterdir()] == [".room.lock"]
        with pytest.raises(KeyError), cache.held(video("a")):
            raise KeyError
        assert [file.name for file in tmp_path.iterdir()] == [".room.lock"]

    def test_without_a_tag_it_counts_while_it_is_used_and_goes_when_its_user_was_killed(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        cache, held = VideoCache(tmp_path, limit=2 * SIZE), FETCHING.replace('"1"', '""')
        other = subprocess.Popen(
            [sys.executable, "-c", held, str(tmp_path), "a"], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "half\n"
            for name in "bc":
                fetch(cache, name)
            assert kept(tmp_path) == dict.fromkeys("ac", SIZE)
        finally:
            other.kill()
            other.communicate()
        fetch(cache, "d")
        assert kept(tmp_path) == dict.fromkeys("cd", SIZE)
        assert not [file.name for file in tmp_path.iterdir() if "once" in file.name]


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
