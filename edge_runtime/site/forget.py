"""Deletes what is kept of a camera and a stretch of time: features, scores, marks, snapshots and clips alike."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edge_runtime.errors import HeadHuntError, OutputFailed, UsageError
from edge_runtime.files import shown_path
from edge_runtime.outputs.shelf import event_files
from edge_runtime.site.store import Forgotten, Store

# A file of an event that is not known any more was begun at most so long before it was written last.
_LONGEST_S = 3600.0


class Told(Protocol):
    """An event, as a store or a history knows it."""

    @property
    def start(self) -> float:
        """Seconds since 1970."""

    @property
    def end(self) -> float:
        """Seconds since 1970."""


class Forgets(Protocol):
    """What else keeps something of cameras, such as a history of scores."""

    def forget(self, camera: str | None, start: float, end: float) -> tuple[int, int]:
        """Delete what overlaps a stretch, of one camera or of all; again: nothing. How many scores and events."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was deleted.

    Attributes:
        kept: From the stores and others.
        files: Snapshots and clips, and sheets of what the model saw.
        writing: Files of that time that are being written, and stay.
    """

    kept: Forgotten
    files: int
    writing: int


def forget(
    stores: Sequence[Store],
    clips: Path | None,
    camera: str | None,
    start: float,
    end: float,
    told: Mapping[str, Told] | None = None,
    others: Sequence[Forgets] = (),
) -> Erased:
    """Delete everything that overlaps a stretch; done again, it finds nothing. A run may go on meanwhile.

    Files go first: which event they show is known from the stores. A file whose event is not known goes where it may
    show the stretch, judged by when it was written.

    Args:
        stores: Features, scores, events and marks, of each bundle.
        clips: The folder of snapshots and clips; None where there is none.
        camera: Of which camera; None: of all.
        start: Seconds since 1970.
        end: Seconds since 1970.
        told: Events that are known elsewhere, by their ids.
        others: Whatever else keeps something.

    Raises:
        UsageError: The stretch ends before it starts.
        HeadHuntError: Something could not be deleted; what could be, is.
    """
    if not start < end:
        raise UsageError("--to must lie after --from")
    failures: list[HeadHuntError] = []
    files = writing = 0
    try:
        shown = list(_shown(stores, told or {}, clips, camera, start, end))
    except sqlite3.Error as error:
        raise OutputFailed(f"the features cannot be read ({error}); nothing was deleted, try again") from error
    for path in shown:
        if path.suffix == ".part":
            writing += 1
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            failures.append(
                OutputFailed(f"{shown_path(path)}: cannot be deleted ({error.strerror}); the rest is, try again")
            )
            continue
        files += 1
        for empty in (path.parent, path.parent.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()
    segments = events = marks = 0
    for one in stores:
        try:
            found = one.forget(camera, start, end)
        except HeadHuntError as error:
            failures.append(error)
            continue
        segments, events, marks = segments + found.segments, events + found.events, marks + found.marks
    scores = told_events = 0
    for other in others:
        try:
            found_scores, found_events = other.forget(camera, start, end)
        except HeadHuntError as error:
            failures.append(error)
            continue
        scores, told_events = scores + found_scores, told_events + found_events
    if failures:
        raise failures[0]
    # Those that both keep are the same ones.
    return Erased(Forgotten(max(segments, scores), max(events, told_events), marks), files, writing)


def _shown(
    stores: Sequence[Store],
    told: Mapping[str, Told],
    clips: Path | None,
    camera: str | None,
    start: float,
    end: float,
) -> Iterator[Path]:
    """The files that show a stretch."""
    known: dict[str, Told] = dict(told)
    known |= {event.id: event for store in stores for event in store.events(camera)}
    for _, name, path, written in [] if clips is None else list(event_files(clips, camera)):
        event = known.get(name)
        if event is None:
            shown = written > start and written - _LONGEST_S < end
        else:
            # A clip shows what was before and after it, too.
            shown = max(event.end, written) > start and event.start - _LONGEST_S / 60 < end
        if shown:
            yield path


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
