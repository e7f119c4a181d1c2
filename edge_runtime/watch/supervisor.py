"""Keeps the cameras of a run as they are wanted: by the hour, by who pauses them, and by what the file says now."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from edge_runtime.errors import Conflict, HeadHuntError, UsageError, one_line
from edge_runtime.files import FileStamp, file_stamp, printable, shown_path
from edge_runtime.stream.clock import rfc3339
from edge_runtime.video.sources import Source
from edge_runtime.watch.boards import Boards, CameraBoard
from edge_runtime.watch.config import SECRETS, Plan, PlannedCamera
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.stopping import Stop

log = logging.getLogger(__name__)

# What can change while a run lasts; all else waits for the next one.
_CHANGES = {"version", "cameras", "locator", "timezone", "alarm"}

# Of the configuration's files, in order.
_Stamps = tuple[FileStamp | None, ...]


class Cameras(Protocol):
    """A run whose cameras come and go; `LiveRun` for real."""

    @property
    def names(self) -> list[str]:
        """Of all cameras, those that are ending included."""

    def add(self, source: Source, options: CameraOptions | None = None) -> None:
        """Start a camera; UsageError where one of that name is there, or the run has ended."""

    def remove(self, name: str) -> None:
        """Stop a camera; UsageError where there is none."""


class Supervisor:
    """Adds and removes cameras in a thread of its own.

    A configuration that is wrong, or that cannot be read, is told in one line, and what was there before stays. A
    camera that is paused is as one outside its schedule. It stays paused while it stays in the configuration; a new
    run watches it.

    Args:
        plan: What to begin with.
        read: Reads the configuration again. Raises HeadHuntError.
        asked: Set by anybody to have it read again, soon; by default an event of its own.
        added: Cameras beside those of the plan.
        options_of: Completes a camera's options when it is added, by the detector of its own bundle, say; raises
            HeadHuntError where it cannot be watched. By default they are as planned.
        follow: Whether to read it again when its files have changed, and are the same for two looks.
        tick_s: How often the clock and the files are looked at.
        now: The time. For tests.

    Attributes:
        plan: What holds now.
        board: Shows which cameras there are, whether they are paused, and why one is not watched. By default nothing.
        planned: Told of every plan that takes the place of one before, in any thread: alarms change
            without their cameras being begun anew. By default nobody.
    """

    def __init__(
        self,
        plan: Plan,
        read: Callable[[], Plan],
        asked: threading.Event | None = None,
        *,
        added: Iterable[PlannedCamera] = (),
        options_of: Callable[[PlannedCamera], CameraOptions] = attrgetter("options"),
        follow: bool = False,
        tick_s: float = 0.5,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._added = {camera.source.name: camera for camera in added}
        self.plan = self._joined(plan)
        self._first = plan
        self._read, self._follow = read, follow
        self._tick_s, self._now = tick_s, now
        self._asked = asked or threading.Event()
        self.board: CameraBoard = Boards()
        self.planned: Callable[[Plan], None] = lambda _: None
        # Around what is paused and which cameras there are, and telling it, so that the newest is told last.
        self._lock = threading.RLock()
        self._paused: set[str] = set()
        self._ended = False
        self._failure: BaseException | None = None
        self._watched: dict[str, PlannedCamera] = {}
        self._refused: dict[str, tuple[PlannedCamera, str]] = {}
        # Of each camera that is not watched: what was so when that was told.
        self._told: dict[str, tuple[PlannedCamera, bool]] = {}
        self._dropped: set[str] = set()
        self._options_of = options_of
        self._read_stamp = self._last_stamp = self._stamp() if follow else ()

    def add(self, camera: PlannedCamera) -> None:
        """Watch a camera beside those of the plan, within a second or two. Any thread may call it.

        Raises:
            Conflict: There is one of that name.
        """
        name = camera.source.name
        with self._lock:
            if self._planned(name) is not None:
                raise Conflict(f"there is a camera called {name}; choose another name")
            self._added = {**self._added, name: camera}
            self.plan = replace(self.plan, cameras=(*self.plan.cameras, camera))
            # Before the board shows what makes an event there.
            self.planned(self.plan)
            self.board.announce(name)
        log.warning("camera %s: is added by request, %s", name, camera.source.shown)

    def drop(self, name: str) -> None:
        """Watch a camera that was added no more. Any thread may call it.

        Raises:
            Conflict: It is in the plan, and stays.
            UsageError: There is none.
        """
        with self._lock:
            if name not in self._added:
                if self._planned(name) is None:
                    raise UsageError(f"there is no camera called {printable(name)}")
                raise Conflict(f"camera {name} is in {self._shown}; remove it there")
            self._added = {other: camera for other, camera in self._added.items() if other != name}
            self.plan = replace(
                self.plan, cameras=tuple(camera for camera in self.plan.cameras if camera.source.name != name)
            )
            self.planned(self.plan)
            # One that is added under its name before that is looked at is another one.
            self._dropped.add(name)
            self._paused.discard(name)
            self._told.pop(name, None)
            self.board.forget(name)
        log.warning("camera %s: is removed by request", name)

    def is_added(self, name: str) -> bool:
        """Whether a camera is one of those beside the plan. Waits for nothing."""
        return name in self._added

    def _joined(self, plan: Plan) -> Plan:
        """A plan with the cameras beside it; one whose name the plan has too is the plan's from then on."""
        names = {camera.source.name for camera in plan.cameras}
        for name in names & self._added.keys():
            log.warning("camera %s: is configured now; the one that was added by request is left out", name)
        self._added = {name: camera for name, camera in self._added.items() if name not in names}
        return replace(plan, cameras=(*plan.cameras, *self._added.values()))

    def locator_of(self, name: str) -> str | None:
        """The locator that a camera's events are told with; None where there is no such camera."""
        planned = self._planned(name)
        if planned is None:
            return None
        return planned.options.locator or self.plan.configuration.locator

    @property
    def paused(self) -> frozenset[str]:
        """Names of the cameras that are paused."""
        with self._lock:
            return frozenset(self._paused)

    def pause(self, name: str, paused: bool) -> None:
        """Stop watching a camera until it is resumed, or resume it, within a second or two. Any thread may call it.

        Args:
            name: Of the camera.
            paused: Whether it shall be paused from now on.

        Raises:
            UsageError: No such camera is configured, or it is disabled.
        """
        with self._lock:
            planned = self._planned(name)
            if planned is None:
                known = ", ".join(camera.source.name for camera in self.plan.cameras)
                raise UsageError(f"there is no camera called {printable(name)}; there are {known or 'none'}")
            if not planned.enabled:
                raise UsageError(f"camera {name} is disabled; enable it in {self._shown}, and it can be paused")
            changed = paused != (name in self._paused)
            if paused:
                self._paused.add(name)
            else:
                self._paused.discard(name)
            self.board.publish_pause(name, paused)
        if changed:
            # A warning: who looks for what is missing of this camera should find it, --quiet or not.
            log.warning("camera %s: %s", name, "is paused by request" if paused else "is resumed by request")

    @property
    def failed(self) -> bool:
        """Whether the thread has died: then the run should end."""
        return self._failure is not None

    @contextlib.contextmanager
    def watching(self, run: Cameras, stop: Stop) -> Iterator[None]:
        """Keep the cameras of `run` while the body lasts, or until `stop` is set.

        Raises:
            Exception: What a camera failed with, or a fault of this class, when the body has ended without one.
        """
        thread = threading.Thread(target=self._guard, args=(run, stop), name="supervisor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended = True
            self._asked.set()
            # A camera that is being removed takes half a second at most.
            thread.join(2.0)
        if self._failure is not None:
            raise self._failure

    def _guard(self, run: Cameras, stop: Stop) -> None:
        try:
            while not (self._ended or stop.is_set()):
                self._reconcile(run, stop)
                self._asked.wait(self._tick_s)
                # Looked at once: who asks behind that is heard the next time, and none is cleared unheard.
                if asked := self._asked.is_set():
                    self._asked.clear()
                if not self._ended and (asked or self._has_changed()):
                    self._read_again()
        except BaseException as error:  # noqa: BLE001  raised where the run ends
            self._failure = error

    # ---- cameras

    def _reconcile(self, run: Cameras, stop: Stop) -> None:
        moment = self._now()
        with self._lock:
            plan, paused = self.plan, set(self._paused)
            dropped, self._dropped = self._dropped, set()
        wanted = {
            camera.source.name: camera
            for camera in plan.cameras
            if camera.wanted(moment) and camera.source.name not in paused
        }
        for name, camera in list(self._watched.items()):
            new = wanted.get(name)
            if new is not None and new.watching == camera.watching and name not in dropped:
                continue
            why = self._why_not(name, moment, paused) or "is configured otherwise, and begun anew"
            log.info("camera %s: %s", name, why)
            del self._watched[name]
            # A reader may have ended the run meanwhile.
            if name in run.names:
                run.remove(name)
        for name in [name for name in wanted if name not in self._watched]:
            if self._ended or stop.is_set():
                return
            # One that is still ending is there until what it has finished is scored.
            if name not in run.names:
                self._add(run, wanted[name])
        self._tell_unwatched(plan, moment, paused)

    def _add(self, run: Cameras, camera: PlannedCamera) -> None:
        name = camera.source.name
        if name in self._refused and self._refused[name][0] is camera:
            return
        self._refused.pop(name, None)
        # Before its first record is.
        self._told.pop(name, None)
        self.board.publish_unwatched(name, None)
        try:
            run.add(camera.source, self._options_of(camera))
        except HeadHuntError as error:
            # Not tried again before the configuration is read again: checking a bundle takes seconds.
            self._refused[name] = (camera, f"cannot be watched: {one_line(error)}")
            if not self._ended:
                log.error("camera %s: %s", name, self._refused[name][1])
            return
        self._watched[name] = camera

    def _tell_unwatched(self, plan: Plan, moment: datetime, paused: set[str]) -> None:
        """Tell of each camera that is not watched why, when that has changed."""
        for camera in plan.cameras:
            name = camera.source.name
            now = (camera, name in paused)
            if name in self._watched or self._told.get(name) == now:
                continue
            why = self._why_not(name, moment, paused)
            if why is None and name in self._refused:
                why = self._refused[name][1]
            if why is not None:
                self._told[name] = now
                self.board.publish_unwatched(name, why)

    def _planned(self, name: str) -> PlannedCamera | None:
        return next((camera for camera in self.plan.cameras if camera.source.name == name), None)

    def _why_not(self, name: str, moment: datetime, paused: set[str]) -> str | None:
        """Why a camera is not wanted, in words; None where it is."""
        planned = self._planned(name)
        if planned is None:
            return "is no longer configured, and not watched any more"
        if not planned.enabled:
            return "is disabled, and not watched"
        if name in paused:
            return "is paused, and not watched until it is resumed"
        if planned.schedule is not None and not planned.wanted(moment):
            change = planned.schedule.next_change(moment)
            return f"is outside its schedule until {'further notice' if change is None else rfc3339(change)}"
        return None

    # ---- the configuration

    def _has_changed(self) -> bool:
        if not self._follow:
            return False
        stamp = self._stamp()
        # An editor that writes in pieces is waited for.
        settled, self._last_stamp = stamp == self._last_stamp, stamp
        return settled and stamp != self._read_stamp

    def _read_again(self) -> None:
        if self._follow:
            self._read_stamp = self._last_stamp = self._stamp()
        try:
            plan = self._read()
        except (HeadHuntError, OSError) as error:
            log.error("%s; the configuration before stays", one_line(error))
            return
        waits = [
            name
            for name in plan.configuration.__struct_fields__
            if name not in _CHANGES and getattr(plan.configuration, name) != getattr(self._first.configuration, name)
        ]
        if waits:
            log.warning("%s: changed, but held until the run is started again: %s", self._shown, ", ".join(waits))
        with self._lock:
            plan = self._joined(plan)
            before, after = ({camera.source.name: camera for camera in one.cameras} for one in (self.plan, plan))
            self._take_over(plan, before, after)

    def _take_over(self, plan: Plan, before: dict[str, PlannedCamera], after: dict[str, PlannedCamera]) -> None:
        same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
        log.info(
            "%s: read again; %d cameras added, %d removed, %d changed, %d as before",
            self._shown,
            len(after.keys() - before.keys()),
            len(before.keys() - after.keys()),
            len(before.keys() & after.keys()) - len(same),
            len(same),
        )
        self.plan = plan
        self.planned(plan)
        self._paused &= after.keys()
        for name in before.keys() - after.keys():
            self._told.pop(name, None)
            self.board.forget(name)
        for name in after.keys() - before.keys():
            self.board.announce(name)

    @property
    def _shown(self) -> str:
        return "the command line" if self.plan.path == Path() else shown_path(self.plan.path)

    def _stamp(self) -> _Stamps:
        return tuple(file_stamp(path) for path in (self.plan.path, self.plan.path.parent / SECRETS))


def check_reloaded(plan: Plan) -> Plan:
    """Refuse a configuration that a run of live cameras cannot take over while it lasts.

    Raises:
        UsageError: It holds a file.
    """
    for camera in plan.cameras:
        if not camera.source.live:
            raise UsageError(
                f"{shown_path(plan.path)}: cameras.{camera.source.name}.source: {camera.source.shown} is a file; "
                "it cannot run beside live cameras; write loop: in front of it to play it over and over"
            )
    return plan
