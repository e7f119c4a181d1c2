"""Reads a live camera: opens it, hands on its frames, notices when they stop, and opens it again.

A reader thread takes every frame as it comes and keeps no queue: frames that wait in the buffers of FFmpeg or the
network would put a slow consumer further and further behind. A watchdog thread measures how long the reader has
waited, because a blocked read returns only when its timeout ends. Only the reader releases the capture: done by
another thread during a read, that is a segmentation fault.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edge_runtime.errors import InvalidFrame, SourceUnavailable, UsageError
from edge_runtime.records import CameraState, GapReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import DecodedFrame, is_key, open_capture, picture_of
from edge_runtime.video.journal import CameraJournal, CameraListener
from edge_runtime.video.sources import Source

if TYPE_CHECKING:
    import cv2

__all__ = ["CameraListener", "LiveCamera", "probe"]

log = logging.getLogger(__name__)

# So many frames in a row without a picture are a broken stream, fewer are lost packets.
_UNDECODABLE_FRAMES = 10


@dataclass(frozen=True, slots=True)
class _Ended:
    """Why a connection is over, and for how long it gave frames."""

    reason: GapReason
    detail: str
    good_s: float


class LiveCamera:
    """One live source, kept open until `stop()`; a context manager around `start` and `stop`.

    A camera's first frames come in a burst: FFmpeg reads about a second of the stream before it opens. The first
    frame of a connection is decoded before `online` or `reconnected` is reported.

    Args:
        source: A network camera or device.
        listener: Who is told of frames, outages and states.
        clock: Of the run. The times of frames and outages are its seconds, also of a camera that is started later.
        open_timeout_s: Limit of FFmpeg for one attempt to open; devices have none.
        read_timeout_s: Limit of FFmpeg for one frame; devices have none.
        stall_s: A camera that gave frames and then none for so long is reported as `stalled`, and opened again as
            soon as its read returns.
        backoff_s: Waits between attempts in seconds, of which the last one repeats. They start over once a
            connection has given frames for longer than the wait before it.

    Attributes:
        source: As given.

    Raises:
        UsageError: The source is a file, or a limit is not positive.
    """

    def __init__(
        self,
        source: Source,
        listener: CameraListener,
        clock: RunClock,
        *,
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 5.0,
        stall_s: float = 3.0,
        backoff_s: Sequence[float] = (1, 2, 5, 10, 30),
    ) -> None:
        if not source.live:
            raise UsageError(f"{source.shown}: is a file, and a live camera has no end; read it as a video file")
        limits = {"open_timeout_s": open_timeout_s, "read_timeout_s": read_timeout_s, "stall_s": stall_s}
        for name, value in limits.items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"camera {source.name}: {name} must be positive, got {value}")
        if not backoff_s or not all(math.isfinite(wait) and wait >= 0 for wait in backoff_s):
            raise UsageError(f"camera {source.name}: backoff_s must be waits in seconds, got {tuple(backoff_s)}")
        self.source = source
        self._listener = listener
        self._open_timeout_s, self._read_timeout_s, self._stall_s = open_timeout_s, read_timeout_s, stall_s
        self._backoff_s = tuple(backoff_s)
        self._clock = clock
        self._journal = CameraJournal(source, listener)
        self._stopping = threading.Event()
        self._answered = threading.Event()  # the first frame came, or the first attempt failed
        self._first_failure: str | None = None
        self._failure: BaseException | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._starting = threading.Lock()
        self._last_s = 0.0  # when the last good frame came; before the first, when the camera was started
        self._index = 0
        self._turn = threading.Lock()  # the two below: the reader and the watchdog
        self._waiting_since: float | None = None
        self._stalled = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(None)
        if error is None:
            self.raise_if_failed()

    def start(self) -> None:
        """Begin, and return at once. A camera that is down is reported as `offline` and tried again.

        Raises:
            RuntimeError: It was started before.
        """
        with self._starting:
            if self._threads:
                raise RuntimeError(f"camera {self.source.name} was started before; make a new LiveCamera")
            self._last_s = self._clock.now_s()
            for name, work in (("camera", self._read), ("watch", self._watch)):
                thread = threading.Thread(
                    target=self._guard, args=(work,), name=f"{name}-{self.source.name}", daemon=True
                )
                thread.start()
                self._threads = (*self._threads, thread)

    def require_online(self, timeout_s: float | None = None) -> None:
        """Wait for the first frame. The camera keeps trying until `stop()` even when this fails.

        Args:
            timeout_s: How long to wait; None waits for the end of the first attempt.

        Raises:
            SourceUnavailable: The first attempt failed, or the time is up.
            Exception: What the listener raised.
        """
        answered = self._answered.wait(timeout_s)
        self.raise_if_failed()
        if self._index > 0:
            return
        detail = self._first_failure if answered else f"no frame within {timeout_s:g} s"
        if detail is None:
            detail = "stopped before the first frame"
        raise SourceUnavailable(f"camera {self.source.name}: cannot open {self.source.shown}: {detail}")

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the camera; an outage that is not over is reported now.

        Args:
            timeout_s: How long to wait for the reader; default: a second longer than the longer of the open and
                read timeouts.

        Returns:
            Whether it has ended. False: the reader is still blocked in a read, and is left behind as a daemon
            thread that reports nothing more and releases the capture when the read returns.

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
        with self._starting:
            threads = self._threads
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if threads:
            self._guard(lambda: self._journal.close(self._clock.now_s()))
        ended = not any(thread.is_alive() for thread in threads)
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

    def _read(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            ended = self._connection()
            if self._stopping.is_set():
                return
            state: CameraState = "stalled" if ended.reason == "stalled" else "offline"
            self._journal.went(state, ended.reason, ended.detail, self._last_s, self._clock.now_s())
            if not self._answered.is_set():
                self._first_failure = ended.detail
                self._answered.set()
            if attempt > 0 and ended.good_s > self._wait_s(attempt - 1):
                attempt = 0
            log.debug("camera %s: %s; trying again in %g s", self.source.name, ended.detail, self._wait_s(attempt))
            self._stopping.wait(self._wait_s(attempt))
            attempt += 1

    def _wait_s(self, attempt: int) -> float:
        return self._backoff_s[min(attempt, len(self._backoff_s) - 1)]

    def _connection(self) -> _Ended:
        """Open the camera once and deliver its frames until there are none."""
        begun_s = time.monotonic()
        capture = _open(self.source, self._open_timeout_s, self._read_timeout_s)
        try:
            if not capture.isOpened():
                detail = _why_not_open(self.source, time.monotonic() - begun_s, self._open_timeout_s)
                return _Ended("lost", detail, 0.0)
            return self._drain(capture)
        finally:
            capture.release()

    def _drain(self, capture: cv2.VideoCapture) -> _Ended:
        first_s: float | None = None
        without_picture = 0
        with self._turn:
            self._stalled = False
        while True:
            waiting_s = self._clock.now_s()
            with self._turn:
                self._waiting_since = waiting_s
            grabbed = capture.grab()
            with self._turn:
                self._waiting_since = None
                stalled = self._stalled
            seconds = self._clock.now_s()
            good_s = 0.0 if first_s is None else self._last_s - first_s
            if stalled or self._stopping.is_set():
                # A frame that comes after the stall was reported is old, and so is what follows it.
                return _Ended("stalled", f"no frame for {seconds - self._last_s:.1f} s", good_s)
            if not grabbed:
                return self._why_ended(first_s is not None, seconds - waiting_s, good_s)
            # The first frame of a connection is decoded before `online` is reported.
            doubtful = first_s is None or without_picture > 0
            if self._deliver(capture, seconds, doubtful):
                first_s = seconds if first_s is None else first_s
                without_picture = 0
            else:
                without_picture += 1
                if without_picture >= _UNDECODABLE_FRAMES:
                    return _Ended("undecodable", f"{without_picture} frames in a row gave no picture", good_s)

    def _why_ended(self, had_frames: bool, waited_s: float, good_s: float) -> _Ended:
        if waited_s >= 0.9 * self._read_timeout_s and self.source.kind != "device":
            reason: GapReason = "stalled" if had_frames else "lost"
            return _Ended(reason, f"no frame within {waited_s:.1f} s", good_s)
        if had_frames:
            return _Ended("lost", "the connection ended", good_s)
        return _Ended("undecodable", "it opened, but not one frame could be decoded", good_s)

    def _deliver(self, capture: cv2.VideoCapture, seconds: float, doubtful: bool) -> bool:
        """Hand one frame to the listener; False when it turned out to have no picture."""
        current, failed = True, False

        def retrieve() -> UInt8Array:
            nonlocal failed
            if not current:
                raise RuntimeError(f"camera {self.source.name}: retrieve() only inside on_frame()")
            picture = picture_of(capture)
            if picture is None:
                failed = True
                raise InvalidFrame(f"camera {self.source.name}: a frame decodes to no picture; it is left out")
            return picture

        if doubtful:
            first = picture_of(capture)
            if first is None:
                return False
            self._journal.came(f"frames of {first.shape[1]} x {first.shape[0]}", seconds)
        frame = DecodedFrame(self._index, seconds, retrieve, is_key(capture))
        try:
            self._listener.on_frame(frame)
        except InvalidFrame:
            if not failed:
                raise
        finally:
            current = False
        if failed:
            return False
        self._index += 1
        self._last_s = seconds
        self._answered.set()
        return True

    def _watch(self) -> None:
        delay = self._stall_s
        while not self._stopping.wait(delay):
            delay = self._stall_s
            with self._turn:
                since = self._waiting_since
                if since is None or self._stalled or not self._journal.flowing:
                    continue
                delay = since + self._stall_s - self._clock.now_s()
                if delay > 0:
                    continue
                self._stalled = True
                delay = self._stall_s
                # Still inside the lock: the reader cannot come back online before the stall has been reported.
                detail = f"no frame for {self._stall_s:g} s"
                self._journal.went("stalled", "stalled", detail, self._last_s, self._clock.now_s())


def probe(source: Source, timeout_s: float = 10.0) -> tuple[int, int]:
    """Open a live source once and read one frame. A camera that serves one client is busy for a moment afterwards.

    Args:
        source: A network camera or device.
        timeout_s: Limit for opening and for reading; devices have none.

    Returns:
        Width and height of the frame in pixels.

    Raises:
        SourceUnavailable: It gave no picture; the message says what went wrong.
    """
    begun_s = time.monotonic()
    capture = _open(source, timeout_s, timeout_s)
    try:
        if not capture.isOpened():
            detail = _why_not_open(source, time.monotonic() - begun_s, timeout_s)
        elif not capture.grab():
            detail = "it opened, but gave no frame"
        else:
            picture = picture_of(capture)
            if picture is not None:
                return picture.shape[1], picture.shape[0]
            detail = "its first frame decodes to no picture"
    finally:
        capture.release()
    raise SourceUnavailable(f"camera {source.name}: cannot open {source.shown}: {detail}")


def _open(source: Source, open_timeout_s: float, read_timeout_s: float) -> cv2.VideoCapture:
    import cv2

    if source.kind == "device":
        # Neither V4L2 nor the other platforms' backends take timeouts: given one, they refuse to open.
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        return open_capture(int(source.target), backend, {})
    return open_capture(
        source.target,
        # Only an explicit FFmpeg honours the timeouts; it asks RTSP servers for TCP first.
        cv2.CAP_FFMPEG,
        {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: max(1, round(open_timeout_s * 1000)),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: max(1, round(read_timeout_s * 1000)),
            # Decoding with n threads holds back n - 1 frames.
            cv2.CAP_PROP_N_THREADS: 1,
        },
    )


def _why_not_open(source: Source, waited_s: float, open_timeout_s: float) -> str:
    if source.kind == "device":
        return "no such device, or another program uses it"
    if waited_s >= 0.9 * open_timeout_s:
        return f"no video within {open_timeout_s:g} s; check the network and the camera"
    return "refused, or no video there; check host, port, path, user and password"
