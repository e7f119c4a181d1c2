"""What a run writes for feedback, in a thread of its own: features as they are scored, and events. Delays nothing.

It is a sink of records, and told of features by `Detector.seen`; both only queue. What cannot be written, because the
disk is full or the thread too slow, is left out and told; scoring goes on. It also looks every second for a site's
scorer that was accepted or undone, and lets the detector use it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edge_runtime.detector import Detector
from edge_runtime.errors import HeadHuntError, OutputFailed, UsageError, one_line
from edge_runtime.files import FileStamp, file_stamp, shown_path
from edge_runtime.outputs.store import is_damage, set_aside
from edge_runtime.records import EventRecord, Record, RunRecord
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.site.learned import read_learned
from edge_runtime.site.place import Site
from edge_runtime.site.real import RealEvents
from edge_runtime.site.store import BYTES_A_DAY, DAY_S, KnownEvent, Remembered, Store, row_bytes
from edge_runtime.stream.segments import Segment

__all__ = ["Recorder"]

log = logging.getLogger(__name__)

# Some ten minutes of forty cameras; 2.6 kB each.
_WAITING = 16_384
_TICK_S = 1.0
_SWEEP_S = 600.0
_CLOSE_S = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """A segment on the run's axis."""

    camera: str
    index: int
    start_s: float
    end_s: float
    score: float
    features: NDArray[np.float32]


