"""What the cameras of a run are like now, from its records and its board; and who is told when that changes.

Its memory is bounded: one entry a camera, a few hundred events, and a short queue for each who is told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from edge_runtime.records import CameraRecord, EventRecord, Record, RunRecord, SegmentRecord
from edge_runtime.server import shapes
from edge_runtime.stream.clock import rfc3339

log = logging.getLogger(__name__)

# Messages that may wait for one who is told: some 20 seconds of 40 cameras.
_WAITING = 500
_EVENTS = 200
# Numbers are given as records hold them.
_DECIMALS = 6
# The loop that scores says several times a second that it goes on.
_STUCK_S = 30.0

_NO_ALARM = shapes.Alarm(threshold=0.5, by="bundle")

Now = Callable[[], datetime]


@dataclass(slots=True)
class _Seen:
    """What was told of a camera."""

    since: str
    state: shapes.StateName = "starting"
    reason: str | None = None
    detail: str = "waits for its first picture"
    quality: dict[str, str] = field(default_factory=dict)
    unwatched: str | None = None
    paused: bool = False
    fps: float | None = None
    score: shapes.Score | None = None
    open_event: str | None = None


class Subscription:
    """What one listener has not been told yet. Ended by `close`, or when too much waits.

    Args:
        camera: Of which camera; None: of all.
        wake: Called from any thread when there is something; must not wait.
    """

    def __init__(self, camera: str | None, wake: Callable[[], None]) -> None:
        self.camera = camera
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._overflowed = False

    @property
    def overflowed(self) -> bool:
        """Whether it was too slow: what it would get is not whole any more."""
        return self._overflowed

    def put(self, message: bytes) -> None:
        """Let a message wait."""
        with self._lock:
            if self._overflowed:
                return
            if len(self._waiting) >= _WAITING:
                self._overflowed = True
                self._waiting.clear()
            else:
                self._waiting.append(message)
            # One who was woken takes all that waits.
            wake = self._overflowed or len(self._waiting) == 1
        if wake:
            self._wake()

    def take(self) -> bytes:
        """All that waits."""
        with self._lock:
            messages = b"".join(self._waiting)
            self._waiting.clear()
        return messages


class RunState:
    """A sink and a board: takes what a run says, and answers what its cameras are like. Any thread may call anything.

    Args:
        cameras: Names of those that are configured.
        alarm_of: When events of a camera are told. This and the two below are asked under a lock: they wait for
            nothing, and call nothing of this object.
        now: The time. For tests.
        monotonic: Seconds. For tests.

    Attributes:
        name: What logs call it.
        alarm_of: As above; may be set later.
        is_added: Whether a camera was added over the API; may be set later.
        has_picture: Whether a live picture of a camera can be asked for; may be set later.
    """

    def __init__(
        self,
        cameras: Sequence[str] = (),
        alarm_of: Callable[[str], shapes.Alarm] = lambda _: _NO_ALARM,
        now: Now = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "http"
        self.alarm_of = alarm_of
        self.is_added: Callable[[str], bool] = lambda _: False
        self.has_picture: Callable[[str], bool] = lambda _: False
        self._now, self._monotonic = now, monotonic
        self._lock = threading.Lock()
        self._run: RunRecord | None = None
        self._beat_s: float | None = None
        self._cameras = {camera: _Seen(self._time()) for camera in cameras}
        self._events: OrderedDict[str, shapes.Event] = OrderedDict()
        self._listeners: set[Subscription] = set()

    # ---- what is so

    @property
    def run(self) -> RunRecord | None:
        """The run's first record; None before."""
        return self._run

    def names(self) -> list[str]:
        """Names of all cameras."""
        with self._lock:
            return list(self._cameras)

    def camera(self, name: str) -> shapes.Camera | None:
        """A camera as it is now; None where there is none."""
        with self._lock:
            seen = self._cameras.get(name)
            return None if seen is None else self._shape(name, seen)

    def cameras(self) -> list[shapes.Camera]:
        """All cameras as they are now."""
        with self._lock:
            return [self._shape(name, seen) for name, seen in self._cameras.items()]

    def event(self, event: str) -> shapes.Event | None:
        """One of the newest events, without what only others know of it."""
        with self._lock:
            return self._events.get(event)

    def forget_events(self, camera: str | None, start: float, end: float) -> None:
        """Forget events that overlap a stretch, in seconds since 1970; of one camera or of all."""
        begin, behind = utc(start), utc(end)
        with self._lock:
            for event in list(self._events.values()):
                if camera in (None, event.camera) and event.end > begin and event.start < behind:
                    del self._events[event.id]

    def beat(self) -> None:
        """The loop that scores goes on."""
        self._beat_s = self._monotonic()

    def readiness(self) -> shapes.Readiness:
        """Whether cameras are being watched, and why not."""
        if self._run is None or self._beat_s is None:
            return shapes.Readiness(ready=False, reason="the bundle is being loaded")
        stuck_s = self._monotonic() - self._beat_s
        if stuck_s > _STUCK_S:
            return shapes.Readiness(ready=False, reason=f"nothing was scored for {stuck_s:.0f} seconds; see the log")
        wanted = [camera for camera in self.cameras() if camera.state != "unwatched"]
        if not wanted:
            return shapes.Readiness(ready=True, reason="no camera is to be watched now")
        online = sum(camera.state == "online" for camera in wanted)
        if not online:
            worst = wanted[0]
            return shapes.Readiness(
                ready=False, reason=f"no camera gives pictures; {worst.name} is {worst.state}: {worst.detail}"
            )
        return shapes.Readiness(ready=True, reason=f"{online} of {len(wanted)} cameras give pictures")

    def subscribe(self, camera: str | None, wake: Callable[[], None]) -> Subscription:
        """Be told of changes from now on, as server-sent events; begins with all cameras as they are.

        Args:
            camera: Of which camera; None: of all.
            wake: As of Subscription.
        """
        subscription = Subscription(camera, wake)
        with self._lock:
            self._listeners.add(subscription)
            asked = ((name, seen) for name, seen in self._cameras.items() if camera in (None, name))
            subscription.put(b"".join(_message("camera", self._shape(name, seen)) for name, seen in asked))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Be told nothing more."""
        with self._lock:
            self._listeners.discard(subscription)

    # ---- a sink

    def write(self, record: Record) -> None:
        """Take one record. A fault here is logged: an output that fails is written to no more."""
        try:
            self._take(record)
        except Exception:
            log.exception("http: a %s record could not be shown", record.type)

    def _take(self, record: Record) -> None:
        with self._lock:
            if isinstance(record, RunRecord):
                self._run = record
            elif isinstance(record, SegmentRecord):
                self._scored(record)
            elif isinstance(record, EventRecord):
                self._told(record)
            elif isinstance(record, CameraRecord):
                self._changed(record)

    def close(self) -> None:
        """Nothing more will be written."""

    def _scored(self, record: SegmentRecord) -> None:
        at, p = self._time_of(record), getattr(record, "p", UNSET)
        score, smoothed = round(record.score, _DECIMALS), round(record.smoothed, _DECIMALS)
        if (seen := self._cameras.get(record.camera)) is not None:
            seen.score = shapes.Score(
                time=at, score=score, smoothed=smoothed, p=None if p is UNSET else p, anomalous=record.anomalous
            )
        live = shapes.LiveScore(
            camera=record.camera, time=at, score=score, smoothed=smoothed, anomalous=record.anomalous
        )
        self._tell("score", record.camera, live)

    def _told(self, record: EventRecord) -> None:
        event = event_of(record, self._time_of(record))
        self._events[event.id] = event
        self._events.move_to_end(event.id)
        while len(self._events) > _EVENTS:
            self._events.popitem(last=False)
        seen = self._cameras.get(record.camera)
        if seen is not None:
            opened = None if record.state == "end" else record.id
            changed = opened != seen.open_event and (opened is not None or seen.open_event == record.id)
            if changed:
                seen.open_event = opened
                self._tell_camera(record.camera, seen)
        self._tell("event", record.camera, event)

    def _changed(self, record: CameraRecord) -> None:
        seen = self._cameras.get(record.camera)
        if seen is None:
            # One that was added by something else than the board, or is leaving.
            return
        at = self._time_of(record)
        state: shapes.StateName = "online" if record.state == "reconnected" else record.state
        reason = None if record.reason is UNSET else record.reason
        if (state, reason) != (seen.state, seen.reason):
            seen.since = at
        if record.quality is UNSET or (state, reason) != (seen.state, seen.reason):
            seen.detail = record.detail
        seen.state, seen.reason = state, reason
        if record.quality is not UNSET:
            wrong = [quality for quality in record.quality if quality != "ok"]
            if set(wrong) - seen.quality.keys():
                seen.detail = record.detail
            seen.quality = {quality: seen.quality.get(quality, at) for quality in wrong}
        if state != "online":
            seen.fps = None
        self._tell_camera(record.camera, seen)

    # ---- a board

    def announce(self, camera: str) -> None:
        """As of CameraBoard."""
        with self._lock:
            seen = self._cameras.setdefault(camera, _Seen(self._time()))
            self._tell_camera(camera, seen)

    def forget(self, camera: str) -> None:
        """As of CameraBoard."""
        with self._lock:
            if self._cameras.pop(camera, None) is not None:
                self._tell("gone", camera, {"name": camera})

    def publish_pause(self, camera: str, paused: bool) -> None:
        """As of CameraBoard."""
        with self._lock:
            if (seen := self._cameras.get(camera)) is not None and seen.paused != paused:
                seen.paused = paused
                self._tell_camera(camera, seen)

    def publish_unwatched(self, camera: str, why: str | None) -> None:
        """As of CameraBoard."""
        with self._lock:
            seen = self._cameras.get(camera)
            if seen is None or (seen.unwatched is None and why is None):
                return
            if (seen.unwatched is None) != (why is None):
                seen.since = self._time()
                # It begins anew, or has ended.
                seen.state, seen.reason, seen.detail = "starting", None, "waits for its first picture"
                seen.quality, seen.fps, seen.score = {}, None, None
            seen.unwatched = why
            self._tell_camera(camera, seen)

    def publish_rate(self, camera: str, fps: float) -> None:
        """As of CameraBoard."""
        with self._lock:
            seen = self._cameras.get(camera)
            rate = round(fps, 2) or None
            if seen is not None and seen.fps != rate:
                seen.fps = rate
                self._tell_camera(camera, seen)

    def refresh(self, camera: str) -> None:
        """Tell of a camera anew: something of it that this does not hold has changed, its alarm, say."""
        with self._lock:
            if (seen := self._cameras.get(camera)) is not None:
                self._tell_camera(camera, seen)

    # ---- inside the lock

    def _shape(self, name: str, seen: _Seen) -> shapes.Camera:
        watched = seen.unwatched is None
        try:
            alarm, added, picture = self.alarm_of(name), self.is_added(name), self.has_picture(name)
        except Exception:
            # Who tells of a camera must not fail for what others say of it.
            log.exception("camera %s: what others say of it cannot be shown", name)
            alarm, added, picture = _NO_ALARM, False, False
        return shapes.Camera(
            name=name,
            state=seen.state if watched else "unwatched",
            reason=seen.reason if watched else None,
            detail=seen.detail if seen.unwatched is None else seen.unwatched,
            since=seen.since,
            quality=list(seen.quality),
            quality_since=dict(seen.quality),
            paused=seen.paused,
            added=added,
            fps=seen.fps,
            score=seen.score,
            open_event=seen.open_event,
            alarm=alarm,
            picture=watched and picture,
        )

    def _tell_camera(self, name: str, seen: _Seen) -> None:
        if self._listeners:
            self._tell("camera", name, self._shape(name, seen))

    def _tell(self, kind: str, camera: str, shape: Any) -> None:
        if not self._listeners:
            return
        message = _message(kind, shape)
        for listener in self._listeners:
            if listener.camera in (None, camera):
                listener.put(message)

    def _time(self) -> str:
        return rfc3339(self._now())

    def _time_of(self, record: SegmentRecord | EventRecord | CameraRecord) -> str:
        return self._time() if record.time is UNSET else record.time


def event_of(record: EventRecord, end: str) -> shapes.Event:
    """An event as its record tells it.

    Args:
        record: One of its records.
        end: When it ended, or its last anomalous segment so far did.
    """
    seconds = record.end_s - record.start_s
    try:
        ended = datetime.fromisoformat(end).timestamp()
    except ValueError:
        ended = 0.0
    return shapes.Event(
        id=record.id,
        camera=record.camera,
        start=utc(ended - seconds),
        end=end,
        state="ended" if record.state == "end" else "open",
        seconds=round(seconds, 3),
        peak=round(record.peak, _DECIMALS),
        mean=round(record.mean, _DECIMALS),
        p=None if record.p is UNSET else record.p,
        snapshot=False,
        clip=False,
        seen=False,
        mark=None,
        description=None,
    )


def utc(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


def _message(kind: str, shape: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(shape))
