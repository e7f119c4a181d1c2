"""A folder of files about events that never holds more bytes than it may, files that are being written included.

`<folder>/<camera>/<day>/<event>.mp4`, `.jpg` and `.seen.jpg`; while a file is written it ends in `.part`. Room is
made by deleting the files of the oldest event that is not being written. Whatever has another name is a stranger's:
it is neither counted nor touched, and no link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

from edge_runtime.files import shown_path

log = logging.getLogger(__name__)

_PART = ".part"
# An event's id is that of its run, its camera and a number; see `watch.cameras.run_id`.
_NAME = re.compile(r"([0-9A-Za-z]{8}-\d{8}T\d{9}(?:\.\d+)?-(.+)-\d+)\.(mp4|seen\.jpg|jpg)(\.part)?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# When there is no room, what somebody else deleted is looked for at most this often.
_RESCAN_S = 30.0

# Makes a file that was not finished one that can be used, and says whether it is.
Mend = Callable[[Path], bool]
_Key = tuple[str, str, str]


class NoRoom(OSError):
    """The folder may not hold more, and all in it is being written."""


@dataclass(slots=True, eq=False)
class _Event:
    """The files of one event. `sizes`: what they may take, by their names; `stamp`: when the newest was written."""

    stamp: float
    sizes: dict[str, int] = field(default_factory=dict)
    writing: int = 0


def camera_folder(camera: str) -> str:
    """A camera's name as that of a folder: another name is another folder, and none leads out of where it lies."""
    quoted = quote(os.fsencode(camera), safe="")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


