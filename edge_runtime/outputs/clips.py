"""Snapshots and clips of events, into a folder that holds no more than it may.

Nothing is decoded or encoded while nothing happens: cameras' packets wait in rings, and go into files when an event
begins. A disk that is full, slow or away costs clips and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET

from edge_runtime.errors import one_line
from edge_runtime.files import shown_path
from edge_runtime.outputs.clip import Clip, Filmed, Span
from edge_runtime.outputs.mp4 import mend
from edge_runtime.outputs.sheets import Sheets, SheetWanted
from edge_runtime.outputs.shelf import NoRoom, Shelf
from edge_runtime.outputs.snapshots import OnSnapshot, Snapshots, Wanted
from edge_runtime.records import EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.stream.clock import rfc3339

__all__ = ["ClipOptions", "Clips", "Filmed"]

log = logging.getLogger(__name__)

# What is encoded at once: an encoder takes a core and, at 1080p, some 50 MB.
_ENCODERS = 4
# A disk that hangs holds a thread for each.
_CLIPS = 128
_SWEEP_S = 60.0
# Of a camera that has gone nothing is asked for so long afterwards.
_GONE_S = 300.0
# Outputs have a second to end.
_CLOSE_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """What is kept of events.

    Attributes:
        folder: Where.
        snapshots: Whether pictures are.
        video: Whether clips are.
        pre_roll_s: What a clip shows from before the event, in seconds.
        post_roll_s: What it shows after it.
        max_s: How long a clip may be.
        most_bytes: What the folder may hold.
        most_s: How old files become.
    """

    folder: Path
    snapshots: bool = True
    video: bool = True
    pre_roll_s: float = 5.0
    post_roll_s: float = 5.0
    max_s: float = 120.0
    most_bytes: int = 10_000_000_000
    most_s: float = 14 * 86_400.0


class Clips:
    """A sink that takes events and makes snapshots and clips of them.

    Args:
        options: What is kept.

    Attributes:
        name: What logs call it.
        on_snapshot: Told of every snapshot, with its camera's name and the bytes of a JPEG, in a thread that makes
            snapshots. Append to it before the first event.
        shelf: The folder.
        sheets: Makes contact sheets of what the model saw, once detectors tell its listeners of scored segments; None
            where no pictures are kept.
    """

    def __init__(self, options: ClipOptions) -> None:
        self.name = f"clips in {shown_path(options.folder)}"
        self.on_snapshot: list[OnSnapshot] = []
        self.shelf = Shelf(options.folder, options.most_bytes, options.most_s, mend)
        self._options = options
        self._filmed: dict[str, Filmed] = {}
        self._clips: dict[str, Clip] = {}
        # Of each camera the event that was told last, its highest score, and the end of its last segment.
        self._open: dict[str, tuple[str, float, float]] = {}
        # Where anomalous segments began that may yet be told as an event; behind everything where they were.
        self._maybe: dict[str, float] = {}
        # Of the anomalous segments that follow each other there, the one with the highest score.
        self._best: dict[str, SegmentRecord] = {}
        self._encoders = threading.Semaphore(_ENCODERS)
        self._snapshots = Snapshots(self._keep, self.on_snapshot)
        self.sheets = Sheets(self._keep_sheet) if options.snapshots else None
        self._trouble = _Trouble(self.name)
        self._ended = threading.Event()
        self._said_files = False
        self._worker = threading.Thread(target=self._look_after, name="clips", daemon=True)
        self._started = False

    def film(self, camera: str, filmed: Filmed) -> None:
        """Make clips of a camera; one that was there under this name is forgotten. Any thread may call this."""
        self._filmed[camera] = filmed

    def write(self, record: Record) -> None:
        """Take one record; does not wait for a disk."""
        if not self._started:
            self._started = True
            self._snapshots.start()
            if self.sheets is not None:
                self.sheets.start()
            self._worker.start()
        if not isinstance(record, SegmentRecord | GapRecord | EventRecord):
            return
        filmed = self._filmed.get(record.camera)
        if filmed is None:
            if not self._said_files and not isinstance(record, EventRecord):
                self._said_files = True
                log.info("%s: made of live cameras only; of files none are", self.name)
            return
        if isinstance(record, EventRecord):
            if record.reason is UNSET:
                if record.state != "end":
                    self._maybe[record.camera] = math.inf
                self._event(record, filmed)
        else:
            # What begins later begins behind this, or with the anomalous segments that it goes on with.
            start_s = record.start_s
            if isinstance(record, SegmentRecord) and record.anomalous:
                start_s = min(start_s, self._maybe.setdefault(record.camera, start_s))
                best = self._best.get(record.camera)
                if best is None or record.score > best.score:
                    self._best[record.camera] = record
            else:
                self._maybe.pop(record.camera, None)
                self._best.pop(record.camera, None)
            filmed.ring.keep_from(start_s - self._options.pre_roll_s)

    @property
    def failing(self) -> bool:
        """Whether the folder cannot be written now."""
        return self._trouble.since is not None

    def close(self) -> None:
        """Complete what is being written."""
        until_s = time.monotonic() + _CLOSE_S
        self._ended.set()
        for clip in self._clips.values():
            clip.close()
        for clip in self._clips.values():
            clip.join(max(0.0, until_s - time.monotonic()))
        if self._started:
            self._snapshots.close(max(0.0, until_s - time.monotonic()))
            if self.sheets is not None:
                self.sheets.close(max(0.0, until_s - time.monotonic()))
        if late := sum(clip.alive for clip in self._clips.values()):
            log.warning("%s: %d clips are not complete; the next run keeps what there is of them", self.name, late)
        else:
            self.shelf.close()
        self._trouble.close()

    def _event(self, event: EventRecord, filmed: Filmed) -> None:
        first = event.state == "new"
        told, peak, end_s = self._open.get(event.camera, ("", -1.0, event.start_s))
        if told != event.id:
            peak, end_s = -1.0, event.start_s
        if event.peak > peak and event.state != "end" and self._options.snapshots:
            # Its last segment is the one with that score, but of an event that was told late.
            at_s, seen_s = (end_s + event.end_s) / 2, event.end_s
            best = self._best.get(event.camera)
            if first and best is not None and best.score == event.peak and best.start_s >= event.start_s:
                at_s, seen_s = (best.start_s + best.end_s) / 2, best.end_s
            self._snapshot(event, filmed, at_s)
            if self.sheets is not None:
                self.sheets.ask(SheetWanted(event.camera, event.id, _day(event, filmed), seen_s))
        self._open[event.camera] = event.id, max(event.peak, peak), event.end_s
        if not self._options.video:
            return
        until_s = event.end_s + self._options.post_roll_s
        if first:
            self._begin(event, filmed, until_s)
        elif (clip := self._clips.get(event.id)) is not None:
            clip.extend(until_s, final=event.state == "end")

    def _begin(self, event: EventRecord, filmed: Filmed, until_s: float) -> None:
        self._clips = {key: clip for key, clip in self._clips.items() if clip.alive}
        if len(self._clips) >= _CLIPS:
            self._trouble.cut(event.camera, event.id, f"{_CLIPS} clips are being written already")
            return
        options = self._options
        from_s = event.start_s - options.pre_roll_s
        span = Span(event.camera, event.id, _day(event, filmed), from_s, event.start_s, options.max_s)
        clip = Clip(span, filmed, self.shelf, self._trouble, self._encoders, until_s)
        self._clips[event.id] = clip
        clip.start()

    def _snapshot(self, event: EventRecord, filmed: Filmed, at_s: float) -> None:
        if (found := filmed.ring.until(at_s)) is None:
            return
        video, packets = found
        wanted = Wanted(event.camera, event.id, _day(event, filmed), video, packets, filmed.blank)
        self._snapshots.ask(wanted, first=event.state == "new")

    def _keep(self, wanted: Wanted, jpeg: bytes) -> None:
        self._keep_picture(wanted, jpeg, "jpg")

    def _keep_sheet(self, wanted: SheetWanted, jpeg: bytes) -> None:
        self._keep_picture(wanted, jpeg, "seen.jpg")

    def _keep_picture(self, wanted: Wanted | SheetWanted, jpeg: bytes, suffix: str) -> None:
        try:
            file = self.shelf.new_file(wanted.camera, wanted.event, wanted.day, suffix)
            try:
                file.write(jpeg)
            except OSError:
                file.discard()
                raise
            file.finish()
        except NoRoom:
            self._trouble.cut(wanted.camera, wanted.event, "its folder has no room for a snapshot")
        except (OSError, ValueError) as error:
            self._trouble.failed(error)
        else:
            self._trouble.works()

    def _look_after(self) -> None:
        """Open the folder, and look after it and the rings from time to time."""
        while True:
            try:
                self.shelf.open()
                self.shelf.sweep()
            except OSError as error:
                self._trouble.failed(error, lost=False)
            for filmed in list(self._filmed.values()):
                filmed.ring.forget_before(filmed.now_s() - _GONE_S)
            self._trouble.sum_up()
            if self._ended.wait(_SWEEP_S):
                return


def _day(event: EventRecord, filmed: Filmed) -> str:
    return filmed.utc(event.start_s)[:10]


class _Trouble:
    """Tells what is wrong with the folder: once when it begins, then as a sum, and when it is over.

    Attributes:
        since: When it could not be written first, as RFC 3339; None where it can.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self.since: str | None = None
        self._missing = 0
        self._failures = RepeatedTrouble(log, logging.ERROR, self._more)
        # A disk that is full every other second fills no log.
        self._recoveries = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{name}: worked again {count} more times in {seconds} s"
        )
        self._cuts = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{name}: {count} more were cut short in {seconds} s"
        )

    def works(self) -> None:
        """See Reports."""
        if self.since is None:
            return
        self._failures.sum_up(at_once=True)
        with self._lock:
            since, missing = self.since, self._missing
            self.since, self._missing = None, 0
        told = f"{self._name}: can be written again; since {since} {missing} files are missing or cut"
        self._recoveries.happened(told)

    def failed(self, error: Exception, *, lost: bool = True) -> None:
        """See Reports."""
        with self._lock:
            self.since = self.since or rfc3339(datetime.now(UTC))
            self._missing += lost
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        self._failures.happened(f"{self._name}: cannot be written ({reason}); detection goes on without")

    def cut(self, camera: str, event: str, why: str) -> None:
        """See Reports."""
        self._cuts.happened(f"camera {camera}: the clip of event {event} is cut short: {why}")

    def sum_up(self) -> None:
        """Tell what has not been told."""
        for trouble in (self._failures, self._cuts, self._recoveries):
            trouble.sum_up()

    def close(self) -> None:
        """Tell the rest."""
        for trouble in (self._failures, self._cuts, self._recoveries):
            with contextlib.suppress(Exception):
                trouble.sum_up(at_once=True)

    def _more(self, count: int, seconds: int) -> str:
        return f"{self._name}: failed {count} more times in {seconds} s; cannot be written since {self.since}"
