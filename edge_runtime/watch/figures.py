"""What a run counts, for whoever watches over it: cameras, scoring, outputs, memory.

Everything is counted where it happens, in plain numbers that one thread writes; `RunFigures.take` reads them. No lock
that scoring or a camera takes is held for longer than it takes to copy a list.
"""

from __future__ import annotations

import math
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from edge_runtime.outputs.clips import Clips
from edge_runtime.outputs.sink import OutputFigures, Outputs
from edge_runtime.outputs.spool import Spool, Waiting
from edge_runtime.records import GapReason, Quality, SegmentRecord
from edge_runtime.watch.tally import Tally

#: Upper bounds of what is counted together, in seconds: a segment lasts some seconds, and `full` waits for several.
DECISION_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
SCORING_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SEGMENTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_HOUR_S = 3600.0
# What waits in the spool is counted by a query over all of it.
_SPOOL_S = 5.0
_PROC = Path("/proc/self")


class Histogram:
    """Counts values by the bucket that they fall into. One thread observes; any may look.

    Args:
        bounds: Upper bounds, rising; a value that equals one belongs to it.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def distribution(self) -> Distribution:
        """What it has counted."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram has counted.

    Attributes:
        bounds: Upper bounds of all buckets but the last.
        counts: Values in each bucket; one more than there are bounds.
        total: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def up_to(self) -> list[tuple[float, int]]:
        """How many values are not above each bound; the last bound is infinite."""
        found, so_far = [], 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class ScoringCounts:
    """What the loop that scores counts. One thread uses it.

    Attributes:
        seconds: How long each call took that scored segments.
        batch: How many segments each had.
        ahead_s: How long frames were encoded before their segment ended, in all.
    """

    def __init__(self) -> None:
        self.seconds = Histogram(SCORING_S)
        self.batch = Histogram(BATCH_SEGMENTS)
        self.ahead_s = 0.0

    def scored(self, segments: int, seconds: float) -> None:
        """A call scored so many segments in so long."""
        self.seconds.observe(seconds)
        self.batch.observe(segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFigures:
    """One camera.

    Attributes:
        name: Its name.
        up: Whether it gives frames.
        frames: How many came.
        last_frame_age_s: How long ago the last one came, or since when it is watched where none has.
        tally: Of its records.
        reconnections: How often it came back.
        recent_reconnections: The same within the last hour.
        quality: What is wrong with its picture.
        waiting: Segments that wait to be scored.
        decision: From the end of each segment to its record, in seconds.
    """

    name: str
    up: bool
    frames: int
    last_frame_age_s: float
    tally: Tally
    reconnections: int
    recent_reconnections: int
    quality: tuple[Quality, ...]
    waiting: int
    decision: Distribution

    @property
    def last(self) -> SegmentRecord | None:
        """The record of its last segment."""
        return self.tally.last

    def gaps(self, reason: GapReason) -> tuple[int, float]:
        """How many gaps it had for a reason, and how many seconds they were long together."""
        return self.tally.counts.get(reason, 0), self.tally.gap_s.get(reason, 0.0)


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """The process; None where the system does not say."""

    resident_bytes: int | None = None
    threads: int | None = None
    open_files: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of a run at one moment.

    Attributes:
        run: Its id; empty before it has begun, and for files.
        bundle_id: What scores.
        started: When it began.
        cameras: Those that are watched now.
        scoring_seconds: How long each call took that scored segments.
        scoring_batch: How many segments each had.
        ahead_s: How long frames were encoded ahead of that, in seconds in all.
        outputs: What waits in memory for each, and what each lost.
        spool: What waits there, by output; outputs for which nothing waits are left out.
        spooled: All outputs that are behind the spool.
        spool_lost: Records that were dropped from it.
        spool_in_memory: Whether its disk takes nothing.
        clips: Bytes in the folder of clips, and how many it may hold; None without one.
        clips_failing: Whether that folder cannot be written.
        process: Memory, threads and files.
    """

    run: str = ""
    bundle_id: str = ""
    started: datetime | None = None
    cameras: tuple[CameraFigures, ...] = ()
    scoring_seconds: Distribution
    scoring_batch: Distribution
    ahead_s: float = 0.0
    outputs: tuple[OutputFigures, ...] = ()
    spool: Mapping[str, Waiting]
    spooled: frozenset[str] = frozenset()
    spool_lost: int | None = None
    spool_in_memory: bool = False
    clips: tuple[int, int] | None = None
    clips_failing: bool = False
    process: ProcessFigures


class Counted(Protocol):
    """A run that counts; `LiveRun` for real."""

    @property
    def run_id(self) -> str:
        """What the ids of its events begin with."""

    @property
    def bundle_id(self) -> str:
        """What scores."""

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC."""

    @property
    def scoring(self) -> ScoringCounts:
        """What its loop counts."""

    def figures(self) -> list[CameraFigures]:
        """Its cameras."""


class RunFigures:
    """Looks at what a run counts. Any thread may ask, and whatever is missing is left out.

    Args:
        monotonic: The clock. For tests.

    Attributes:
        outputs: Where records go.
        spool: Where they wait.
        clips: Snapshots and clips.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.outputs: Outputs | None = None
        self.spool: Spool | None = None
        self.clips: Clips | None = None
        self._monotonic = monotonic
        self._run: Counted | None = None
        self._nothing = ScoringCounts()
        self._lock = threading.Lock()
        self._spooled: tuple[float, Mapping[str, Waiting]] = (-math.inf, {})

    def follow(self, run: Counted) -> None:
        """Look at this run from now on."""
        self._run = run

    def take(self) -> Figures:
        """All that is counted now."""
        run, spool, clips = self._run, self.spool, self.clips
        scoring = self._nothing if run is None else run.scoring
        return Figures(
            run="" if run is None else run.run_id,
            bundle_id="" if run is None else run.bundle_id,
            started=None if run is None else run.started_at,
            cameras=() if run is None else tuple(run.figures()),
            scoring_seconds=scoring.seconds.distribution(),
            scoring_batch=scoring.batch.distribution(),
            ahead_s=scoring.ahead_s,
            outputs=() if self.outputs is None else self.outputs.figures(),
            spool={} if spool is None else self._waiting(spool),
            spooled=frozenset() if spool is None else spool.sinks,
            spool_lost=None if spool is None else spool.lost,
            spool_in_memory=spool is not None and spool.in_memory,
            clips=None if clips is None else (clips.shelf.used, clips.shelf.most_bytes),
            clips_failing=clips is not None and clips.failing,
            process=process_figures(),
        )

    def _waiting(self, spool: Spool) -> Mapping[str, Waiting]:
        with self._lock:
            now_s = self._monotonic()
            if now_s - self._spooled[0] >= _SPOOL_S:
                self._spooled = (now_s, spool.waiting)
            return self._spooled[1]


def recent(times_s: Sequence[float], now_s: float) -> int:
    """How many of some moments lie within the last hour."""
    return sum(now_s - at_s <= _HOUR_S for at_s in times_s)


def process_figures() -> ProcessFigures:
    """Memory, threads and open files of this process."""
    try:
        # Behind the name, which may hold anything: 22 fields on are the pages, 18 the threads (proc(5)).
        fields = (_PROC / "stat").read_text(errors="replace").rpartition(")")[2].split()
        resident, threads = int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), int(fields[17])
        return ProcessFigures(resident, threads, len(os.listdir(_PROC / "fd")))
    except (OSError, ValueError, IndexError):
        return ProcessFigures()