class Shelf:
    """The folder. Any thread may call anything.

    Args:
        folder: Where it is; made where it is not there.
        most_bytes: What its files may hold together.
        most_s: Files that are older are deleted, in seconds.
        mend: Makes use of what a killed run left half-written; without it that is deleted.
        now: The time in seconds since 1970. For tests.

    Attributes:
        folder: As given.
        most_bytes: As given.
    """

    def __init__(
        self,
        folder: Path,
        most_bytes: int,
        most_s: float,
        mend: Mend = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.most_bytes, self._most_s, self._mend, self._now = most_bytes, most_s, mend, now
        self._lock = threading.RLock()
        self._events: dict[_Key, _Event] = {}
        self._used = 0
        self._held: int | None = None
        self._scanned_s = -_RESCAN_S

    @property
    def used(self) -> int:
        """Bytes that are taken, those promised to files that are being written included."""
        # Without the lock: who asks must not wait for a disk.
        return self._used

    def open(self) -> None:
        """Make the folder and take it: what a killed run left is mended, and what is too old or too much deleted.

        Does nothing where it is open already.

        Raises:
            OSError: It cannot be made or read, or another run has it.
        """
        with self._lock:
            if self._held is not None:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            held = os.open(self.folder, os.O_RDONLY)
            try:
                _lock(held)
                self._mend_all()
                self._scan()
            except BaseException:
                os.close(held)
                raise
            self._held = held
            self._tidy()

    def close(self) -> None:
        """Let another run have the folder."""
        with self._lock:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def sweep(self) -> None:
        """Delete what has become too old or too much. Looks at the folder anew: others may delete from it."""
        with self._lock:
            self._scan()
            self._tidy()

    def new_file(self, camera: str, event: str, day: str, suffix: str) -> ShelfFile:
        """Begin a file of an event; it has its name when it is finished.

        Args:
            camera: The camera's name.
            event: The event's id.
            day: When it began, as 2026-01-31.
            suffix: `mp4`, `jpg` or `seen.jpg`.

        Raises:
            OSError: It cannot be made, or an mp4 of that event is there.
            ValueError: The id is not one of an event of that camera.
        """
        self.open()
        folder, name = camera_folder(camera), f"{quote(os.fsencode(event), safe='')}.{suffix}"
        if not _is_ours(folder, day, name):
            raise ValueError(f"{event}: is no event of camera {camera}")
        final = self.folder / folder / day / name
        with self._lock:
            if suffix == "mp4" and os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, "is there already", str(final))
            # A link in the place of a folder leads elsewhere.
            for place in (final.parent.parent, final.parent):
                with contextlib.suppress(FileExistsError):
                    place.mkdir()
                if not stat.S_ISDIR(place.lstat().st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(place))
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(f"{final}{_PART}", flags, 0o666)
            key = (folder, day, name.removesuffix(f".{suffix}"))
            entry = self._events.setdefault(key, _Event(self._now()))
            entry.writing += 1
            entry.sizes[f"{name}{_PART}"] = 0
            return ShelfFile(self, key, final, descriptor)

    # ---- for ShelfFile

    def _claim(self, key: _Key, name: str, size: int) -> None:
        """Let a file have so many bytes in all. NoRoom where the others leave no room."""
        with self._lock:
            entry = self._events[key]
            more = size - entry.sizes[name]
            if self._used + more > self.most_bytes and not self._make_room(more):
                if time.monotonic() - self._scanned_s >= _RESCAN_S:
                    self._scan()
                if not self._make_room(more):
                    limit = f"the limit of {self.most_bytes} bytes leaves no room"
                    raise NoRoom(errno.EDQUOT, limit, str(self.folder))
            entry.sizes[name] += more
            self._used += more

    def _settle(self, key: _Key, part: str, final: Path | None, size: int) -> None:
        """A file is complete and has its name, or is gone."""
        with self._lock:
            entry = self._events[key]
            entry.writing -= 1
            self._used -= entry.sizes.pop(part, 0)
            if final is not None:
                # That of its newest file, as a look at the folder finds it.
                entry.stamp = self._now()
                self._used += size - entry.sizes.get(final.name, 0)
                entry.sizes[final.name] = size
            elif not entry.sizes and not entry.writing:
                del self._events[key]

    # ---- what is there

    def _scan(self) -> None:
        """Look what lies in the folder. What is being written is known better than its size says."""
        self._scanned_s = time.monotonic()
        found: dict[_Key, _Event] = {}
        for folder, day, path, status in self._files():
            match = _NAME.fullmatch(path.name)
            assert match is not None
            entry = found.setdefault((folder, day, match[1]), _Event(status.st_mtime))
            entry.stamp = max(entry.stamp, status.st_mtime)
            entry.sizes[path.name] = status.st_size
        for key, entry in self._events.items():
            if entry.writing:
                parts = {name: size for name, size in entry.sizes.items() if name.endswith(_PART)}
                entry.sizes = (found[key].sizes if key in found else {}) | parts
                found[key] = entry
        self._events = found
        self._used = sum(sum(entry.sizes.values()) for entry in found.values())

    def _files(self) -> Iterator[tuple[str, str, Path, os.stat_result]]:
        for camera in _folders(self.folder):
            for day in _folders(camera):
                if not _DAY.fullmatch(day.name):
                    continue
                for item in _listed(day):
                    if _is_ours(camera.name, day.name, item.name) and item.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            yield camera.name, day.name, Path(item.path), item.stat(follow_symlinks=False)

    def _mend_all(self) -> None:
        for _, _, path, _ in list(self._files()):
            if not path.name.endswith(_PART):
                continue
            final = path.with_name(path.name.removesuffix(_PART))
            if final.suffix == ".mp4" and not os.path.lexists(final) and self._mend(path):
                path.rename(final)
                log.warning("%s: was cut short when the run before ended, and is kept as far as it goes", final)
            else:
                path.unlink()
                log.warning("%s: was not finished by the run before, and cannot be used; deleted", path)

    # ---- what goes

    def _tidy(self) -> None:
        oldest = self._now() - self._most_s
        for key in [key for key, entry in self._events.items() if entry.stamp < oldest and not entry.writing]:
            self._delete(key)
        if self._used > self.most_bytes:
            self._make_room(0)

    def _make_room(self, more: int) -> bool:
        """Delete the oldest events until so many bytes fit in; whether they do."""
        stuck: set[_Key] = set()
        while self._used + more > self.most_bytes:
            finished = [(entry.stamp, key) for key, entry in self._events.items() if not entry.writing]
            candidates = [one for one in finished if one[1] not in stuck]
            if not candidates:
                return False
            key = min(candidates)[1]
            if not self._delete(key):
                stuck.add(key)
        return True

    def _delete(self, key: _Key) -> bool:
        folder = self.folder / key[0] / key[1]
        entry = self._events[key]
        for name in list(entry.sizes):
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as error:
                log.debug("%s: cannot be deleted (%s)", shown_path(folder / name), error.strerror)
                return False
            self._used -= entry.sizes.pop(name)
        del self._events[key]
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()
        return True


