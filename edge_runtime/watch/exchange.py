"""Takes a bundle that was put in the place of another one while a run of live cameras lasts.

The one before goes on until the new one is verified, loaded, and has computed its golden segment. Then each camera's
next frame is the first that the new one sees, and what the one before has begun it still scores.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.detector import Detector
from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import FileStamp, file_stamp, shown_path
from edge_runtime.watch.detectors import Detectors

log = logging.getLogger(__name__)

# What is refused may be a copy that is still being written: it is looked at again after so long, and twice that.
_AGAIN_S, _AGAIN_MOST_S = 30.0, 3600.0
# A camera that is just being added may have been given the detector before.
_LEAVE_S = 5.0


class Exchanging(Protocol):
    """A run whose bundles can be exchanged; `LiveRun` for real."""

    def exchange(self, before: Detector, after: Detector, place: Path | None = None) -> None:
        """Let another detector score what one scores now; UsageError where it does not go with the run."""

    def uses(self, detector: Detector) -> bool:
        """Whether anything is or will be scored by it."""


@dataclass(slots=True, eq=False)
class _Place:
    """A folder with a bundle.

    Attributes:
        path: The folder.
        detector: What was opened there.
        read: Stamp of the manifest when it was.
        last: The stamp when it was looked at last.
        wait_s: How long is waited after the next failure.
        again_s: When a stamp that was refused is looked at again.
        refused: What was loaded and does not go with the run.
    """

    path: Path
    detector: Detector
    read: FileStamp | None
    last: FileStamp | None
    wait_s: float = _AGAIN_S
    again_s: float = float("inf")
    refused: Detector | None = None


@dataclass(slots=True, eq=False)
class _Leaving:
    """A detector that scores only what it has begun.

    Attributes:
        detector: The detector.
        after: What scores instead.
        place: Whose bundle it is.
        since_s: Since when it is not used.
    """

    detector: Detector
    after: Detector
    place: Path | None
    since_s: float


class Exchange:
    """Follows the bundles of a run, in a thread of its own.

    Args:
        detectors: Opens them.
        tick_s: How often the folders are looked at.
        leave_s: How long a detector that is not used any more is kept.

    Attributes:
        taken: Told of each bundle that came, by its folder, before anything is scored with it; by default nobody.
        retired: Told of each detector before it is closed; by default nobody.
    """

    def __init__(self, detectors: Detectors, tick_s: float = 1.0, leave_s: float = _LEAVE_S) -> None:
        self._detectors, self._tick_s, self._leave_s = detectors, tick_s, leave_s
        self.taken: Callable[[Path, Detector], None] = lambda path, detector: None
        self.retired: Callable[[Detector], None] = lambda detector: None
        self._lock = threading.Lock()
        self._stamps: dict[Path, FileStamp | None] = {}
        # By what tells whose they are: None is the run's own.
        self._places: dict[Path | None, _Place] = {}
        self._leaving: list[_Leaving] = []
        self._ended = threading.Event()

    def opening(self, path: Path) -> None:
        """A bundle is about to be opened: what is written from here on is another one. Any thread."""
        with self._lock:
            self._stamps[path] = file_stamp(path / MANIFEST)

    def follow(self, path: Path, detector: Detector, place: Path | None = None) -> None:
        """Look after a bundle that was opened. Any thread.

        Args:
            path: Its folder.
            detector: With it.
            place: As of the options of the cameras that it is for; None is the run's own.
        """
        with self._lock:
            stamp = self._stamps.get(path)
            self._places[place] = _Place(path, detector, stamp, stamp)

    @contextlib.contextmanager
    def watching(self, run: Exchanging) -> Iterator[None]:
        """Exchange bundles while the body lasts.

        A bundle that is being loaded when it ends is left behind: see `busy`.
        """
        thread = threading.Thread(target=self._guard, args=(run,), name="bundles", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(1.0)
            self.busy = thread.is_alive()

    #: Whether a bundle was still being loaded at the end, in native code that cannot be interrupted.
    busy = False

    def _guard(self, run: Exchanging) -> None:
        while not self._ended.wait(self._tick_s):
            try:
                self._look(run)
            except Exception:
                # The run goes on with the bundles that it has.
                log.exception("bundles are not exchanged any more in this run")
                return

    def _look(self, run: Exchanging) -> None:
        with self._lock:
            places = list(self._places.items())
        for name, place in places:
            stamp = file_stamp(place.path / MANIFEST)
            # One that is written in pieces is waited for.
            settled, place.last = stamp == place.last, stamp
            if settled and stamp is not None and (stamp != place.read or time.monotonic() >= place.again_s):
                self._take(run, name, place, stamp)
        for leaving in list(self._leaving):
            if run.uses(leaving.detector):
                # Of a camera that was added meanwhile.
                run.exchange(leaving.detector, leaving.after, leaving.place)
                leaving.since_s = time.monotonic()
            elif time.monotonic() - leaving.since_s >= self._leave_s:
                self._leaving.remove(leaving)
                with self._lock:
                    wanted = any(
                        leaving.detector in (place.detector, place.refused) for place in self._places.values()
                    )
                if not wanted:
                    self.retired(leaving.detector)
                    self._detectors.retire(leaving.detector)

    def _take(self, run: Exchanging, name: Path | None, place: _Place, stamp: FileStamp) -> None:
        path, shown, before = place.path, shown_path(place.path), place.detector
        if stamp != place.read:
            place.wait_s = _AGAIN_S
            self._leave_refused(name, place)
        place.read, place.again_s = stamp, float("inf")
        after: Detector | None = None
        try:
            after = self._detectors.open_at(path)
            if after is before:
                return
            log.info("%s: another bundle is there, %s", shown, after.bundle.manifest.bundle_id[:8])
            self.taken(path, after)
            run.exchange(before, after, name)
        except (HeadHuntError, OSError) as error:
            if self._ended.is_set():
                return
            place.again_s = time.monotonic() + place.wait_s
            place.wait_s = min(2 * place.wait_s, _AGAIN_MOST_S)
            place.refused = after
            log.error("%s: %s; the bundle before goes on", shown, one_line(error))
            return
        place.detector, place.refused = after, None
        mine = [one for one in self._leaving if one.place == name and one.detector is not after]
        for one in mine:
            one.after = after
        others = [one for one in self._leaving if one.place != name]
        self._leaving = [*others, *mine, _Leaving(before, after, name, time.monotonic())]
        log.warning(
            "%s: the bundle %s scores from here on, instead of %s",
            shown,
            after.bundle.manifest.bundle_id[:8],
            before.bundle.manifest.bundle_id[:8],
        )

    def _leave_refused(self, name: Path | None, place: _Place) -> None:
        """What was loaded and refused is closed when another bundle is there: it would keep its memory to the end."""
        if place.refused is not None:
            self._leaving.append(_Leaving(place.refused, place.detector, name, time.monotonic()))
            place.refused = None
