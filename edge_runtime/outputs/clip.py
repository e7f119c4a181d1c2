"""One clip: from the packets of a camera to a file, in a thread of its own, until the event is over."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_runtime.errors import one_line
from edge_runtime.files import shown_path
from edge_runtime.outputs.encoded import Blank, Encode
from edge_runtime.outputs.mp4 import Copy, can_copy
from edge_runtime.outputs.shelf import NoRoom, Shelf, ShelfFile
from edge_runtime.stream.packets import VideoPacket
from edge_runtime.stream.ring import PacketRing

log = logging.getLogger(__name__)

_LOOK_S = 0.2
# A camera that sends nothing for so long after what is wanted is not waited for.
_SILENT_S = 2.0
_NICE = 10
# When the run ends, what can be written in this time is; a file that is complete is worth more than its last seconds.
_LEAVE_S = 0.4


class Reports(Protocol):
    """Who is told how clips fare. Any thread calls it."""

    def works(self) -> None:
        """A file was written."""

    def failed(self, error: OSError) -> None:
        """The disk did not take a file, or only part of it."""

    def cut(self, camera: str, event: str, why: str) -> None:
        """A clip is shorter than it should be."""


@dataclass(frozen=True, slots=True)
class Filmed:
    """A camera of which clips are made.

    Attributes:
        ring: Its newest packets.
        now_s: The run's clock.
        utc: A moment of the run as RFC 3339.
        blank: Blanks what nobody may see.
    """

    ring: PacketRing
    now_s: Callable[[], float]
    utc: Callable[[float], str]
    blank: Blank | None = None


class Writer(Protocol):
    """What writes packets into a file."""

    @property
    def seconds(self) -> float:
        """How long it is so far."""

    def write(self, packet: VideoPacket) -> None:
        """Write one packet. Raises OSError, FFmpegError."""

    def close(self) -> bool:
        """Complete the file; whether there is anything in it. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Span:
    """What of an event is filmed.

    Attributes:
        camera: The camera's name.
        event: The event's id.
        day: When it began, as 2026-01-31.
        from_s: Where the clip should begin, in seconds of the run.
        start_s: Where the event began.
        max_s: How long the clip may be.
    """

    camera: str
    event: str
    day: str
    from_s: float
    start_s: float
    max_s: float


class Clip:
    """Writes one event. `extend` and `close` may be called by any thread.

    Args:
        span: What of which event.
        filmed: Its camera.
        shelf: Where the file goes.
        reports: Who is told.
        encoders: How many clips may be encoded at the same time; one that is copied takes none.
        until_s: To where it goes, as far as is known now.
    """

    def __init__(
        self,
        span: Span,
        filmed: Filmed,
        shelf: Shelf,
        reports: Reports,
        encoders: threading.Semaphore,
        until_s: float,
    ) -> None:
        self._span, self._filmed, self._shelf, self._reports = span, filmed, shelf, reports
        self._encoders = encoders
        self._until_s, self._final = until_s, False
        self._closing = threading.Event()
        self._leave_s = math.inf
        # Taken at once: from now on the ring keeps what it begins with.
        self._reader = filmed.ring.read(span.from_s, span.start_s)
        self._writer: Writer | None = None
        self._file: ShelfFile | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=f"clip-{span.camera}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it is being written."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def extend(self, until_s: float, *, final: bool) -> None:
        """Say to where it goes now, and whether that is the end of it."""
        self._until_s = max(self._until_s, until_s)
        self._final = self._final or final

    def close(self) -> None:
        """Write what has come so far and complete the file soon."""
        self._leave_s = time.monotonic() + _LEAVE_S
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        from av.error import FFmpegError

        span, slot = self._span, False
        try:
            if self._reader is None:
                self._reports.cut(span.camera, span.event, "there is no video of it")
                return
            if not self._copied:
                _stand_back()
                slot = self._slot()
            self._write_all()
        except NoRoom:
            self._reports.cut(span.camera, span.event, "its folder holds all that it may; raise clips.max_mb")
        except OSError as error:
            self._failed = True
            self._reports.failed(error)
        except (FFmpegError, ValueError) as error:
            self._reports.cut(span.camera, span.event, f"its video cannot be written ({one_line(error)})")
        except Exception as error:  # noqa: BLE001  a clip that fails must not do so unseen
            self._reports.cut(span.camera, span.event, one_line(error))
        finally:
            if self._reader is not None:
                self._reader.close()
            if slot:
                self._encoders.release()
            self._finish()

    @property
    def _copied(self) -> bool:
        assert self._reader is not None
        return self._filmed.blank is None and can_copy(self._reader.video)

    def _slot(self) -> bool:
        while not self._encoders.acquire(timeout=_LOOK_S):
            if self._closing.is_set():
                # Whatever there is can be begun; the process may end before it is done.
                return False
        return True

    def _write_all(self) -> None:
        span = self._span
        while self._reader is not None:
            limit_s = self._reader.start_s + span.max_s
            final, wanted_s = self._final, self._until_s
            packets = self._reader.take(min(wanted_s, limit_s))
            for packet in packets:
                if time.monotonic() > self._leave_s:
                    self._reports.cut(span.camera, span.event, "the run has ended")
                    return
                self._write(packet)
            if packets:
                continue
            if self._reader.lost:
                if self._writer is not None:
                    self._reports.cut(span.camera, span.event, "it could not be written as fast as it came")
                    return
                # Waiting for an encoder took too long: from the oldest that is there.
                self._reader.close()
                self._reader = self._filmed.ring.read(span.from_s, span.start_s)
                continue
            over = self._reader.past and (final or wanted_s >= limit_s)
            silent = final and self._filmed.now_s() > wanted_s + _SILENT_S
            if over or silent or self._reader.ended or self._closing.is_set():
                return
            self._closing.wait(_LOOK_S)
        self._reports.cut(span.camera, span.event, "nothing of it is there any more")

    def _write(self, packet: VideoPacket) -> None:
        if self._writer is None:
            assert self._reader is not None
            span, video = self._span, self._reader.video
            self._file = self._shelf.new_file(span.camera, span.event, span.day, "mp4")
            copied = self._copied
            self._writer = Copy(self._file, video) if copied else Encode(self._file, video, self._filmed.blank)
        self._writer.write(packet)

    def _finish(self) -> None:
        if self._file is None:
            return
        try:
            if self._writer is None or not self._writer.close():
                self._file.discard()
                return
            seconds = self._writer.seconds
            path = self._file.finish(sync=True)
        except OSError as error:
            self._reports.failed(error)
            return
        if not self._failed:
            self._reports.works()
        log.info("camera %s: clip of %.1f s: %s", self._span.camera, seconds, shown_path(path))


def _stand_back() -> None:
    """Let scoring go before what this thread does, where threads have priorities of their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
