"""Reads a live camera: opens it, hands on its frames, notices when they stop, and opens it again.

A reader thread takes every frame as it comes and keeps no queue: frames that wait in the buffers of FFmpeg or the
network would put a slow consumer further and further behind. A watchdog thread measures how long the reader has
waited, because a blocked read returns only when its timeout ends. A reader that does not even return then is left
behind, and another takes its place. Only the reader closes its connection: done by another thread during a read,
that is a segmentation fault.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from edge_runtime.errors import UsageError
from edge_runtime.records import CameraState
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.backoff import Backoff
from edge_runtime.video.connection import Connection, Fault
from edge_runtime.video.delivery import Delivery
from edge_runtime.video.diagnosis import ASKING_S
from edge_runtime.video.journal import CameraJournal, CameraListener
from edge_runtime.video.probe import connect, probe, unavailable
from edge_runtime.video.sources import Source
from edge_runtime.video.turn import Ended, GivenUp, Turn

__all__ = ["CameraListener", "LiveCamera", "probe"]

log = logging.getLogger(__name__)

Connect = Callable[[Source, float, float], Connection]

# OpenCV waits so long for a device that is silent.
_DEVICE_READ_S = 10.0
# What is left behind holds memory and a socket. After so many of one camera, the next comes after a longer wait.
_LEFT_BEHIND = 5
_MANY_LEFT_BEHIND_S = 15 * 60.0
# No more often does the watchdog look.
_LOOK_S = 0.05


class LiveCamera:
    """One live source, kept open until `stop()`; a context manager around `start` and `stop`.

    A camera's first frames come in a burst: FFmpeg reads some of the stream before it opens. The first frame of a
    connection is converted before `online` or `reconnected` is reported.

    Args:
        source: A network camera, a device, or a file that is played over and over.
        listener: Who is told of frames, outages and states; of damaged pictures too, if it is a QualityListener.
        clock: Of the run. The times of frames and outages are its seconds, also of a camera that is started later.
        open_timeout_s: Limit for connecting, and once more for finding the video; devices have none. A camera that
            was open before gets less, see Backoff.
        read_timeout_s: Limit for one frame; devices have none.
        stall_s: A camera that gave frames and then none for so long is reported as `stalled`, and opened again as
            soon as its read returns. So is one whose frames come slower and slower, see StreamPace.
        hang_s: A reader that is blocked for so much longer than its timeouts allow is given up: reported as `hung`,
            left behind, and replaced.
        backoff_s: Waits between attempts in seconds, of which the last one repeats; see Backoff.
        connect: Opens the source.

    Attributes:
        source: As given.
        hung: How many readers were given up.

    Raises:
        UsageError: The source is a file, or a limit is not positive.
    """

    def __init__(
        self,
        source: Source,
        listener: CameraListener,
        clock: RunClock,
        *,
        open_timeout_s: float = 5.0,
        read_timeout_s: float = 5.0,
        stall_s: float = 3.0,
        hang_s: float = 5.0,
        backoff_s: Sequence[float] = (1, 2, 3),
        connect: Connect = connect,
    ) -> None:
        if not source.live:
            raise UsageError(
                f"{source.shown}: is a file, and a live camera has no end; read it as a video, or write loop:FILE"
            )
        limits = {
            "open_timeout_s": open_timeout_s,
            "read_timeout_s": read_timeout_s,
            "stall_s": stall_s,
            "hang_s": hang_s,
        }
        for name, value in limits.items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"camera {source.name}: {name} must be positive, got {value}")
        if not backoff_s or not all(math.isfinite(wait) and wait >= 0 for wait in backoff_s):
            raise UsageError(f"camera {source.name}: backoff_s must be waits in seconds, got {tuple(backoff_s)}")
        self.source = source
        self.hung = 0
        self._listener = listener
        self._open_timeout_s, self._read_timeout_s, self._stall_s = open_timeout_s, read_timeout_s, stall_s
        # Connecting and finding the video, each with its limit, and asking for a name before and a reason after.
        self._open_limit_s = 2 * open_timeout_s + ASKING_S + hang_s
        self._read_limit_s = hang_s + max(read_timeout_s, _DEVICE_READ_S if source.kind == "device" else 0)
        self._connect = connect
        self._backoff = Backoff(backoff_s, now_s=clock.now_s)
        self._clock = clock
        self._journal = CameraJournal(source, listener)
        self._stopping = threading.Event()
        self._answered = threading.Event()  # the first frame came, or the first attempt failed
        self._first_failure: Ended | None = None
        self._failure: BaseException | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._starting = threading.Lock()
        self._lock = threading.RLock()  # the three at the end, and all turns: the readers and the watchdog
        self._delivery = Delivery(
            source,
            listener,
            self._journal,
            clock=clock,
            lock=self._lock,
            stopping=self._stopping.is_set,
            delivered=self._answered.set,
            stall_s=stall_s,
            read_limit_s=self._read_limit_s,
        )
        self._turn = Turn(self._lock, self._clock)
        self._reader: threading.Thread | None = None
        self._left_behind: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(None)
        if error is None:
            self.raise_if_failed()

    @property
    def damaged(self) -> int:
        """How many frames were left out because they, or one that they depend on, came damaged."""
        return self._delivery.damaged

    def start(self) -> None:
        """Begin, and return at once. A camera that is down is reported as `offline` and tried again.

        Raises:
            RuntimeError: It was started before.
        """
        with self._starting:
            if self._threads:
                raise RuntimeError(f"camera {self.source.name} was started before; make a new LiveCamera")
            self._delivery.last_s = self._clock.now_s()
            with self._lock:
                self._start_reader(0.0)
            watch = threading.Thread(
                target=self._guard, args=(self._watch,), name=f"watch-{self.source.name}", daemon=True
            )
            self._threads = (watch,)
            watch.start()

    def require_online(self, timeout_s: float | None = None) -> None:
        """Wait for the first frame. The camera keeps trying until `stop()` even when this fails.

        Args:
            timeout_s: How long to wait; None waits for the end of the first attempt.

        Raises:
            CameraUnavailable: The first attempt failed, or the time is up.
            Exception: What the listener raised.
        """
        answered = self._answered.wait(timeout_s)
        self.raise_if_failed()
        if self._delivery.index > 0:
            return
        if not answered:
            raise unavailable(self.source, "timeout", f"no frame within {timeout_s:g} s")
        if self._first_failure is None:
            raise unavailable(self.source, "ended", "stopped before the first frame")
        raise unavailable(self.source, self._first_failure.reason, self._first_failure.detail)

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the camera; an outage that is not over is reported now.

        Args:
            timeout_s: How long to wait for the reader; default: a second longer than the longer of the open and
                read timeouts.

        Returns:
            Whether it has ended. False: a reader is still blocked in a read, and is left behind as a daemon
            thread that reports nothing more and closes its connection when the read returns.

        Raises:
            Exception: What the listener raised.
        """
        ended = self._stop(timeout_s)
        self.raise_if_failed()
        return ended

    def raise_if_failed(self) -> None:
        """Raise the exception of the listener that ended this camera, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _stop(self, timeout_s: float | None) -> bool:
        if timeout_s is None:
            timeout_s = max(self._open_timeout_s, self._read_timeout_s) + 1
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        # A start in another thread is waited for: a thread that has not begun cannot be joined.
        with self._starting, self._lock:
            threads = (self._reader, *self._threads) if self._reader is not None else ()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if threads:
            self._guard(lambda: self._journal.close(self._clock.now_s()))
        ended = not any(thread.is_alive() for thread in (*threads, *self._left_behind))
        if not ended:
            log.warning("camera %s: still blocked in a read, left behind", self.source.name)
        return ended

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  whatever it is, it must not end a thread unseen
            log.error("camera %s: ended by %s, see stop()", self.source.name, type(error).__name__)
            self._journal.mute()
            if self._failure is None:
                self._failure = error
            self._stopping.set()
        finally:
            if self._stopping.is_set():
                self._answered.set()

    def _start_reader(self, wait_s: float) -> None:
        """Start a reader that first waits. The lock is held."""
        turn = self._turn = Turn(self._lock, self._clock)
        self._reader = threading.Thread(
            target=self._guard,
            args=(lambda: self._read(turn, wait_s),),
            name=f"camera-{self.source.name}",
            daemon=True,
        )
        self._reader.start()

    def _read(self, turn: Turn, wait_s: float) -> None:
        try:
            while not self._stopping.wait(wait_s):
                ended = self._connection(turn)
                if self._stopping.is_set():
                    return
                state: CameraState = "stalled" if ended.gap == "stalled" else "offline"
                self._went(state, ended, self._delivery.last_s)
                wait_s = self._backoff.after(ended.reason, ended.good_s, ended.tried_s)
                log.debug("camera %s: %s; trying again in %.1f s", self.source.name, ended.detail, wait_s)
        except GivenUp:
            log.info("camera %s: a reader that was left behind has ended", self.source.name)

    def _went(self, state: CameraState, ended: Ended, since_s: float) -> None:
        self._journal.went(state, ended.gap, ended.detail, since_s, self._clock.now_s(), ended.reason)
        if not self._answered.is_set():
            self._first_failure = ended
            self._answered.set()

    def _connection(self, turn: Turn) -> Ended:
        """Open the camera once and deliver its frames until there are none."""
        connection: Connection | None = None
        begun_s, before = self._clock.now_s(), self._delivery.index
        try:
            limit_s = self._backoff.limit_s(self._open_timeout_s)
            with turn.native(self._open_limit_s):
                connection = self._connect(self.source, limit_s, self._read_timeout_s)
            took_s = self._clock.now_s() - begun_s
            ended = self._delivery.drain(turn, connection, late=took_s >= 0.9 * limit_s)
        except Fault as fault:
            ended = Ended("lost", fault.reason, fault.detail)
        finally:
            if connection is not None:
                self._close(turn, connection)
        if self._delivery.index > before:
            self._backoff.opened(took_s)
            return ended
        return dataclasses.replace(ended, tried_s=self._clock.now_s() - begun_s)

    def _close(self, turn: Turn, connection: Connection) -> None:
        if turn.given_up:
            connection.close()
            return
        with turn.native(self._read_limit_s):
            connection.close()

    def _watch(self) -> None:
        delay_s = self._stall_s
        while not self._stopping.wait(delay_s):
            # Inside the lock: the reader cannot come back before what is seen here has been reported.
            with self._lock:
                delay_s = self._look(self._turn)

    def _look(self, turn: Turn) -> float:
        """Report a reader that waits too long, or frames that come too slowly; returns when to look again."""
        now_s = self._clock.now_s()
        waited_s = 0.0 if turn.waiting_since is None else now_s - turn.waiting_since
        if waited_s >= turn.limit_s:
            self._give_up(turn, waited_s)
            return self._stall_s
        if not self._journal.flowing or turn.stalled is not None:
            return min(self._stall_s, turn.limit_s - waited_s)
        if waited_s >= self._stall_s:
            turn.stalled = f"no frame for {self._stall_s:g} s; check the network and the camera"
        elif turn.pace is not None:
            turn.stalled = turn.pace.too_slow(now_s, waited_s)
        if turn.stalled is not None:
            self._went("stalled", Ended("stalled", "timeout", turn.stalled), self._delivery.last_s)
            return min(self._stall_s, turn.limit_s - waited_s)
        soon_s = self._stall_s if turn.pace is None else max(turn.pace.rest_s(waited_s), _LOOK_S)
        return min(self._stall_s - waited_s, turn.limit_s - waited_s, soon_s)

    def _give_up(self, turn: Turn, waited_s: float) -> None:
        assert self._reader is not None
        turn.given_up = True
        self.hung += 1
        self._left_behind = [*(thread for thread in self._left_behind if thread.is_alive()), self._reader]
        many = len(self._left_behind)
        wait_s = self._backoff.after("hung", 0.0) if many < _LEFT_BEHIND else _MANY_LEFT_BEHIND_S
        detail = f"a read has been blocked for {waited_s:.0f} s and is given up; restart the camera if this repeats"
        self._went("offline", Ended("lost", "hung", detail), self._delivery.last_s)
        log.warning(
            "camera %s: a blocked reader is left behind, %d so far; the next one starts in %.0f s",
            self.source.name,
            many,
            wait_s,
        )
        self._start_reader(wait_s)
