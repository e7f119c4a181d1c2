"""Files written whole or not at all, their hashes, and text of any origin as one line that a terminal may show."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edge_runtime.errors import OutputFailed

#: When a file was written in nanoseconds, how many bytes it has, and which file it is.
FileStamp = tuple[int, int, int]


def file_stamp(path: Path) -> FileStamp | None:
    """What changes with every writing of a file; None where there is none that can be looked at."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def write_atomic(path: Path, write: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: into a temporary file beside it, synced, then renamed.

    What was there before is still there if anything fails.

    Args:
        path: The file.
        write: The content, or a function that writes it to an open binary file.

    Raises:
        OutputFailed: The disk is full or not writable; the message names the path.
    """
    # What a link points to is written; a device or a pipe is written to, a rename would put a file in its place.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            with target.open("wb", buffering=0) as device:
                _fill(device, write)
            return
        # Opened like any new file, so that the umask decides who may read it; "x" follows no link laid in its way.
        with temporary.open("xb") as file:
            _fill(file, write)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputFailed(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, which nobody but its owner can read at any moment.

    Raises:
        OutputFailed: The disk is full or not writable; the message names the path.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputFailed(f"{shown_path(path)}: cannot be written ({error.strerror}); free some space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_into(path: Path, data: bytes, temporary: Path) -> None:
    """Write a file whole or not at all into a folder in which nothing else may lie, not even for a moment.

    It is durable when this returns. Whoever dies in between leaves `temporary`, in a place that somebody clears.

    Args:
        path: The file.
        data: The content.
        temporary: Where it is written first: another folder of the same disk.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
        sync(temporary.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _fill(file: IO[bytes], write: bytes | Callable[[IO[bytes]], object]) -> None:
    if isinstance(write, bytes):
        file.write(write)
    else:
        write(file)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; where the system can do that.

    Raises:
        OSError: They cannot be.
    """
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        OutputFailed: It cannot be created; the message names the path.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{path}: cannot be created ({error.strerror or error}); choose another place") from error


def state_folder() -> Path:
    """Where a program keeps what should outlive a restart: as systemd gives it, or as XDG says."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "headhunt-edge"


_UNITS = (("GiB", 30), ("MiB", 20), ("KiB", 10))


def format_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    unit, power = next((unit, power) for unit, power in _UNITS if count >= 2**power / 10 or power == 10)
    return f"{count / 2**power:.1f} {unit}"


def free_space(path: Path) -> int:
    """Bytes that are free where a file of this path would lie; neither it nor its folder need be there yet."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def sha256(path: Path) -> str:
    """sha256 of a file's content, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: str) -> str:
    """A text as one line that does nothing to a terminal.

    What is not printable in Python's sense (escape sequences, line breaks, what reverses the direction of writing,
    lone surrogates, white space other than a blank) becomes its Python escape; all other text stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shown_path(path: Path | str) -> str:
    """A path as one printable line: line breaks, escape sequences and undecodable bytes are escaped."""
    return printable(str(path))


def process_runs(number: str) -> bool:
    """Whether a process of that number is there, which may have left a name with it; no number is none."""
    try:
        # Signal 0 asks without disturbing it.
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def move_aside(path: Path) -> str:
    """Move a small file that cannot be used out of the way, to `….damaged`; returns in words where it is now."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        return f"it cannot be moved ({error.strerror}) and will be written over"
    return f"it was moved to {shown_path(aside)}"
