"""Answers about the run, its probes, and who asks."""

from __future__ import annotations

from datetime import UTC, datetime

from edge_runtime._version import __version__
from edge_runtime.server import shapes
from edge_runtime.server.answers import JSON, Refused, Reply, json_reply
from edge_runtime.server.guards import headers_of
from edge_runtime.server.operations import Call, Operation
from edge_runtime.server.parts import Figures
from edge_runtime.server.sessions import LASTS_S
from edge_runtime.stream.clock import rfc3339


def _health(_: Call) -> shapes.Health:
    return shapes.Health(status="ok")


def _readiness(call: Call) -> Reply:
    found = call.parts.state.readiness()
    return json_reply(found, 200 if found.ready else 503)


def _metrics(call: Call) -> Reply:
    figures: Figures = call.part("figures", "no metrics are kept of this run")
    content, media = figures.render(headers_of(call.scope).get("accept", ""))
    return Reply(content, media)


def _contract(call: Call) -> Reply:
    return Reply(call.desk.contract, JSON)


def _run(call: Call) -> shapes.Run:
    parts, run = call.parts, call.parts.state.run
    assert call.who.role is not None
    return shapes.Run(
        run=None if run is None else run.run,
        started=None if run is None else run.started,
        time=rfc3339(datetime.now(UTC)),
        version=__version__,
        bundle_id=None if run is None else run.bundle_id,
        role=call.who.role,
        clips=parts.clips is not None,
        feedback=parts.teaching is not None,
        days_of_scores=parts.days_of_scores,
    )


def _session(call: Call) -> shapes.Session:
    return shapes.Session(role=call.who.role, needs_token=call.desk.needs_token)


def _sign_in(call: Call) -> Reply:
    desk = call.desk
    if not desk.needs_token:
        return json_reply(_session(call))
    bearer = call.bearer_of(call.body.token)
    cookie = _cookie(call, desk.sessions.open(bearer), LASTS_S)
    return json_reply(shapes.Session(role=bearer.role, needs_token=True), headers={"set-cookie": cookie})


def _sign_out(call: Call) -> Reply:
    if call.who.cookie is not None:
        call.desk.sessions.close(call.who.cookie)
    needed = call.desk.needs_token
    session = shapes.Session(role=None if needed else "act", needs_token=needed)
    return json_reply(session, headers={"set-cookie": _cookie(call, "", 0)})


def _cookie(call: Call, value: str, seconds: int) -> str:
    secure = "; Secure" if call.desk.secure else ""
    return f"{call.desk.cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def is_signed_in(call: Call) -> bool:
    """Whether who asked is still let in: a token may have been removed since."""
    desk, who = call.desk, call.who
    if not desk.needs_token or who.bearer is None:
        return not desk.needs_token
    if who.cookie is not None:
        return desk.sessions.bearer(who.cookie) is not None
    return desk.known.holds(who.bearer)


def event_not_found(event: str) -> Refused:
    """What is said where there is no such event."""
    return Refused(404, f"there is no event {event[:100]!a}; /api/events lists them")


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        does="Say that the process answers.",
        tag="probes",
        answer=_health,
        quick=True,
        gives=shapes.Health,
        role=None,
    ),
    Operation(
        method="GET",
        path="/readyz",
        does="Say whether cameras are being watched, or why not.",
        tag="probes",
        answer=_readiness,
        quick=True,
        gives=shapes.Readiness,
        role=None,
        refusals=(503,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        does="The run in numbers, for Prometheus.",
        tag="probes",
        answer=_metrics,
        gives="text/plain",
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/api/openapi.json",
        does="This document.",
        tag="run",
        answer=_contract,
        gives=JSON,
    ),
    Operation(method="GET", path="/api/run", does="The run.", tag="run", answer=_run, quick=True, gives=shapes.Run),
    Operation(
        method="GET",
        path="/api/session",
        does="Say what who asks may do.",
        tag="session",
        answer=_session,
        quick=True,
        gives=shapes.Session,
        role=None,
    ),
    Operation(
        method="POST",
        path="/api/session",
        does="Sign in with a token; a cookie stands for it from then on.",
        tag="session",
        answer=_sign_in,
        body=shapes.Token,
        gives=shapes.Session,
        role=None,
        refusals=(401,),
    ),
    Operation(
        method="DELETE",
        path="/api/session",
        does="Sign out.",
        tag="session",
        answer=_sign_out,
        gives=shapes.Session,
        role=None,
    ),
)
