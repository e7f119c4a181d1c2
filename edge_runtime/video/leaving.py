"""Brings readers out of FFmpeg before the interpreter is taken apart.

PyAV asks Python every tenth of a second whether a blocked call has reached its timeout. At the exit of the process
there is no Python any more to ask, and now and then that is a segmentation fault.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
import time
from collections.abc import Iterator

# FFmpeg asks every tenth of a second.
_LEAVE_S = 1.0

_inside: set[int] = set()
_registered = threading.Event()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Around a call into FFmpeg that may block: it returns with an error when the process exits."""
    if not _registered.is_set():
        _registered.set()
        atexit.register(_leave)
    thread = threading.get_ident()
    _inside.add(thread)
    try:
        yield
    finally:
        _inside.discard(thread)


class _Over:
    """Instead of `time` in PyAV: every timeout is over."""

    @staticmethod
    def monotonic() -> float:
        return math.inf


def _leave() -> None:
    if not _inside:
        return
    import av.container.core

    vars(av.container.core)["time"] = _Over
    deadline = time.monotonic() + _LEAVE_S
    while _inside and time.monotonic() < deadline:
        time.sleep(0.02)
