"""One table row for each thing that can be asked: what is taken, what is given, and who may.

Routes and the OpenAPI document are both made from these rows, so that they agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from edge_runtime.server.answers import Refused
from edge_runtime.server.guards import Known, Who
from edge_runtime.server.parts import Parts
from edge_runtime.server.sessions import Sessions
from edge_runtime.server.shapes import Role
from edge_runtime.server.tokens import Bearer

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What answers need beside the parts of the run.

    Attributes:
        parts: The run.
        known: Checks tokens.
        sessions: Those that are open.
        needs_token: Whether a token is needed.
        cookie: Name of a session's cookie.
        secure: Whether browsers come by TLS.
        contract: The OpenAPI document.
    """

    parts: Parts
    known: Known
    sessions: Sessions
    needs_token: bool
    cookie: str
    secure: bool
    contract: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, read and checked.

    Attributes:
        desk: What answers need.
        who: Who asks.
        path: What stands in the place of names in the path.
        query: What comes behind the `?`, of the operation's type.
        body: What was sent, of the operation's type.
        scope: As of ASGI.
    """

    desk: Desk
    who: Who
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
    scope: Scope = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        """The run."""
        return self.desk.parts

    def part(self, name: str, advice: str) -> Any:
        """A part that may not be there.

        Raises:
            Refused: It is not; `advice` says how it would be.
        """
        found = getattr(self.parts, name)
        if found is None:
            raise Refused(404, advice)
        return found

    def bearer_of(self, token: str) -> Bearer:
        """Who shows a token; as of Known."""
        return self.desk.known.checked(token, self.scope)


# Answers a call in a thread that may wait: a Shape, a Reply or an OpenFile.
Answer = Callable[[Call], Any]
# Answers a call in the loop, for as long as it takes.
Stream = Callable[[Call, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked.

    Attributes:
        method: Of HTTP.
        path: With names in braces.
        does: What a person gets, in one sentence.
        tag: Where it stands in the document.
        answer: Answers it.
        stream: Answers it instead.
        query: The type of what comes behind the `?`.
        body: The type of what is sent.
        gives: The type of the answer, or the media type of an answer that is no JSON.
        status: Of an answer.
        role: What one must be allowed; None: anybody may.
        refusals: What else may be answered, beside what always may.
        slow: Whether it takes a second of computing: few of these are done at once.
        quick: Whether it waits for nothing: it is answered even where every thread waits for a disk.
    """

    method: Method
    path: str
    does: str
    tag: str
    answer: Answer | None = None
    stream: Stream | None = None
    query: Any = None
    body: Any = None
    gives: Any = None
    status: int = 200
    role: Role | None = "read"
    refusals: tuple[int, ...] = ()
    slow: bool = False
    quick: bool = False
