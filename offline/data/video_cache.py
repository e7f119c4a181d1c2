"""Remote videos on the local disk: fetched when they are needed, the longest unused ones removed beyond a limit.

Any number of processes share a folder. A video in use is never removed, also where that exceeds the limit.

A video lies in a folder of its own, and beside it a file to lock: shared by who reads it, exclusive by who fetches or
removes it. While it is fetched its folder's name begins with a dot, and its file has its full length from the start,
so that it is counted. Where its store does not tell one content from another it stays so, and goes with its user.

Counting and making room go by one lock for all. Who wants both takes the video's first, and who makes room waits for
no video's: nobody waits in a circle.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_runtime.errors import CacheFailed, SourceUnavailable
from edge_runtime.files import format_bytes
from offline.data.places import Remote, Stamp, download, stamp, user_folder

GIB = 2**30
LIMIT = 20 * GIB
# Whatever else lies in the folder is somebody's, who gave it as --video-cache.
_ENTRY = re.compile(r"\.?(once-)?[0-9a-f]{32}")
_ONCE = "once-"
_ROOM = ".room.lock"


@dataclass(frozen=True, slots=True)
class VideoCache:
    """A folder of videos.

    Attributes:
        folder: Where it is; None for the user's cache.
        limit: Bytes that it may hold.
    """

    folder: Path | None = None
    limit: int = LIMIT

    @contextmanager
    def held(self, path: Remote) -> Iterator[Path]:
        """Have a video on the disk as long as the context lasts, under its own name.

        Raises:
            SourceUnavailable: It cannot be fetched, arrives damaged, or is larger than the limit.
            CacheFailed: The folder cannot be written, as on a full disk. The video may be a good one.
        """
        now = stamp(path)
        if now.size > self.limit:
            raise SourceUnavailable(
                f"{path}: {format_bytes(now.size)} are more than the video cache may hold "
                f"({format_bytes(self.limit)}); allow more with --video-cache-gib"
            )
        folder = self.folder or user_folder("videos")
        # Another content under the same address is another entry.
        key = hashlib.sha256(f"{path} {now.size} {now.tag}".encode()).hexdigest()[:32]
        entry = _Entry(folder, key if now.tag else f"{_ONCE}{secrets.token_hex(16)}", path.name)
        with ExitStack() as opened:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = opened.enter_context(_open_lock(entry.lock))
                if now.tag:
                    self._have(path, now, entry, lock)
                    file = entry.whole / path.name
                else:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    opened.callback(_clear, entry.unfinished, entry)
                    self._fetch(path, now, entry)
                    file = entry.unfinished / path.name
            except OSError as error:
                raise CacheFailed(
                    f"{path}: cannot be kept in {folder} ({error.strerror or error}); choose another --video-cache"
                ) from error
            yield file

    def _have(self, path: Remote, now: Stamp, entry: _Entry, lock: IO[bytes]) -> None:
        """Have a video whole in its folder, under a shared lock."""
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is_whole(entry, now):
                os.utime(entry.whole)
                return
            # Given up in between, or two who read would wait for each other. Meanwhile somebody may have fetched it.
            fcntl.flock(lock, fcntl.LOCK_UN)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(entry, now):
                self._fetch(path, now, entry)
                with _making_room(entry.folder):
                    shutil.rmtree(entry.whole, ignore_errors=True)
                    entry.unfinished.replace(entry.whole)

    def _fetch(self, path: Remote, now: Stamp, entry: _Entry) -> None:
        """Fetch a video into its unfinished folder, whole or not at all. Its lock is held."""
        with _making_room(entry.folder):
            self._make_room(now.size, entry)
            entry.unfinished.mkdir()
            with (entry.unfinished / entry.file).open("xb") as target:
                target.truncate(now.size)
        try:
            with (entry.unfinished / entry.file).open("r+b") as target:
                download(path, target, now)
                target.flush()
                # Its length says nothing of what a machine that loses its power has written.
                os.fsync(target.fileno())
        except BaseException:
            shutil.rmtree(entry.unfinished, ignore_errors=True)
            raise

    def _make_room(self, size: int, own: _Entry) -> None:
        """Remove what killed processes left, and what was not used for longest until a video of this size fits."""
        shutil.rmtree(own.unfinished, ignore_errors=True)
        total, whole = size, []
        for folder in own.folder.iterdir():
            entry = _Entry(own.folder, folder.name.removeprefix("."))
            if _ENTRY.fullmatch(folder.name) is None or entry.name == own.name or not folder.is_dir():
                continue
            if folder == entry.unfinished and _remove(folder, entry):
                continue
            # Another user's, or removed by who could not fetch it.
            with contextlib.suppress(OSError):
                bytes_ = sum(file.stat().st_size for file in folder.iterdir())
                total += bytes_
                if folder == entry.whole:
                    whole.append((folder.stat().st_mtime, bytes_, entry))
        for _, bytes_, entry in sorted(whole, key=lambda one: one[0]):
            if total <= self.limit:
                return
            if _remove(entry.whole, entry):
                total -= bytes_


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a video lies.

    Attributes:
        folder: Of all videos.
        name: Of this one's folder, when it is whole.
        file: The video's own name.
    """

    folder: Path
    name: str
    file: str = ""

    @property
    def whole(self) -> Path:
        return self.folder / self.name

    @property
    def unfinished(self) -> Path:
        return self.folder / f".{self.name}"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.name}.lock"


def _is_whole(entry: _Entry, now: Stamp) -> bool:
    try:
        return (entry.whole / entry.file).stat().st_size == now.size
    except (FileNotFoundError, NotADirectoryError):
        return False


def _open_lock(path: Path) -> IO[bytes]:
    # For reading as well: NFS gives a shared lock to nobody else.
    return path.open("a+b")


@contextmanager
def _making_room(folder: Path) -> Iterator[None]:
    """Be the only one who counts, removes or adds."""
    with _open_lock(folder / _ROOM) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(folder: Path, entry: _Entry) -> bool:
    """Remove a video's folder, unless somebody uses it or it is another user's; tells whether it did."""
    try:
        with _open_lock(entry.lock) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder, entry)
            return not folder.exists()
    except OSError:
        return False


def _clear(folder: Path, entry: _Entry) -> None:
    """Remove a video's folder, whose lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    if entry.name.startswith(_ONCE):
        # Nobody waits for it. The locks of others stay: who waits for one that is gone has none.
        with contextlib.suppress(OSError):
            entry.lock.unlink()
