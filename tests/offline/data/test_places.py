"""Videos and features on a real S3 server: the same entries as on the disk, and one line for whatever goes wrong."""

from __future__ import annotations

import ftplib
import hashlib
import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ftp_server import PASSWORD, USER, Ftp, ftp
from hypothesis import given
from hypothesis import strategies as st
from s3_server import Bucket, _moto, bucket

from edge_runtime.errors import DatasetError, OutputFailed, SourceUnavailable, SourceUnreachable, UsageError
from offline.data import places
from offline.data.cache import EntryStore, open_store
from offline.data.dataset import Video, read_dataset
from offline.data.places import Remote, Stamp, download, place, read_bytes, remove, stamp, write_file
from offline.data.video_cache import VideoCache

__all__ = ["_moto", "bucket", "ftp"]

ROOT = Path(__file__).parents[3]
WORDS = st.text("abcxyz0189-_. ", min_size=1, max_size=8).filter(lambda word: word.strip(".") == word)


class TestPaths:
    """What a person writes, as a path."""

    @given(st.lists(WORDS, min_size=1, max_size=4))
    def test_a_remote_path_is_a_path_by_its_parts_and_a_url_as_text(self, words: list[str]) -> None:
        url = "s3://bucket/" + "/".join(words)
        path = place(url)
        assert isinstance(path, Remote)
        assert str(path) == os.fspath(path) == path.as_posix() == f"{path}" == url
        assert path.name == words[-1]
        assert str(path.parent / words[-1]) == url
        assert str(path.with_name("other")) == url[: -len(words[-1])] + "other"
        assert place(str(path)) == path
        assert str(pickle.loads(pickle.dumps(path))) == url

    @given(st.lists(WORDS, min_size=1, max_size=4), st.booleans())
    def test_local_paths_stay_as_they_are(self, words: list[str], absolute: bool) -> None:
        text = ("/" if absolute else "") + "/".join(words)
        assert type(place(text)) is type(Path())
        assert place(text) == Path(text)
        if absolute:
            assert place(f"file://{text}") == Path(text)

    @pytest.mark.parametrize("url", ["ftp://me:secret@host/a", "ftp://me:sec/ret@host/a", "https://me:12@host:1/a"])
    def test_a_password_in_an_address_is_refused_and_not_repeated(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"://…@host.*: a password in an address .* set FSSPEC_\w+") as refused:
            place(url)
        assert not any(word in str(refused.value) for word in ("sec", "ret", "me:", "12@"))
        (tmp_path / "data.csv").write_text(f"path,label,split,events,frames\n{url},normal,test,,\n")
        with pytest.raises(DatasetError, match=r"data\.csv:2: .*a password in an address"):
            read_dataset(tmp_path / "data.csv", VideoCache(tmp_path))

    @pytest.mark.parametrize(
        "url",
        [
            "https://host:8080/a@b.mp4",
            "http://[::1]:80/a@b",
            "abfs://container@account.dfs.core.windows.net/a",
            "s3://bucket/a:b@c.mp4",
            "ftp://me@host:21/a",
        ],
    )
    def test_an_at_sign_is_not_always_a_password(self, url: str) -> None:
        assert str(place(url)) == url


