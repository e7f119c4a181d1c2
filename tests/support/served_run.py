"""A live run's loop in a thread of its own, as in a recorder that adds and removes cameras meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_runtime.watch.cameras import LiveRun

LIMIT_S = 60.0


@contextmanager
def serving(run: LiveRun) -> Iterator[threading.Event]:
    """Serve while the body lasts; the event that stops it. What ended the loop is raised behind the body."""
    stop, failed = threading.Event(), []

    def serve() -> None:
        try:
            run.serve(stop)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(LIMIT_S)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
