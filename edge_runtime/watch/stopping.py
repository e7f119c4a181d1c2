"""SIGINT and SIGTERM as a request to stop that is met by a deadline.

A signal handler of Python's runs in the main thread, between two of its instructions: not while a graph runs
or a pipe is full. A thread that reads the interpreter's wake-up descriptor learns of the signal at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# By which service managers ask a program to read its configuration again; Windows has none.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
# An orderly stop by a service manager is a success; an interruption from the keyboard is not.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 0}


class Stop(Protocol):
    """Whether to stop; a threading.Event will do."""

    def is_set(self) -> bool:
        """True from the moment on when the run should end."""


def any_of(*reasons: Callable[[], bool]) -> Stop:
    """Stop for whichever reason comes first."""
    return _AnyOf(reasons)


class _AnyOf:
    def __init__(self, reasons: Sequence[Callable[[], bool]]) -> None:
        self._reasons = reasons

    def is_set(self) -> bool:
        return any(reason() for reason in self._reasons)


class StopRequest:
    """Whether the program was asked to end; a context manager that takes over SIGINT and SIGTERM.

    hurry_s after the first signal `hurry` is called, from another thread: what still runs should fail quickly.
    limit_s after it, or with a second signal, the process ends as it stands. Main thread only.

    `requested` is called with the first signal, at once and from that thread; it must return soon.

    With `hangup` it takes over SIGHUP too, which does not stop anything: `hangup` is called, from that other thread,
    and must return at once. Without it SIGHUP does what it did before.
    """

    def __init__(
        self,
        hurry: Callable[[], None],
        hurry_s: float = 1.7,
        limit_s: float = 2.7,
        hangup: Callable[[], None] | None = None,
        requested: Callable[[], None] = lambda: None,
    ) -> None:
        self._hangup = hangup
        self._tell_requested = requested
        self._hurry = hurry
        self._hurry_s, self._limit_s = hurry_s, limit_s
        self._requested = threading.Event()
        self._signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_descriptor = -1
        self._receiver, self._sender = socket.socketpair()
        self._watcher = threading.Thread(target=self._watch, name="signals", daemon=True)

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._requested.is_set()

    @property
    def exit_code(self) -> int:
        """What the process ends with after an orderly stop: 130 for SIGINT, 0 for SIGTERM and without a signal."""
        return 0 if self._signal is None else EXIT_CODES[self._signal]

    def __enter__(self) -> Self:
        self._sender.setblocking(False)
        self._previous_descriptor = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        taken = SIGNALS if self._hangup is None or HANGUP is None else (*SIGNALS, HANGUP)
        for number in taken:
            # Only a Python handler makes the interpreter write to the descriptor; there is nothing left to do.
            self._previous[number] = signal.signal(number, _nothing)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._previous_descriptor)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._sender.close()
        self._watcher.join()
        self._receiver.close()

    def _watch(self) -> None:
        first = self._next(None)
        if first is None:
            return
        self._signal = first
        self._requested.set()
        begun = time.monotonic()
        log.info("%s: ending; a second signal ends at once", first.name)
        self._tell_requested()
        for deadline_s, action in ((self._hurry_s, self._hurry), (self._limit_s, self._give_up)):
            try:
                again = self._next(max(0.0, begun + deadline_s - time.monotonic()))
            except TimeoutError:
                action()
                continue
            if again is not None:
                log.warning("%s: ended at once, records that were not final are lost", again.name)
                self._exit()
            return

    def _next(self, timeout_s: float | None) -> signal.Signals | None:
        """The next of our signals; None when the context has ended. Raises TimeoutError."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # Anew for each byte: signals that are not ours must not put off the deadline.
            self._receiver.settimeout(None if deadline is None else max(1e-3, deadline - time.monotonic()))
            if not (data := self._receiver.recv(1)):
                return None
            if data[0] in SIGNALS:
                return signal.Signals(data[0])
            if data[0] == HANGUP and self._hangup is not None:
                self._hangup()

    def _give_up(self) -> None:
        log.warning("the output or a library takes too long: ended, records that were not written are lost")
        self._exit()

    def _exit(self) -> None:
        assert self._signal is not None
        # Records are lost: for SIGTERM that is not the success that an orderly stop is.
        os._exit(EXIT_CODES[self._signal] or 1)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has it."""
