"""What is known of a video is found without its file, as long as the bucket says that it is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import Bucket, _moto, bucket

from edge_runtime.errors import SourceUnavailable
from edge_runtime.files import sha256
from offline.data import contents
from offline.data.cache import EntryStore, open_store
from offline.data.contents import sought
from offline.data.dataset import Video
from offline.data.places import Remote, place
from offline.data.video_cache import VideoCache

__all__ = ["_moto", "bucket"]


def video(path: Path, cache: Path) -> Video:
    return Video(name="a.mp4", path=path, label="normal", split="test", cache=VideoCache(cache))


def fetched(bucket: Bucket) -> int:
    return sum(method == "GET" and path.endswith("a.mp4") for method, path in bucket.asked)


def test_a_remote_video_that_is_known_is_not_fetched(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.mp4", b"first" * 100)
    store, known = open_store(place(f"{bucket.url}/features")), {}
    remote = Remote(f"{bucket.url}/a.mp4")
    with sought(video(remote, tmp_path / "one"), store, known.get) as asked:
        assert asked.known is None
        assert asked.content == sha256(asked.path)
        known[asked.content] = "first"
    assert fetched(bucket) == 1
    # Another machine.
    with sought(video(remote, tmp_path / "other"), store, known.get) as asked:
        assert asked.known == "first"
    assert fetched(bucket) == 1
    bucket.put("a.mp4", b"again" * 100)
    with sought(video(remote, tmp_path / "other"), store, known.get) as asked:
        assert asked.known is None
        assert asked.path.read_bytes() == b"again" * 100
    assert fetched(bucket) == 2


def test_what_is_known_of_another_extractor_is_not_enough(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.mp4", b"first" * 100)
    remote, store = Remote(f"{bucket.url}/a.mp4"), EntryStore(tmp_path / "store")
    for _ in range(2):
        with sought(video(remote, tmp_path / "videos"), store, lambda _: None) as asked:
            assert asked.path.read_bytes() == b"first" * 100


def test_what_is_replaced_while_it_is_fetched_is_not_remembered(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a.mp4", b"first" * 100)
    store, remote = open_store(place(f"{bucket.url}/features")), Remote(f"{bucket.url}/a.mp4")
    really = contents.digest

    def replaced(path: Path) -> str:
        bucket.put("a.mp4", b"other" * 100)
        return really(path)

    monkeypatch.setattr(contents, "digest", replaced)
    with sought(video(remote, tmp_path / "one"), store, lambda _: None):
        pass
    monkeypatch.undo()
    for key, value in bucket.environment.items():
        monkeypatch.setenv(key, value)
    bucket.put("a.mp4", b"first" * 100)
    with sought(video(remote, tmp_path / "two"), store, lambda _: None):
        assert fetched(bucket) == 2


def test_a_store_that_may_only_be_read_is_enough(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.mp4", b"first" * 100)
    bucket.refuses.add("PUT")
    store = open_store(place(f"{bucket.url}/features"))
    with sought(video(Remote(f"{bucket.url}/a.mp4"), tmp_path), store, lambda content: content) as asked:
        assert asked.known == asked.content == sha256(asked.path)


def test_a_local_video_is_read_each_time(tmp_path: Path) -> None:
    path, store = tmp_path / "a.mp4", EntryStore(tmp_path / "store")
    path.write_bytes(b"first")
    with sought(video(path, tmp_path), store, lambda content: content) as first:
        pass
    path.write_bytes(b"other")
    with sought(video(path, tmp_path), store, lambda content: content) as second:
        assert second.known == sha256(path) != first.known
    assert not list((tmp_path / "store").iterdir())
    path.unlink()
    with (
        pytest.raises(SourceUnavailable, match=r"a\.mp4: no such video"),
        sought(video(path, tmp_path), store, lambda _: None),
    ):
        pass