class TestStore:
    """A feature store in a bucket."""

    def test_entries_are_those_of_a_local_store(self, bucket: Bucket, tmp_path: Path) -> None:
        local, remote = EntryStore(tmp_path / "store"), open_store(place(f"{bucket.url}/store"))
        entry = {"features": np.arange(12, dtype=np.float32).reshape(3, 4), "frames": np.array(7)}
        assert remote.get("a" * 32) is None
        for store in (local, remote):
            store.put("a" * 32, entry)
            found = store.get("a" * 32)
            assert found is not None
            assert found.keys() == entry.keys()
            for name, values in entry.items():
                np.testing.assert_array_equal(found[name], values)
        assert bucket.get(f"store/{'a' * 32}.npz") == (tmp_path / "store" / f"{'a' * 32}.npz").read_bytes()

    def test_a_damaged_entry_is_none(self, bucket: Bucket) -> None:
        store = open_store(place(f"{bucket.url}/store"))
        store.put("b" * 32, {"x": np.zeros(1000)})
        whole = bucket.get(f"store/{'b' * 32}.npz")
        bucket.put(f"store/{'b' * 32}.npz", whole[: len(whole) // 2])
        assert store.get("b" * 32) is None

    def test_a_bucket_that_refuses_is_no_empty_one(self, bucket: Bucket) -> None:
        store = open_store(place(f"{bucket.url}/store"))
        store.put("c" * 32, {"x": np.zeros(3)})
        bucket.refuses.add("GET")
        with pytest.raises(OutputFailed, match=r"s3://.*npz: cannot be read \(access denied"):
            store.get("c" * 32)

    def test_a_bucket_that_becomes_read_only_keeps_what_it_has(self, bucket: Bucket) -> None:
        store = open_store(place(f"{bucket.url}/store"))
        store.put("d" * 32, {"x": np.zeros(3)})
        bucket.refuses.add("PUT")
        begun = time.monotonic()
        with pytest.raises(OutputFailed, match=r"s3://.*npz: cannot be written \(access denied"):
            store.put("e" * 32, {"x": np.zeros(3)})
        assert time.monotonic() - begun < 20
        assert bucket.names() == {f"store/{'d' * 32}.npz"}
        assert store.get("d" * 32) is not None

    def test_files_are_written_and_removed_anywhere(self, bucket: Bucket, tmp_path: Path) -> None:
        for path in (place(f"{bucket.url}/x/index.json"), tmp_path / "index.json"):
            write_file(path, b"{}")
            assert (read_bytes(path) if isinstance(path, Remote) else path.read_bytes()) == b"{}"
            remove(path)
            remove(path)
        assert bucket.names() == set()

    def test_a_file_is_written_again_where_nothing_takes_the_name_of_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = __import__("fsspec").filesystem("memory")
        move = memory.mv

        def over_nothing(old: str, new: str) -> None:
            if not memory.exists(new):
                move(old, new)

        monkeypatch.setattr(memory, "mv", over_nothing)
        monkeypatch.setattr(places, "_NOTHING_OVER", {"memory"})
        path = Remote("memory://again/index.json")
        for content in (b"first", b"again"):
            write_file(path, content)
            assert read_bytes(path) == content
        assert [file["name"] for file in memory.ls("/again", detail=True)] == ["/again/index.json"]

    def test_nobody_there_is_one_line_within_a_deadline(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        __import__("s3fs").S3FileSystem.clear_instance_cache()
        begun = time.monotonic()
        with pytest.raises(SourceUnreachable, match=r"cannot be read \(.*check the address and the network"):
            read_bytes(Remote(f"{bucket.url}/x"))
        assert time.monotonic() - begun < 60


def video(bucket: Bucket, name: str, size: int) -> tuple[Remote, bytes]:
    content = os.urandom(size)
    bucket.put(name, content)
    return Remote(f"{bucket.url}/{name}"), content


class TestVideos:
    """Remote videos, fetched to the disk."""

    def test_they_are_the_same_to_the_byte_and_fetched_once(self, bucket: Bucket, tmp_path: Path) -> None:
        path, content = video(bucket, "clips/a b.mp4", 9_000_000)
        cache = VideoCache(tmp_path)
        for _ in range(2):
            with cache.held(path) as local:
                assert local.name == "a b.mp4"
                assert hashlib.sha256(local.read_bytes()).digest() == hashlib.sha256(content).digest()
            bucket.refuses.add("GET")

    def test_another_content_under_the_same_name_is_fetched(self, bucket: Bucket, tmp_path: Path) -> None:
        for _ in range(2):
            path, content = video(bucket, "a.mp4", 1000)
            with VideoCache(tmp_path).held(path) as local:
                assert local.read_bytes() == content

    def test_the_limit_holds_and_the_longest_unused_goes_first(self, bucket: Bucket, tmp_path: Path) -> None:
        paths = [video(bucket, f"{name}.mp4", 1000)[0] for name in "abcd"]
        cache = VideoCache(tmp_path, limit=2500)

        def held() -> set[str]:
            return {file.stem for file in tmp_path.glob("*/*.mp4")}

        for number, path in enumerate(paths[:2]):
            with cache.held(path) as local:
                pass
            os.utime(local.parent, (number, number))
        with cache.held(paths[0]), cache.held(paths[2]):
            # b goes, although a was fetched before it: a is in use.
            assert held() == {"a", "c"}
            # Both are in use: the limit waits.
            with cache.held(paths[3]):
                assert held() == {"a", "c", "d"}
        with pytest.raises(SourceUnavailable, match=r"more than the video cache may hold .*--video-cache-gib"):
            VideoCache(tmp_path, limit=999).held(paths[0]).__enter__()

    def test_half_a_file_is_none(self, bucket: Bucket, tmp_path: Path) -> None:
        path, _ = video(bucket, "a.mp4", 300_000)
        bucket.halves = True
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"s3://.*a\.mp4: "), VideoCache(tmp_path).held(path):
            pass
        assert time.monotonic() - begun < 60
        assert not list(tmp_path.glob("**/*.mp4"))

    def test_no_more_is_written_than_there_was_to_come(self) -> None:
        path, whole = Remote("memory://a.mp4"), io.BytesIO()
        write_file(path, bytes(10_000))
        for size in (9_999, 10_001):
            kept = io.BytesIO()
            with pytest.raises(SourceUnavailable, match=rf"(more than|10000 of) its {size} bytes arrived"):
                download(path, kept, Stamp(size, ""))
            assert len(kept.getvalue()) <= size
        download(path, whole, stamp(path))
        assert whole.getvalue() == bytes(10_000)

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_a_bucket_that_refuses_is_one_line(self, bucket: Bucket, tmp_path: Path, method: str) -> None:
        path, _ = video(bucket, "a.mp4", 1000)
        bucket.refuses |= {method, "GET"}
        # Also a token that has expired in the night: no video is left out for it.
        with pytest.raises(SourceUnreachable, match=r"a\.mp4: cannot be read \(access denied"):
            VideoCache(tmp_path).held(path).__enter__()

    def test_a_missing_one_is_named(self, bucket: Bucket, tmp_path: Path) -> None:
        with pytest.raises(SourceUnavailable, match=r"s3://.*/none\.mp4: no such file") as missing:
            VideoCache(tmp_path).held(Remote(f"{bucket.url}/none.mp4")).__enter__()
        assert not isinstance(missing.value, SourceUnreachable)


class _Film(BaseHTTPRequestHandler):
    """A web server with one film, which says of it what it is told to."""

    content = b""
    status = 200
    said: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in {"Content-Length": str(len(self.content)), **self.said}.items():
            if value != "none":
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def film() -> Iterator[tuple[type[_Film], Remote]]:
    """What to set, and where it is."""
    handler = type("Film", (_Film,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, Remote(f"http://127.0.0.1:{server.server_address[1]}/a.mp4")
        server.shutdown()


class TestWeb:
    """Files of a web server that gives no pieces and knows no object store's words."""

    def test_they_come_whole(self, film: tuple[type[_Film], Remote], tmp_path: Path) -> None:
        handler, path = film
        handler.content = os.urandom(9_000_001)
        with VideoCache(tmp_path).held(path) as local:
            assert local.read_bytes() == handler.content
        assert read_bytes(path) == handler.content

    def test_what_breaks_off_is_no_video(self, film: tuple[type[_Film], Remote], tmp_path: Path) -> None:
        handler, path = film
        handler.content, handler.said = bytes(5000), {"Content-Length": "6000"}
        with pytest.raises(SourceUnavailable, match=r"http://.*a\.mp4: "), VideoCache(tmp_path).held(path):
            pass
        assert not list(tmp_path.glob("*/*"))

    @pytest.mark.parametrize(("status", "of_the_file"), [(404, True), (410, True), (403, False), (503, False)])
    def test_what_a_server_says_of_itself_says_nothing_of_the_file(
        self, film: tuple[type[_Film], Remote], tmp_path: Path, status: int, of_the_file: bool
    ) -> None:
        """A video that is not there may be left out; one that cannot be had for the moment may not."""
        handler, path = film
        handler.status = status
        with pytest.raises(SourceUnavailable, match=r"http://.*a\.mp4: ") as refused:
            VideoCache(tmp_path).held(path).__enter__()
        assert isinstance(refused.value, SourceUnreachable) is not of_the_file

    def test_a_server_that_is_not_there_is_no_missing_file(self) -> None:
        with pytest.raises(SourceUnreachable, match=r"a\.mp4: cannot be read \(.*check the address and the network"):
            stamp(Remote("http://127.0.0.1:9/a.mp4"))

    def test_what_does_not_say_its_length_is_one_line(self, film: tuple[type[_Film], Remote]) -> None:
        handler, path = film
        handler.said = {"Content-Length": "none"}
        with pytest.raises(SourceUnavailable, match=r"a\.mp4: (its server does not say how long|cannot be read)"):
            stamp(path)


class TestHosts:
    """Addresses that name a host, on a real FTP server."""

    @pytest.fixture
    def own(self, ftp: Ftp, monkeypatch: pytest.MonkeyPatch) -> str:
        """The address of who may write; the password is where fsspec looks for it."""
        monkeypatch.setitem(__import__("fsspec").config.conf, "ftp", {"password": PASSWORD})
        return f"ftp://{USER}@{ftp.address}"

    def test_videos_are_fetched(self, ftp: Ftp, tmp_path: Path) -> None:
        content = os.urandom(9_000_001)
        (ftp.folder / "clips").mkdir()
        (ftp.folder / "clips" / "a b.mp4").write_bytes(content)
        path = place(f"ftp://{ftp.address}/clips/a b.mp4")
        assert isinstance(path, Remote)
        for _ in range(2):
            with VideoCache(tmp_path / "videos").held(path) as local:
                assert local.read_bytes() == content
        assert len(list((tmp_path / "videos").glob("*/*"))) == 1

    def test_a_store_keeps_entries(self, own: str, ftp: Ftp) -> None:
        store, entry = open_store(place(f"{own}/far/store")), {"x": np.arange(100_000)}
        assert store.get("a" * 32) is None
        for _ in range(2):
            store.put("a" * 32, entry)
        found = store.get("a" * 32)
        assert found is not None
        np.testing.assert_array_equal(found["x"], entry["x"])
        assert [file.name for file in (ftp.folder / "far" / "store").iterdir()] == [f"{'a' * 32}.npz"]
        for _ in range(2):
            remove(place(f"{own}/far/store/{'a' * 32}.npz"))
        assert not list((ftp.folder / "far" / "store").iterdir())

    def test_who_may_not_is_told(self, own: str, ftp: Ftp, monkeypatch: pytest.MonkeyPatch) -> None:
        (ftp.folder / "index.json").write_bytes(b"{}")
        path = Remote(f"ftp://{ftp.address}/index.json")
        monkeypatch.setitem(__import__("fsspec").config.conf, "ftp", {})
        for refused in (lambda: write_file(path, b"x"), lambda: remove(path)):
            with pytest.raises(OutputFailed, match=r"index\.json: cannot be \w+ \(access denied: 550 "):
                refused()
        with pytest.raises(OutputFailed, match=r"index\.json: cannot be written \(access denied: 530 "):
            write_file(Remote(f"{own}/index.json"), b"x")
        assert (ftp.folder / "index.json").read_bytes() == b"{}"

    def test_what_a_server_cannot_give_now_is_no_missing_entry(
        self, ftp: Ftp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(*_: object, **__: object) -> None:
            raise ftplib.error_temp("450 busy")

        assert read_bytes(Remote(f"ftp://{ftp.address}/none/a")) is None
        monkeypatch.setattr(ftplib.FTP, "retrbinary", busy)
        with pytest.raises(SourceUnavailable, match=r"cannot be read \(error_temp: 450 busy\)"):
            read_bytes(Remote(f"ftp://{ftp.address}/a"))

    def test_a_wrong_address_is_one_line(self) -> None:
        """Also where Python throws away what had not become a connection."""
        wrong = ["ftp://127.0.0.1:9/a", "ftp://127.0.0.1:nine/a", "ftp://none.invalid/a", "ftp:///a", "nope://a/b"]
        done = subprocess.run(
            [sys.executable, "-c", WRONG, *wrong], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
        )
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert len(lines) == len(wrong)
        assert all(line.startswith(url.replace(":///", "://")) for line, url in zip(lines, wrong, strict=True))

    def test_deadlines_and_instances(self, bucket: Bucket) -> None:
        """Connections to object stores and web servers are kept, and what somebody told fsspec holds."""
        system, name = places._reach(Remote(f"{bucket.url}/x/a::b.mp4"))
        assert name == f"{bucket.url.removeprefix('s3://')}/x/a::b.mp4"
        assert system.config_kwargs["connect_timeout"] < 60
        assert places._reach(Remote(f"{bucket.url}/y"))[0] is system
        web, name = places._reach(Remote("http://host/a::b?c=1"))
        assert name == "http://host/a::b?c=1"
        assert places._reach(Remote("http://other/b"))[0] is web
        told = {"client_kwargs": {"trust_env": True}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(__import__("fsspec").config.conf, "http", told)
            kept = places._reach(Remote("http://host/a"))[0].client_kwargs
        assert kept == {"trust_env": True, "timeout": web.client_kwargs["timeout"]}


WRONG = """
import sys
from edge_runtime.errors import HeadHuntError
from offline.data.places import place, stamp
for url in sys.argv[1:]:
    try:
        stamp(place(url))
    except HeadHuntError as error:
        print(error)
"""


class TestReplaced:
    """A content of the same length under the same address is another one, whatever a store says of it."""

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ({"ETag": '"1"'}, {"ETag": '"2"'}),
            ({"Content-MD5": "YQ=="}, {"Content-MD5": "Yg=="}),
            ({"Last-Modified": "Mon, 30 Nov 2026 06:00:00 GMT"}, {"Last-Modified": "Mon, 30 Nov 2026 06:00:01 GMT"}),
            ({}, {}),
        ],
        ids=["ETag", "Content-MD5", "Last-Modified", "nothing"],
    )
    def test_on_a_web_server(
        self, film: tuple[type[_Film], Remote], tmp_path: Path, first: dict[str, str], then: dict[str, str]
    ) -> None:
        handler, path = film
        for content, said in ((b"first", first), (b"again", then)):
            handler.content, handler.said = content, said
            assert bool(stamp(path).tag) == bool(said)
            with VideoCache(tmp_path).held(path) as local:
                assert local.read_bytes() == content
        assert len(list(tmp_path.glob("*/*"))) == (2 if first else 0)

    def test_in_memory(self, tmp_path: Path) -> None:
        path = Remote("memory://replaced/a.mp4")
        for content in (b"first", b"again"):
            write_file(path, content)
            with VideoCache(tmp_path).held(path) as local:
                assert local.read_bytes() == content

    @pytest.mark.parametrize(
        ("found", "tag"),
        [
            ({"mtime": datetime(2026, 1, 2, tzinfo=UTC)}, "2026-01-02 00:00:00+00:00"),
            ({"last_modified": datetime(2026, 1, 2, tzinfo=UTC), "etag": "0x8"}, "0x8"),
            ({"modificationTime": 1767312000000}, "1767312000000"),
            ({"modify": "20260102000000.123"}, "20260102000000.123"),
            # As `ls -l` has it: to the minute, or to the day.
            ({"modify": "Jan 2 06:00"}, ""),
            ({"modify": "Jan 12 2025"}, ""),
            ({"created": 1767312000.0, "time": 1.0, "type": "file"}, ""),
            ({"ETag": "", "mtime": None}, ""),
        ],
    )
    def test_what_file_systems_call_it(
        self, monkeypatch: pytest.MonkeyPatch, found: dict[str, object], tag: str
    ) -> None:
        memory = __import__("fsspec").filesystem("memory").__class__
        monkeypatch.setattr(memory, "info", lambda *_, **__: {"size": 5, **found})
        assert stamp(Remote("memory://a")) == (5, tag)


def test_a_manifest_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    rows = f"a.mp4,normal,test,,\n{bucket.url}/far/b.mp4,normal,test,,\n/data/c.mp4,normal,test,,\n"
    bucket.put("set/data.csv", b"path,label,split,events,frames\n" + rows.encode())
    dataset = read_dataset(f"{bucket.url}/set/data.csv", VideoCache(tmp_path))
    assert [str(video.path) for video in dataset] == [
        f"{bucket.url}/set/a.mp4",
        f"{bucket.url}/far/b.mp4",
        "/data/c.mp4",
    ]
    assert [video.name for video in dataset] == ["a.mp4", f"{bucket.url}/far/b.mp4", "/data/c.mp4"]
    assert isinstance(dataset.videos[0], Video)
    with pytest.raises(DatasetError, match="is not on this machine"):
        read_dataset(place(f"{bucket.url}/set/data.csv"))
    with pytest.raises(DatasetError, match="no such file"):
        read_dataset(place(f"{bucket.url}/none.csv"), VideoCache(tmp_path))
