"""Answers about events: lists of them, one of them, and its snapshot, clip and what the model saw."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edge_runtime.server import shapes
from edge_runtime.server.answers import OpenFile, Refused
from edge_runtime.server.api_run import event_not_found
from edge_runtime.server.operations import Call, Operation
from edge_runtime.server.parts import Teaching
from edge_runtime.server.shelf_files import has_event_files, open_event_file
from edge_runtime.server.state import utc
from edge_runtime.site.history import EventFilter, PastEvent

_NO_HISTORY = "no history is kept of this run; see its log"
_NO_CLIPS = "no files of events are kept; write `clips: {path: …}` into the configuration"
_NO_FEEDBACK = "this run takes no feedback; write `feedback: {}` into the configuration"


def _events(call: Call) -> shapes.Events:
    query: shapes.EventsQuery = call.query
    history = call.part("history", _NO_HISTORY)
    verdicts = _verdicts(call)
    among = without = None
    if query.mark == "none":
        without = list(verdicts)
    elif query.mark is not None:
        among = [event for event, verdict in verdicts.items() if verdict == query.mark]
    page = history.events(
        EventFilter(
            camera=query.camera,
            start=None if query.begin is None else query.begin.timestamp(),
            end=None if query.to is None else query.to.timestamp(),
            open=None if query.state is None else query.state == "open",
            min_peak=query.min_peak,
            among=among,
            without=without,
            limit=query.limit,
            after=query.after,
        )
    )
    return shapes.Events(events=[_whole(call, _shape(event), verdicts) for event in page.events], next=page.next)


def found_event(call: Call) -> shapes.Event:
    """The event in the path, with what others know of it.

    Raises:
        Refused: There is none.
    """
    return _whole(call, _known(call), _verdicts(call))


def _known(call: Call) -> shapes.Event:
    """The event in the path, as it was told."""
    event, history = call.path["id"], call.parts.history
    past = None if history is None else history.event(event)
    # One that has just begun may not be written yet.
    shape = call.parts.state.event(event) if past is None else _shape(past)
    if shape is None:
        raise event_not_found(event)
    return shape


def _shape(event: PastEvent) -> shapes.Event:
    return shapes.Event(
        id=event.id,
        camera=event.camera,
        start=utc(event.start),
        end=utc(event.end),
        state="open" if event.open else "ended",
        seconds=round(event.end - event.start, 3),
        peak=round(event.peak, 6),
        mean=round(event.mean, 6),
        p=event.p,
        snapshot=False,
        clip=False,
        seen=False,
        mark=None,
        description=event.description,
    )


def _whole(call: Call, event: shapes.Event, verdicts: Mapping[str, shapes.Verdict]) -> shapes.Event:
    """An event with what others know of it."""
    files = has_event_files(call.parts.clips, event)
    return msgspec.structs.replace(
        event, snapshot=files["jpg"], clip=files["mp4"], seen=files["seen.jpg"], mark=verdicts.get(event.id)
    )


def _verdicts(call: Call) -> Mapping[str, shapes.Verdict]:
    teaching = call.parts.teaching
    return {} if teaching is None else teaching.verdicts()


def _file(call: Call, suffix: str, media: str) -> OpenFile:
    folder = call.part("clips", _NO_CLIPS)
    event = _known(call)
    descriptor = open_event_file(folder, event, suffix)
    if descriptor is None:
        raise Refused(404, "there is no such file of this event; it may be too old, or still being written")
    return OpenFile(descriptor, media)


def _snapshot(call: Call) -> OpenFile:
    return _file(call, "jpg", "image/jpeg")


def _clip(call: Call) -> OpenFile:
    return _file(call, "mp4", "video/mp4")


def _seen(call: Call) -> OpenFile:
    return _file(call, "seen.jpg", "image/jpeg")


def _describe(call: Call) -> shapes.Event:
    event = _known(call)
    if not call.part("history", _NO_HISTORY).describe(event.id, call.body.text):
        raise Refused(409, "this event is not written down yet; try again in a second")
    return found_event(call)


def _mark(call: Call) -> shapes.Event:
    teaching: Teaching = call.part("teaching", _NO_FEEDBACK)
    teaching.mark_event(_known(call).id, call.body.verdict)
    return found_event(call)


_ONE = "/api/events/{id}"

OPERATIONS = (
    Operation(
        method="GET",
        path="/api/events",
        does="Events of all cameras, the newest first, a page at a time.",
        tag="events",
        answer=_events,
        query=shapes.EventsQuery,
        gives=shapes.Events,
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=_ONE,
        does="One event.",
        tag="events",
        answer=found_event,
        gives=shapes.Event,
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/snapshot",
        does="A picture of an event.",
        tag="events",
        answer=_snapshot,
        gives="image/jpeg",
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/clip",
        does="The video of an event; ranges of it can be asked for.",
        tag="events",
        answer=_clip,
        gives="video/mp4",
        refusals=(404, 503),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/seen",
        does="The frames that the model saw of the segment with the peak.",
        tag="events",
        answer=_seen,
        gives="image/jpeg",
        refusals=(404, 503),
    ),
    Operation(
        method="PUT",
        path=f"{_ONE}/description",
        does="Say in words what an event shows.",
        tag="events",
        answer=_describe,
        body=shapes.Description,
        gives=shapes.Event,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/feedback",
        does="Say that an event was a false alarm, or a real one missed.",
        tag="feedback",
        answer=_mark,
        body=shapes.NewVerdict,
        gives=shapes.Event,
        role="act",
        refusals=(404, 409, 503),
    ),
)