class Recorder:
    """A sink that keeps features and events of a detector's cameras. Begins with the first record or `start`.

    Args:
        site: Of the detector's bundle.
        detector: Told of the site's scorer; its features are kept.
        retention_s: How long features and events are kept, in seconds. Marks stay until they are deleted.
        bytes_a_day: Of one camera, at most.
        step_s: From one segment to the next.
        real: Told what operators call real; whoever marks it.

    Attributes:
        name: What logs call it.
    """

    def __init__(
        self,
        site: Site,
        detector: Detector,
        *,
        retention_s: float = 7 * DAY_S,
        bytes_a_day: int = BYTES_A_DAY,
        step_s: float | None = None,
        real: RealEvents | None = None,
    ) -> None:
        self.name = f"feedback in {shown_path(site.folder)}"
        self._site, self._detector = site, detector
        self._retention_s, self._real = retention_s, real
        step_s = site.manifest.segment.step_s if step_s is None else step_s
        self._most_a_day = max(1, bytes_a_day // row_bytes(site.calibration.feature_size))
        # Ordinary segments are thinned out; what nearly is an alarm is not.
        self._every = max(1, math.ceil(DAY_S / step_s / self._most_a_day))
        locators = site.manifest.locators
        self._notable = min(locators.full.threshold, locators.low_latency.threshold) / 2
        self._queue: deque[_Scored | EventRecord] = deque()
        self._changed = threading.Condition()
        self._closing = self._urgent = False
        self._zero: float | None = None
        self._cameras: set[str] = set()
        self._today: Counter[tuple[str, int]] = Counter()
        self._store: Store | None = None
        self._stamp: FileStamp | None = None
        self._swept_s = -math.inf
        self._left_out = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{self.name}: {count} more were left out in {seconds} s"
        )
        self._failures = RepeatedTrouble(
            log, logging.ERROR, lambda count, seconds: f"{self.name}: failed {count} more times in {seconds} s"
        )
        self._thread = threading.Thread(target=self._work, name="feedback", daemon=True)
        self._started = False
        self.use_learned()
        detector.seen.append(self.seen)

    # ---- any thread

    def seen(self, camera: str, segment: Segment, features: NDArray[np.float32], score: float) -> None:
        """Take one scored segment; as of `Detector.seen`. Does not wait."""
        if segment.index % self._every and score < self._notable:
            return
        self._put(_Scored(camera, segment.index, segment.start_s, segment.end_s, score, features.copy()))

    def write(self, record: Record) -> None:
        """Take one record; does not wait for a disk."""
        if isinstance(record, RunRecord):
            # What counts from here lies behind the record: nothing of the run came before it.
            self._zero = datetime.fromisoformat(record.started).timestamp()
        elif isinstance(record, EventRecord) and record.reason is UNSET:
            self._put(record)
        self.start()

    def start(self) -> None:
        """Begin writing."""
        with self._changed:
            if self._started:
                return
            self._started = True
        self._thread.start()

    def records(self, detector: Detector) -> bool:
        """Whether it keeps what this detector scores."""
        return self._detector is detector

    def end(self) -> None:
        """Take nothing more; what waits is still written."""
        with contextlib.suppress(ValueError):
            self._detector.seen.remove(self.seen)
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self, limit_s: float = _CLOSE_S) -> None:
        """Write what waits, as far as there is time."""
        self.end()
        if self._started:
            self._thread.join(limit_s)
        for trouble in (self._left_out, self._failures):
            trouble.sum_up(at_once=True)

    def use_learned(self) -> None:
        """Let the detector use the site's scorer as it is on the disk now; without one the bundle's own."""
        path = self._site.scorer_path
        stamp = file_stamp(path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            learned = None if stamp is None else read_learned(self._site)
        except HeadHuntError as error:
            # The one before stays: a scorer must not change because a file cannot be read.
            log.error("%s; it is not used", one_line(error))
            return
        if learned is None:
            self._detector.site_scorer = None
            log.info("%s: the bundle's own scorer is used", self.name)
        else:
            self._detector.site_scorer = learned.scorer(self._site.calibration)
            log.info("%s: the site's scorer %d is used, of %d marks", self.name, learned.number, learned.marks)

    # ---- its own thread

    def _put(self, item: _Scored | EventRecord) -> None:
        with self._changed:
            if full := len(self._queue) >= _WAITING:
                self._queue.popleft()
            self._queue.append(item)
            if isinstance(item, EventRecord):
                # Somebody may mark it at once.
                self._urgent = True
                self._changed.notify()
        if full:
            self._left_out.happened(f"{self.name}: is written too slowly; the oldest are left out")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._urgent, _TICK_S)
                self._urgent = False
                closing, items = self._closing, list(self._queue) if self._zero is not None else []
                if items:
                    self._queue.clear()
            try:
                self.use_learned()
                self._write(items)
            except (OutputFailed, UsageError) as error:
                # A file that is damaged already when it is opened.
                if isinstance(error.__cause__, sqlite3.Error):
                    self._failed(error.__cause__, len(items))
                else:
                    self._failures.happened(f"{one_line(error)}; feedback misses {len(items)} segments and events")
            except sqlite3.Error as error:
                self._failed(error, len(items))
            except Exception:
                log.exception("%s: could not write", self.name)
            for trouble in (self._left_out, self._failures):
                trouble.sum_up()
            if closing:
                if self._store is not None:
                    self._store.close()
                return

    def _write(self, items: list[_Scored | EventRecord]) -> None:
        if self._store is None:
            self._store = self._site.open_store()
        zero, now = self._zero or 0.0, time.time()
        segments, events = [], []
        for item in items:
            if isinstance(item, EventRecord):
                if item.camera in self._cameras:
                    start, end = zero + item.start_s, zero + item.end_s
                    events.append(KnownEvent(item.id, item.camera, start, end, item.peak))
            elif np.isfinite(item.features).all() and self._has_room(item.camera, zero + item.start_s):
                start, end = zero + item.start_s, zero + item.end_s
                segments.append(Remembered(item.camera, start, end, item.score, item.features))
        if segments or events:
            self._store.remember(segments, events)
        if self._real is not None:
            self._real.look(self._store)
        if now - self._swept_s >= _SWEEP_S or now < self._swept_s:
            self._swept_s = now
            self._store.remove_older(now - self._retention_s)

    def _has_room(self, camera: str, at: float) -> bool:
        self._cameras.add(camera)
        assert self._store is not None
        key = (camera, int(at // DAY_S))
        if key not in self._today:
            self._today[key] = self._store.count_since(camera, key[1] * DAY_S)
            for old in [one for one in self._today if one[0] == camera and one[1] < key[1] - 1]:
                del self._today[old]
        if self._today[key] >= self._most_a_day:
            self._left_out.happened(f"{self.name}: camera {camera} has its bytes for today; no more are kept")
            return False
        self._today[key] += 1
        return True

    def _failed(self, error: sqlite3.Error, items: int) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        told = f"{self.name}: cannot be written ({error}); feedback misses {items} segments and events"
        if is_damage(error):
            try:
                set_aside(self._site.store_path, str(error), "features and marks of before are missing", "site")
            except OutputFailed as failure:
                told = one_line(failure)
        self._failures.happened(told)
