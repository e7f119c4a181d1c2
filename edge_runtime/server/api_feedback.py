"""Answers about feedback: what operators said, the scorer that would learn from it, and what is to be forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from edge_runtime.errors import OutputFailed
from edge_runtime.server import shapes
from edge_runtime.server.answers import Refused, Reply
from edge_runtime.server.operations import Call, Operation
from edge_runtime.site.forget import forget

_NO_FEEDBACK = "this run takes no feedback; write `feedback: {}` into the configuration"


def _teaching(call: Call) -> Any:
    return call.part("teaching", _NO_FEEDBACK)


def _stretch(start: datetime, end: datetime) -> tuple[float, float]:
    if not start < end:
        raise Refused(400, "`start` lies before `end`")
    return start.timestamp(), end.timestamp()


def _feedback(call: Call) -> shapes.Feedback:
    feedback: shapes.Feedback = _teaching(call).feedback()
    return feedback


def _missed(call: Call) -> shapes.Mark:
    mark: shapes.Mark = _teaching(call).mark_missed(call.body.camera, *_stretch(call.body.start, call.body.end))
    return mark


def _unmark(call: Call) -> Reply:
    text = call.path["mark"]
    teaching = _teaching(call)
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and teaching.unmark(int(text))):
        raise Refused(404, f"there is no mark {text[:100]!a}; /api/feedback lists them")
    return Reply(b"", "", 204)


def _propose(call: Call) -> shapes.Proposal:
    proposal: shapes.Proposal = _teaching(call).propose()
    return proposal


def _accept(call: Call) -> shapes.Feedback:
    _teaching(call).accept(call.body.proposal)
    return _feedback(call)


def _undo(call: Call) -> shapes.Feedback:
    _teaching(call).undo()
    return _feedback(call)


def _forget(call: Call) -> shapes.Forgotten:
    parts, camera = call.parts, call.body.camera
    start, end = _stretch(call.body.start, call.body.end)
    failed: OutputFailed | None = None
    files = writing = 0
    # Files first, while it is known which event they show.
    if parts.clips is not None:
        events = {} if parts.history is None else parts.history.spans(camera)
        try:
            erased = forget(None, parts.clips, camera, start, end, events)
            files, writing = erased.files, erased.writing
        except OutputFailed as error:
            failed = error
    segments = kept_events = marks = 0
    if parts.teaching is not None:
        kept = parts.teaching.forget(camera, start, end)
        segments, kept_events, marks = kept.segments, kept.events, kept.marks
    if parts.history is not None:
        scores, events_gone = parts.history.forget(camera, start, end)
        segments, kept_events = max(segments, scores), max(kept_events, events_gone)
    parts.state.forget_events(camera, start, end)
    if failed is not None:
        raise failed
    return shapes.Forgotten(segments=segments, events=kept_events, marks=marks, files=files, writing=writing)


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
