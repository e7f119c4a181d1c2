"""Answers about cameras: what they are like, their pictures and scores, and when their events are told."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edge_runtime.server import shapes
from edge_runtime.server.answers import Refused, Reply
from edge_runtime.server.operations import Call, Operation
from edge_runtime.server.parts import AlarmPart, CameraControl, Counted, TriedAlarm, shown_alarm
from edge_runtime.server.state import utc
from edge_runtime.site.history import DAY_S, EventFilter, History, Past, PastEvent

_LISTED = 200
# Events that alarms of the past are looked up among.
_TOLD = 10_000
_NO_HISTORY = "no history is kept of this run; see its log"
_NO_ALARMS = "alarms cannot be set in this run; write `site: {}` into the configuration"
_NO_CONTROL = "cameras of this run cannot be changed; run it with --config or --http"
# A gap of so many segments breaks a line that is drawn.
_APART = 3.0


def named(call: Call) -> str:
    """The camera in the path.

    Raises:
        Refused: There is none.
    """
    return _known(call).name


def _known(call: Call) -> shapes.Camera:
    name = call.path["name"]
    camera = call.parts.state.camera(name)
    if camera is None:
        raise Refused(404, f"there is no camera called {name[:100]!a}; /api/cameras lists them")
    return camera


def _cameras(call: Call) -> shapes.Cameras:
    return shapes.Cameras(cameras=call.parts.state.cameras())


def _control(call: Call) -> CameraControl:
    control: CameraControl = call.part("cameras", _NO_CONTROL)
    return control


def _add(call: Call) -> shapes.Camera:
    control, wanted = _control(call), call.body
    if call.parts.state.camera(wanted.name) is not None:
        raise Refused(409, f"there is a camera called {wanted.name}; choose another name")
    control.add(wanted)
    added = call.parts.state.camera(wanted.name)
    if added is None:
        raise Refused(409, f"camera {wanted.name} was removed meanwhile")
    return added


def _remove(call: Call) -> Reply:
    _control(call).remove(named(call))
    return Reply(b"", "", 204)


def _pause(call: Call) -> shapes.Camera:
    _control(call).pause(named(call), True)
    return _known(call)


def _resume(call: Call) -> shapes.Camera:
    _control(call).pause(named(call), False)
    return _known(call)


def _picture(call: Call) -> Reply:
    pictures = call.part("pictures", "this run makes no live pictures")
    camera = _known(call)
    jpeg = pictures.picture(camera.name) if camera.picture else None
    if jpeg is None:
        why = "the first picture is being made" if camera.picture else f"camera {camera.name} {camera.detail}"
        raise Refused(503, f"{why}; ask again", {"retry-after": "1"})
    return Reply(jpeg, "image/jpeg")


# ---- scores


def _past(call: Call, camera: str, start: float, end: float) -> Past:
    past: Past = call.part("history", _NO_HISTORY).scores(camera, start, end)
    return past


def _scores(call: Call) -> shapes.Scores:
    camera, query = named(call), call.query
    end = time.time() if query.to is None else query.to.timestamp()
    start = end - 3600.0 if query.begin is None else query.begin.timestamp()
    if not 0 < end - start <= 366 * DAY_S:
        raise Refused(400, "`from` lies before `to`, by a year at most")
    return binned(_past(call, camera, start, end), start, end, query.points)


def binned(past: Past, start: float, end: float, points: int) -> shapes.Scores:
    """The highest score in each of some steps; null where a gap is longer than a few segments and steps."""
    step_s = (end - start) / points
    places = np.clip(((past.starts - start) / step_s).astype(np.int64), 0, points - 1)
    highest = np.full(points, -np.inf)
    np.maximum.at(highest, places, past.smoothed)
    found = np.flatnonzero(highest > -np.inf)
    length_s = float(np.median(past.ends - past.starts)) if len(past.starts) else 0.0
    apart_s = max(_APART * length_s, 1.5 * step_s)
    scores: list[shapes.Pair] = []
    before = None
    for place in found.tolist():
        at = round(start + place * step_s, 3)
        if before is not None and at - before > apart_s:
            scores.append([round(before + step_s, 3), None])
        scores.append([at, round(float(highest[place]), 6)])
        before = at
    return shapes.Scores(step_s=round(step_s, 6), scores=scores)


# ---- alarms


def _alarm(call: Call) -> shapes.Alarm:
    return _known(call).alarm


def _alarms(call: Call) -> AlarmPart:
    alarms: AlarmPart = call.part("alarms", _NO_ALARMS)
    return alarms


def _set_alarm(call: Call) -> shapes.Alarm:
    part, camera, wanted = _alarms(call), named(call), call.body
    if wanted.threshold is not None and wanted.budget_per_day is not None:
        raise Refused(400, "a threshold and a budget exclude each other; give one of them")
    now = part.alarms.set(
        camera,
        threshold=wanted.threshold,
        budget_per_day=wanted.budget_per_day,
        min_duration_s=wanted.min_duration,
        cooldown_s=wanted.cooldown,
    )
    call.parts.state.refresh(camera)
    return shown_alarm(now)


def _reset_alarm(call: Call) -> shapes.Alarm:
    part, camera = _alarms(call), named(call)
    now = part.alarms.reset(camera)
    call.parts.state.refresh(camera)
    return shown_alarm(now)


def _try(call: Call) -> shapes.Tried:
    part, camera, query = _alarms(call), named(call), call.query
    end = time.time()
    start = end - query.days * DAY_S
    past = _past(call, camera, start, end)
    holds = part.alarms.of(camera)
    tried = part.tried(
        past.starts,
        past.ends,
        past.smoothed,
        part.alarm(holds.threshold, holds.min_duration_s, holds.cooldown_s),
        part.alarm(query.threshold, query.min_duration, query.cooldown),
    )
    history: History = call.part("history", _NO_HISTORY)
    told = history.events(EventFilter(camera=camera, start=start, limit=_TOLD)).events
    return shapes.Tried(
        days=round(tried.days, 5),
        now=_counted(tried.now),
        then=_counted(tried.then),
        gone_count=tried.gone_count,
        new_count=tried.new_count,
        gone=[_stretch(alarm, told) for alarm in tried.gone[-_LISTED:]],
        new=[_stretch(alarm, told) for alarm in tried.new[-_LISTED:]],
    )


def _counted(counted: Counted) -> shapes.Counted:
    return shapes.Counted(alarms=counted.alarms, per_day=round(counted.per_day, 2))


def _stretch(alarm: TriedAlarm, told: Sequence[PastEvent]) -> shapes.Stretch:
    event = next((one.id for one in told if one.start < alarm.end and alarm.start < one.end), None)
    return shapes.Stretch(start=utc(alarm.start), end=utc(alarm.end), peak=round(alarm.peak, 6), event=event)


_ONE = "/api/cameras/{name}"

OPERATIONS = (
    Operation(
        method="GET", path="/api/cameras", does="All cameras.", tag="cameras", answer=_cameras, gives=shapes.Cameras
    ),
    Operation(
        method="POST",
        path="/api/cameras",
        does="Watch a camera from now on, also after a restart.",
        tag="cameras",
        answer=_add,
        body=shapes.NewCamera,
        gives=shapes.Camera,
        status=201,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="GET",
        path=_ONE,
        does="One camera.",
        tag="cameras",
        answer=_known,
        gives=shapes.Camera,
        refusals=(404,),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        does="Watch a camera that was added here no more.",
        tag="cameras",
        answer=_remove,
        status=204,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/pause",
        does="Stop watching a camera until it is resumed.",
        tag="cameras",
        answer=_pause,
        gives=shapes.Camera,
        role="act",
        refusals=(404, 409),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/resume",
        does="Watch a camera that was paused.",
        tag="cameras",
        answer=_resume,
        gives=shapes.Camera,
        role="act",
        refusals=(404, 409),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/picture",
        does="The newest picture, once a second while it is asked for.",
        tag="cameras",
        answer=_picture,
        gives="image/jpeg",
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/scores",
        does="Smoothed scores of a stretch, the highest of each step.",
        tag="scores",
        answer=_scores,
        query=shapes.ScoresQuery,
        gives=shapes.Scores,
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/alarm",
        does="When events of a camera are told.",
        tag="alarms",
        answer=_alarm,
        gives=shapes.Alarm,
        refusals=(404,),
    ),
    Operation(
        method="PUT",
        path=f"{_ONE}/alarm",
        does="Tell events otherwise from now on.",
        tag="alarms",
        answer=_set_alarm,
        body=shapes.NewAlarm,
        gives=shapes.Alarm,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="DELETE",
        path=f"{_ONE}/alarm",
        does="Back to the configuration's.",
        tag="alarms",
        answer=_reset_alarm,
        gives=shapes.Alarm,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/alarm/try",
        does="What another setting would have told in the last days.",
        tag="alarms",
        answer=_try,
        query=shapes.TryQuery,
        gives=shapes.Tried,
        refusals=(404, 503),
        slow=True,
    ),
)
