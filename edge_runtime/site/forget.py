"""Deletes what is kept of a camera and a stretch of time: features, scores, marks, snapshots and clips alike."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import shown_path
from edge_runtime.outputs.shelf import event_files
from edge_runtime.site.history import PastEvent
from edge_runtime.site.store import Forgotten, KnownEvent, Store

# A file of an event that is not known any more was begun at most so long before it was written last.
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was deleted.

    Attributes:
        kept: From the store.
        files: Snapshots and clips.
        writing: Files of that time that are being written, and stay.
    """

    kept: Forgotten
    files: int
    writing: int


def forget(
    store: Store | None,
    clips: Path | None,
    camera: str | None,
    start: float,
    end: float,
    told: Mapping[str, PastEvent] | None = None,
) -> Erased:
    """Delete everything that overlaps a stretch; done again, it finds nothing. A run may go on meanwhile.

    Files go first: which event they show is known from the store. A file whose event is not known there goes where it
    may show the stretch, judged by when it was written.

    Args:
        store: Features, scores, events and marks; None where there are none.
        clips: The folder of snapshots and clips; None where there is none.
        camera: Of which camera; None: of all.
        start: Seconds since 1970.
        end: Seconds since 1970.
        told: Events that are known elsewhere, by their ids.

    Raises:
        UsageError: The stretch ends before it starts.
        OutputFailed: Something could not be deleted; what could be, is.
    """
    if not start < end:
        raise UsageError("--to must lie after --from")
    files = writing = 0
    failed: OSError | None = None
    known: dict[str, PastEvent | KnownEvent] = dict(told or {})
    if store is not None:
        known |= {event.id: event for event in store.events(camera)}
    for _, name, path, written in [] if clips is None else list(event_files(clips, camera)):
        event = known.get(name)
        if event is None:
            shown = written > start and written - _LONGEST_S < end
        else:
            # A clip shows what was before and after it, too.
            shown = max(event.end, written) > start and event.start - _LONGEST_S / 60 < end
        if not shown:
            continue
        if path.suffix == ".part":
            writing += 1
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            failed = error
            continue
        files += 1
        for empty in (path.parent, path.parent.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()
    kept = Forgotten(0, 0, 0) if store is None else store.forget(camera, start, end)
    if failed is not None:
        raise OutputFailed(
            f"{shown_path(str(failed.filename))}: cannot be deleted ({failed.strerror}); the rest is, try again"
        )
    return Erased(kept, files, writing)


def parse_time(text: str) -> float:
    """A time as people write it: `2026-01-31`, `2026-01-31T12:30`, with `Z` or `+01:00`; else the system's zone.

    Returns:
        Seconds since 1970.

    Raises:
        UsageError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
        seconds = moment.timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time; write it as 2026-01-31T12:30, with Z for UTC") from None
    if not math.isfinite(seconds):
        raise UsageError(f"{text!r} is no time; write it as 2026-01-31T12:30, with Z for UTC")
    return seconds


def shown_time(seconds: float) -> str:
    """Seconds since 1970 as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
