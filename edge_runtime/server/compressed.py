"""Text in fewer bytes, for whoever takes gzip; a page on a phone comes over a slow network.

That its length tells of its content is no harm here (BREACH): no answer holds a token, a password or a session.
"""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping

from edge_runtime.server.answers import Reply

# What fits into a packet or two comes no sooner.
_LEAST = 1024
_LEVEL = 6
_VARY = {"vary": "accept-encoding"}


def compressible(reply: Reply) -> bool:
    """Whether there is text enough. Pictures and clips are compressed already."""
    media = reply.media.partition(";")[0]
    # Metrics come as the one or the other, as they are asked for.
    text = media.startswith("text/") or media.endswith(("json", "+xml", "openmetrics-text"))
    return text and len(reply.content) >= _LEAST


def compressed(reply: Reply) -> Reply:
    """The same in fewer bytes; takes a millisecond for each 30 kB or so."""
    content = gzip.compress(reply.content, _LEVEL, mtime=0)
    return dataclasses.replace(reply, content=content, headers={**reply.headers, **_VARY, "content-encoding": "gzip"})


def plain(reply: Reply) -> Reply:
    """As it is; says that others get it compressed."""
    return dataclasses.replace(reply, headers={**reply.headers, **_VARY})


def takes_gzip(asked: Mapping[str, str]) -> bool:
    """Whether a request with these headers, by lower-case names, takes gzip."""
    taken: dict[str, bool] = {}
    for part in asked.get("accept-encoding", "").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        taken[name] = not any(_is_zero(piece) for piece in parameters)
    return taken.get("gzip", taken.get("*", False))


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip() in ("0", "0.", "0.0", "0.00", "0.000")
