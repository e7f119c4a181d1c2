"""Finds an event's files on the clips' shelf. No part of a path comes from a request: only the shelf names files."""

from __future__ import annotations

import contextlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from edge_runtime.outputs.shelf import camera_folder
from edge_runtime.server.shapes import Event

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_PLAIN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC


def open_event_file(folder: Path, event: Event, suffix: str) -> int | None:
    """Open a file of an event; None where there is none. No link is followed below the folder.

    Args:
        folder: The shelf's.
        event: The event, as the history knows it.
        suffix: `mp4`, `jpg` or `seen.jpg`.
    """
    name = f"{quote(os.fsencode(event.id), safe='')}.{suffix}"
    steps = [os.open(folder, os.O_RDONLY | os.O_CLOEXEC)] if folder.is_dir() else []
    try:
        if steps and (camera := _step(steps, camera_folder(event.camera), _FOLDER)) is not None:
            for day in _days(event):
                if (place := _step(steps, day, _FOLDER, camera)) is None:
                    continue
                if (file := _step([], name, _PLAIN, place)) is not None:
                    if stat.S_ISREG(os.fstat(file).st_mode):
                        return file
                    os.close(file)
        return None
    finally:
        for descriptor in steps:
            os.close(descriptor)


def has_event_files(folder: Path | None, event: Event) -> dict[str, bool]:
    """Which files of an event there are, by their suffixes."""
    suffixes = ("jpg", "mp4", "seen.jpg")
    if folder is None:
        return dict.fromkeys(suffixes, False)
    place, name = folder / camera_folder(event.camera), quote(os.fsencode(event.id), safe="")
    days = _days(event)
    return {suffix: any(os.path.lexists(place / day / f"{name}.{suffix}") for day in days) for suffix in suffixes}


def _step(steps: list[int], name: str, flags: int, inside: int | None = None) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(name, flags, dir_fd=steps[0] if inside is None else inside)
        if flags == _FOLDER:
            steps.append(descriptor)
        return descriptor
    return None


def _days(event: Event) -> list[str]:
    """The day on which it began; the computer's date may have been corrected a little since its file was named."""
    start = datetime.fromisoformat(event.start)
    moments = (start, start - timedelta(minutes=1), start + timedelta(minutes=1))
    return list(dict.fromkeys(f"{moment.astimezone(UTC):%Y-%m-%d}" for moment in moments))
