"""What makes an alarm at each camera, and who said so: the bundle, the configuration, the page, or a budget.

The page's word goes before the configuration's, a camera's own before that of all. A threshold and a budget exclude
each other; until a budget is in force, the bundle's threshold holds. What was set on the page lies in the site's
`alarms.json`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import UsageError
from edge_runtime.files import printable
from edge_runtime.site.budget import Arrays, Budget, EventCounts
from edge_runtime.site.page_alarms import PageAlarm, read_page_alarms, write_page_alarm
from edge_runtime.site.trial import Counted, Tried, TriedAlarm, tried
from edge_runtime.site.wish import AlarmNow, AlarmWish, By
from edge_runtime.stream.alarm import Alarm

__all__ = ["AlarmNow", "AlarmWish", "Alarms", "By", "Counted", "Tried", "TriedAlarm", "tried"]

log = logging.getLogger(__name__)

# Where nobody has said how long a segment is: 48 frames at 15 frames a second.
_STEP_S = 3.2


@dataclass(slots=True, eq=False)
class _Camera:
    """One camera; all but `configured` is known once it was watched.

    Attributes:
        calibrated: Its locator's threshold.
        step_s: From one segment to the next.
        bundle_id: What scores it; empty where it is not known yet.
        configured: As the configuration wants it.
        events: What each threshold would have given.
        budget: Where one is wanted: how many a day, and what keeps it.
        apply: Gives its stream an alarm.
    """

    calibrated: float
    step_s: float
    configured: AlarmWish
    bundle_id: str = ""
    events: EventCounts = field(default_factory=EventCounts)
    budget: tuple[float, Budget] | None = None
    apply: Callable[[Alarm], None] | None = None


class Alarms:
    """What holds for all cameras of a run. Any thread may call anything.

    Args:
        path: Where the page's own settings lie; None keeps none.
        calibrated: The threshold of cameras of which nothing else is said.
        step_s: From one segment to the next, likewise.
    """

    def __init__(self, path: Path | None = None, *, calibrated: float = 0.5, step_s: float = _STEP_S) -> None:
        self._path, self._calibrated, self._step_s = path, calibrated, step_s
        self._everybody = AlarmWish()
        self._cameras: dict[str, _Camera] = {}
        self._page: dict[str, PageAlarm] = {} if path is None else read_page_alarms(path)
        self._passed_over: set[str] = set()
        # Around the file, which a slow disk may take long for: nobody who scores waits for it.
        self._writing = threading.Lock()
        self._lock = threading.Lock()

    # ---- what is wanted

    def configure(
        self,
        cameras: Mapping[str, AlarmWish],
        everybody: AlarmWish | None = None,
        calibrated: Mapping[str, float] | None = None,
    ) -> None:
        """Say what the configuration wants; it holds from the next segment of each camera.

        Args:
            cameras: By their names, with what is wanted of all cameras put in already.
            everybody: Wanted of cameras that are not among them.
            calibrated: Thresholds of cameras whose locator is known.
        """
        with self._lock:
            self._everybody = everybody or AlarmWish()
            for name, known in self._cameras.items():
                if name not in cameras:
                    known.configured = self._everybody
            for name, wish in cameras.items():
                known = self._known(name)
                known.configured = wish
                if known.apply is None and calibrated is not None and name in calibrated:
                    known.calibrated, known.budget = calibrated[name], None
            for name in self._cameras:
                self._settle(name)

    def set(
        self,
        camera: str,
        *,
        threshold: float | None = None,
        budget_per_day: float | None = None,
        min_duration_s: float | None = None,
        cooldown_s: float | None = None,
    ) -> AlarmNow:
        """Set a camera's alarm on the page, instead of what was set there before. It holds from the next segment.

        Args:
            camera: Its name.
            threshold: As of `AlarmWish`; without it and a budget the configuration's or the bundle's holds.
            budget_per_day: As of `AlarmWish`.
            min_duration_s: As of `AlarmWish`.
            cooldown_s: As of `AlarmWish`.

        Raises:
            UsageError: As of `AlarmWish`, or nothing can be kept.
            OutputFailed: It cannot be written; what held before holds.
        """
        wish = AlarmWish(
            threshold=threshold, budget_per_day=budget_per_day, min_duration_s=min_duration_s, cooldown_s=cooldown_s
        )
        with self._writing:
            with self._lock:
                bundle_id = self._known(camera).bundle_id
            now = self._keep(camera, PageAlarm.of(bundle_id, threshold, budget_per_day, min_duration_s, cooldown_s))
        # A warning: who asks why alarms have changed should find it, --quiet or not.
        log.warning("camera %s: alarm set on the page: %s", printable(camera), wish)
        return now

    def reset(self, camera: str) -> AlarmNow:
        """Take back what was set on the page.

        Raises:
            OutputFailed: It cannot be written; what held before holds.
        """
        with self._writing:
            if camera not in self._page:
                return self.of(camera)
            now = self._keep(camera, None)
        log.warning(
            "camera %s: what was set on the page is taken back; the alarm is as configured", printable(camera)
        )
        return now

    def of(self, camera: str) -> AlarmNow:
        """What holds for a camera."""
        with self._lock:
            self._known(camera)
            return self._now(camera)

    # ---- what is seen

    def begin(
        self, camera: str, apply: Callable[[Alarm], None], calibrated: float, step_s: float, bundle_id: str
    ) -> AlarmNow:
        """A stream of a camera begins.

        Args:
            camera: Its name.
            apply: Gives the stream an alarm; called at once, whenever it changes, and by any thread.
            calibrated: Its locator's threshold.
            step_s: From one segment to the next.
            bundle_id: What scores it.
        """
        with self._lock:
            known = self._known(camera)
            if known.bundle_id not in ("", bundle_id):
                known.events.restart()
            known.apply, known.calibrated, known.step_s, known.bundle_id = apply, calibrated, step_s, bundle_id
            known.events.interrupt()
            # Of other thresholds and lengths, maybe.
            known.budget = None
            if self._is_foreign(camera, known) and camera not in self._passed_over:
                self._passed_over.add(camera)
                log.warning(
                    "camera %s: the threshold that was set on the page was for another bundle, and does not hold; "
                    "set it again",
                    printable(camera),
                )
            return self._settle(camera)

    def end(self, camera: str) -> None:
        """The stream of a camera ends."""
        with self._lock:
            self._known(camera).apply = None

    def located(self, camera: str, index: int, smoothed: float) -> None:
        """Count a segment whose smoothed score is final.

        Args:
            camera: Whose it is.
            index: Of the segment in its stream.
            smoothed: Its smoothed score.
        """
        with self._lock:
            known = self._known(camera)
            if known.budget is None:
                known.events.push(index, smoothed)
                return
            budget = known.budget[1]
            before = budget.threshold
            if budget.push(index, smoothed).value != before.value:
                self._settle(camera)

    def discount(self, camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        """Take an event out of a camera's counts: operators say that it was real.

        Args:
            camera: The camera.
            peak: The highest smoothed score of the event.
            ago_s: How long ago it began, in seconds; what is older than the counts changes nothing.
            back: They say so no more.
        """
        with self._lock:
            known = self._known(camera)
            known.events.discount(peak, max(0, round(ago_s / known.step_s)), back=back)

    def restart(self, camera: str) -> None:
        """Scores mean something else from now on: count anew."""
        with self._lock:
            known = self._known(camera)
            known.events.restart()
            known.budget = None
            self._settle(camera)

    def arrays(self, camera: str) -> dict[str, Any]:
        """A copy of what has to be kept of a camera's counts over a restart."""
        with self._lock:
            return {name: array.copy() for name, array in self._known(camera).events.arrays().items()}

    def restore(self, camera: str, arrays: Arrays) -> None:
        """Go on from what `arrays` gave.

        Raises:
            KeyError: As of `EventCounts.restore`.
            ValueError: As of `EventCounts.restore`.
        """
        with self._lock:
            known = self._known(camera)
            known.events.restore(arrays)
            known.budget = None
            self._settle(camera)

    def _keep(self, camera: str, page: PageAlarm | None) -> AlarmNow:
        if self._path is None:
            raise UsageError(
                "alarms cannot be set here: this run keeps nothing of its site; write `site: {}` into its "
                "configuration, or set `alarm:` there"
            )
        written = write_page_alarm(self._path, self._page, camera, page)
        with self._lock:
            self._page = written
            self._known(camera)
            return self._settle(camera)

    # ---- under the lock

    def _known(self, name: str) -> _Camera:
        if (known := self._cameras.get(name)) is None:
            known = self._cameras[name] = _Camera(self._calibrated, self._step_s, self._everybody)
        return known

    def _is_foreign(self, name: str, known: _Camera) -> bool:
        """Whether the page's threshold was for another bundle's scores."""
        page = self._page.get(name)
        return (
            page is not None
            and page.threshold is not None
            and bool(known.bundle_id and page.bundle_id)
            and known.bundle_id != page.bundle_id
        )

    def _page_wish(self, name: str, known: _Camera) -> AlarmWish:
        if (page := self._page.get(name)) is None:
            return AlarmWish()
        return AlarmWish(
            threshold=None if self._is_foreign(name, known) else page.threshold,
            budget_per_day=page.budget_per_day,
            min_duration_s=page.min_duration_s,
            cooldown_s=page.cooldown_s,
        )

    def _settle(self, name: str) -> AlarmNow:
        """Let what is wanted hold, in the camera's stream too."""
        known = self._cameras[name]
        wish = self._page_wish(name, known).over(known.configured)
        if known.events.define(*wish.alarm(known.calibrated).in_segments(known.step_s)):
            known.budget = None
        per_day = wish.budget_per_day
        if per_day is None:
            known.budget = None
        elif known.budget is None or known.budget[0] != per_day:
            known.budget = per_day, Budget(per_day, known.calibrated, known.step_s, events=known.events)
        now = self._now(name)
        if known.apply is not None:
            known.apply(now.alarm)
        return now

    def _now(self, name: str) -> AlarmNow:
        known = self._cameras[name]
        page = self._page_wish(name, known)
        wish = page.over(known.configured)
        threshold, missing = known.calibrated, 0
        by: By = "bundle"
        if wish.threshold is not None:
            by = "config" if page.threshold is None else "page"
        elif known.budget is not None:
            kept = known.budget[1].threshold
            threshold, missing = kept.value, kept.missing
            by = "budget" if kept.by_budget else "bundle"
        alarm = wish.alarm(threshold)
        return AlarmNow(
            alarm.threshold,
            by,
            alarm.min_duration_s,
            alarm.cooldown_s,
            wish.budget_per_day,
            missing,
            name in self._page,
        )
