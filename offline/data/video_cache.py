"""Remote videos on the local disk: fetched when they are needed, the longest unused ones removed beyond a limit.

Any number of processes share a folder. A video in use is never removed, also where that exceeds the limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import CacheFailed, SourceUnavailable
from edge_runtime.files import format_bytes
from offline.data.places import Remote, Stamp, download, stamp, user_folder

GIB = 2**30
LIMIT = 20 * GIB


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
        entry = folder / hashlib.sha256(f"{path} {now.size} {now.tag}".encode()).hexdigest()[:32]
        with ExitStack() as opened:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # For reading as well: NFS gives a shared lock to nobody else.
                lock = opened.enter_context((folder / f"{entry.name}.lock").open("a+b"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (entry / path.name).is_file():
                    self._make_room(folder, now.size, entry.name)
                    _fetch(path, folder, entry, now)
                os.utime(entry)
                # Others may use it, none may remove it.
                fcntl.flock(lock, fcntl.LOCK_SH)
            except OSError as error:
                raise CacheFailed(
                    f"{path}: cannot be kept in {folder} ({error.strerror or error}); choose another --video-cache"
                ) from error
            yield entry / path.name

    def _make_room(self, folder: Path, size: int, own: str) -> None:
        """Remove what was not used for longest, until a video of this size fits."""
        held = []
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != own:
                with contextlib.suppress(OSError):
                    bytes_ = sum(file.stat().st_size for file in entry.iterdir())
                    held.append((entry.stat().st_mtime, bytes_, entry))
        total = sum(bytes_ for _, bytes_, _ in held)
        for _, bytes_, entry in sorted(held):
            if total + size <= self.limit:
                return
            with (folder / f"{entry.name}.lock").open("a+b") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    # Somebody reads it.
                    continue
                shutil.rmtree(entry, ignore_errors=True)
                total -= bytes_


def _fetch(path: Remote, folder: Path, entry: Path, now: Stamp) -> None:
    """Fetch a video into a folder of its own, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".", dir=folder, ignore_cleanup_errors=True) as unfinished:
        with (Path(unfinished) / path.name).open("wb") as target:
            download(path, target, now)
        made = Path(unfinished) / ".whole"
        made.mkdir()
        (Path(unfinished) / path.name).replace(made / path.name)
        shutil.rmtree(entry, ignore_errors=True)
        made.replace(entry)
