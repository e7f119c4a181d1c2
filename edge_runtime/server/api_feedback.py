"""Answers about feedback: what operators said, the scorer that would learn from it, and what is to be forgotten."""

from __future__ import annotations

from datetime import datetime

import msgspec

from edge_runtime.server import shapes
from edge_runtime.server.answers import Refused, Reply
from edge_runtime.server.operations import Call, Operation
from edge_runtime.server.parts import Teaching
from edge_runtime.server.state import utc
from edge_runtime.site.forget import forget

_NO_FEEDBACK = "this run takes no feedback; write `feedback: {}` into the configuration"


def _teaching(call: Call) -> Teaching:
    teaching: Teaching = call.part("teaching", _NO_FEEDBACK)
    return teaching


def _stretch(start: datetime, end: datetime) -> tuple[float, float]:
    if not start < end:
        raise Refused(400, "`start` lies before `end`")
    return start.timestamp(), end.timestamp()


def _feedback(call: Call) -> shapes.Feedback:
    return msgspec.convert(_teaching(call).status().to_dict(), shapes.Feedback)


def _missed(call: Call) -> shapes.Mark:
    mark = _teaching(call).mark_missed(call.body.camera, *_stretch(call.body.start, call.body.end))
    return shapes.Mark(
        id=mark.id,
        verdict=mark.verdict,
        camera=mark.camera,
        start=utc(mark.start),
        end=utc(mark.end),
        event=mark.event,
        at=utc(mark.at),
    )


def _unmark(call: Call) -> Reply:
    text = call.path["mark"]
    teaching = _teaching(call)
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and teaching.unmark(int(text))):
        raise Refused(404, f"there is no mark {text[:100]!a}; /api/feedback lists them")
    return Reply(b"", "", 204)


def _propose(call: Call) -> shapes.Proposal:
    return msgspec.convert(_teaching(call).propose().to_dict(), shapes.Proposal)


def _accept(call: Call) -> shapes.Feedback:
    _teaching(call).accept(call.body.proposal)
    return _feedback(call)


def _undo(call: Call) -> shapes.Feedback:
    _teaching(call).undo()
    return _feedback(call)


def _forget(call: Call) -> shapes.Forgotten:
    parts, camera = call.parts, call.body.camera
    start, end = _stretch(call.body.start, call.body.end)
    # Which event a file shows is known from the history, until that forgets it.
    told = {} if parts.history is None else parts.history.spans(camera)
    others = [] if parts.history is None else [parts.history]
    try:
        if parts.teaching is not None:
            erased = parts.teaching.forget(camera, start, end, parts.clips, told, others)
        else:
            erased = forget([], parts.clips, camera, start, end, told, others)
    finally:
        # Whatever could not be deleted.
        parts.state.forget_events(camera, start, end)
    return shapes.Forgotten(
        segments=erased.kept.segments,
        events=erased.kept.events,
        marks=erased.kept.marks,
        files=erased.files,
        writing=erased.writing,
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/feedback",
        does="All marks, and the scorer in use.",
        tag="feedback",
        answer=_feedback,
        gives=shapes.Feedback,
        refusals=(404, 503),
    ),
    Operation(
        method="POST",
        path="/api/feedback/missed",
        does="Say that something was missed.",
        tag="feedback",
        answer=_missed,
        body=shapes.Missed,
        gives=shapes.Mark,
        status=201,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="DELETE",
        path="/api/feedback/marks/{mark}",
        does="Delete a mark.",
        tag="feedback",
        answer=_unmark,
        status=204,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="GET",
        path="/api/feedback/proposal",
        does="What a scorer that learns from all marks would change.",
        tag="feedback",
        answer=_propose,
        gives=shapes.Proposal,
        refusals=(400, 404, 409, 503),
        slow=True,
    ),
    Operation(
        method="POST",
        path="/api/feedback/accept",
        does="Use that scorer; 409 where the marks have changed since.",
        tag="feedback",
        answer=_accept,
        body=shapes.Accept,
        gives=shapes.Feedback,
        role="act",
        refusals=(404, 409, 503),
        slow=True,
    ),
    Operation(
        method="POST",
        path="/api/feedback/undo",
        does="Use the scorer before.",
        tag="feedback",
        answer=_undo,
        gives=shapes.Feedback,
        role="act",
        refusals=(404, 409, 503),
    ),
    Operation(
        method="POST",
        path="/api/forget",
        does="Delete features, scores, events, marks, snapshots and clips of a stretch of time.",
        tag="feedback",
        answer=_forget,
        body=shapes.Forget,
        gives=shapes.Forgotten,
        role="act",
        refusals=(409, 503),
        slow=True,
    ),
)