class ShelfFile:
    """A file that is being written, for one thread; as much of a file object as FFmpeg needs. Made by Shelf.

    Attributes:
        path: Where it will be.
        size: Bytes that it holds.
    """

    def __init__(self, shelf: Shelf, key: _Key, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = 0
        self._shelf, self._key = shelf, key
        self._descriptor = descriptor
        self._part = path.with_name(f"{path.name}{_PART}")
        self._at = 0
        self._claimed = 0

    def claim(self, size: int) -> None:
        """Make sure that the file may become so many bytes long.

        Raises:
            NoRoom: There is no room for it.
        """
        if size > self._claimed:
            self._shelf._claim(self._key, self._part.name, size)
            self._claimed = size

    def write(self, data: bytes) -> int:
        """Write at the current place.

        Raises:
            NoRoom: There is no room for it.
            OSError: The disk is full, or broken.
        """
        self.claim(self._at + len(data))
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, self._at)
            self._at += done
            self.size = max(self.size, self._at)
            view = view[done:]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """The current place."""
        return self._at

    def truncate(self, size: int) -> None:
        """Cut the end off.

        Raises:
            OSError: The disk is broken.
        """
        os.ftruncate(self._descriptor, size)
        self.size = size

    def finish(self, *, sync: bool = False) -> Path:
        """Complete it and give it its name; a snapshot takes the place of the event's snapshot before.

        Args:
            sync: Whether it has to be on the disk, whatever happens to the power afterwards.

        Raises:
            OSError: It could not be, and is deleted.
        """
        try:
            if sync:
                os.fsync(self._descriptor)
            now = self._shelf._now()
            os.utime(self._part, (now, now), follow_symlinks=False)
            if self.path.suffix == ".mp4" and os.path.lexists(self.path):
                raise FileExistsError(errno.EEXIST, "is there already", str(self.path))
            self._part.replace(self.path)
        except OSError:
            self.discard()
            raise
        os.close(self._descriptor)
        self._shelf._settle(self._key, self._part.name, self.path, self.size)
        return self.path

    def discard(self) -> None:
        """Delete it."""
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self._part.unlink()
        self._shelf._settle(self._key, self._part.name, None, 0)


def event_files(folder: Path, camera: str | None = None) -> Iterator[tuple[str, str, Path, float]]:
    """The files of events in a folder, of one camera or of all; those that are being written end in `.part`.

    Yields:
        The camera, the event's id, the file, and when it was written last, in seconds since 1970.
    """
    wanted = None if camera is None else camera_folder(camera)
    for place in _folders(folder):
        if wanted is not None and place.name != wanted:
            continue
        for day in _folders(place):
            for item in _listed(day):
                match = _NAME.fullmatch(item.name)
                if match is not None and _is_ours(place.name, day.name, item.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = item.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            named = os.fsdecode(unquote_to_bytes(place.name))
                            event = os.fsdecode(unquote_to_bytes(match[1]))
                            yield named, event, Path(item.path), status.st_mtime


def _is_ours(folder: str, day: str, name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and bool(_DAY.fullmatch(day)) and camera_folder(unquote(match[2])) == folder


def _folders(path: Path) -> list[Path]:
    return [Path(item.path) for item in _listed(path) if item.is_dir(follow_symlinks=False)]


def _listed(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _lock(descriptor: int) -> None:
    """Take a folder for this process. OSError where another one has it."""
    try:
        import fcntl
    except ImportError:  # systems without it: two runs are not told apart
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(error.errno, "another run writes its clips there; give each a folder of its own") from error
    except OSError:  # some network file systems have no locks
        log.debug("a folder of clips cannot be locked; do not let two runs have it")
