"""What the connections of one camera give: their frames, handed to the listener, until there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_runtime.errors import InvalidFrame
from edge_runtime.records import GapReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.connection import Connection, Fault, Grabbed
from edge_runtime.video.damage import Damage
from edge_runtime.video.journal import CameraJournal, CameraListener
from edge_runtime.video.lag import Lag
from edge_runtime.video.pace import StreamPace
from edge_runtime.video.sources import Source
from edge_runtime.video.turn import Ended, Turn

# So many frames in a row without a picture are a broken stream, fewer are lost packets.
_UNDECODABLE_FRAMES = 10
# A camera that is joined between two key frames has no whole picture before the next; some send one in ten seconds.
_FIRST_WHOLE_S = 20.0


class Delivery:
    """Takes frames from one connection after the other. One reader at a time uses it.

    Args:
        source: The camera.
        listener: Who gets the frames.
        journal: Who is told of them.
        clock: Of the run.
        lock: The camera's, under which its watchdog looks.
        stopping: Whether the camera is to end.
        delivered: Called after each frame.
        stall_s: How long a wait for one frame is a stall.
        read_limit_s: How long a reader may be blocked by one frame.

    Attributes:
        index: How many frames were delivered.
        last_s: When the last one came; before the first, when the camera was started.
    """

    def __init__(
        self,
        source: Source,
        listener: CameraListener,
        journal: CameraJournal,
        *,
        clock: RunClock,
        lock: threading.RLock,
        stopping: Callable[[], bool],
        delivered: Callable[[], None],
        stall_s: float,
        read_limit_s: float,
    ) -> None:
        self.index = 0
        self.last_s = 0.0
        self._source, self._listener, self._journal = source, listener, journal
        self._damage = Damage(journal)
        self._clock, self._lock = clock, lock
        self._stopping, self._delivered = stopping, delivered
        self._stall_s, self._read_limit_s = stall_s, read_limit_s

    @property
    def damaged(self) -> int:
        """How many frames were left out because they, or one that they depend on, came damaged."""
        return self._damage.count

    def drain(self, turn: Turn, connection: Connection, late: bool = False) -> Ended:
        """Deliver the frames of an open connection until there are none.

        Args:
            turn: Of the reader.
            connection: Just opened.
            late: Whether that took as long as it may. Then it has ended, though it opened.

        Returns:
            Why there are none.

        Raises:
            GivenUp: The reader was replaced meanwhile.
            Exception: What the listener raised.
        """
        opened_s = self._clock.now_s()
        first_s: float | None = None
        without_picture = 0
        lag = Lag()
        # Since when frames are left out, because there was no time to decode them.
        left_out_s: float | None = None
        turn.opened(None if self._source.kind in ("device", "loop") else StreamPace(self._stall_s))
        while True:
            try:
                with turn.native(self._read_limit_s):
                    grabbed = connection.grab()
            except Fault as fault:
                return self._why_ended(turn, fault, first_s, late)
            seconds = self._clock.now_s()
            if turn.stalled is not None or self._stopping():
                # A frame that comes after the stall was reported is old, and so is what follows it.
                return Ended("stalled", "timeout", turn.stalled or "stopped", self._good_s(first_s))
            self._keep_pace(turn, connection, grabbed, seconds)
            if grabbed not in ("whole", "cut"):
                if first_s is None and seconds - opened_s > _FIRST_WHOLE_S:
                    detail = f"no whole frame in {_FIRST_WHOLE_S:g} s; let the camera send key frames more often"
                    return Ended("undecodable", "no_video", detail)
                if left_out_s is None or grabbed == "damaged":
                    self._without(grabbed == "damaged" and first_s is not None, seconds)
                continue
            if left_out_s is not None:
                self._journal.left_out(left_out_s, seconds)
                left_out_s = None
            # The first frame of a connection is converted before `online` is reported.
            doubtful = first_s is None or without_picture > 0 or not self._journal.flowing
            if self._deliver(connection, seconds, doubtful, grabbed == "cut"):
                self._damage.whole(seconds)
                first_s = seconds if first_s is None else first_s
                without_picture = 0
                if (behind_s := lag.came(seconds, connection.stamp_s())) > 0:
                    try:
                        caught_up = self._catch_up(turn, connection, lag, behind_s)
                    except Fault as fault:
                        return self._why_ended(turn, fault, first_s, late)
                    left_out_s = seconds if caught_up else None
            else:
                without_picture += 1
                if without_picture >= _UNDECODABLE_FRAMES:
                    detail = f"{without_picture} frames in a row gave no picture; check the camera's video settings"
                    return Ended("undecodable", "no_video", detail, self._good_s(first_s))

    def _catch_up(self, turn: Turn, connection: Connection, lag: Lag, behind_s: float) -> bool:
        """Leave out frames that wait because this computer is too slow; whether there are any."""
        with turn.native(self._read_limit_s):
            caught_up = connection.catch_up(behind_s)
        lag.tried(self._clock.now_s(), caught_up)
        if caught_up and turn.pace is not None:
            with self._lock:
                turn.pace.interrupt()
        return caught_up

    def _keep_pace(self, turn: Turn, connection: Connection, grabbed: Grabbed, seconds: float) -> None:
        if turn.pace is None:
            return
        with self._lock:
            if grabbed == "whole":
                turn.pace.came(seconds, turn.waited_s, connection.stamp_s())
            elif grabbed == "damaged":
                turn.pace.interrupt()
            else:
                turn.pace.waited(turn.waited_s)

    def _good_s(self, first_s: float | None) -> float:
        return 0.0 if first_s is None else self.last_s - first_s

    def _why_ended(self, turn: Turn, fault: Fault, first_s: float | None, late: bool) -> Ended:
        if turn.stalled is not None:
            return Ended("stalled", "timeout", turn.stalled, self._good_s(first_s))
        if first_s is not None:
            gap: GapReason = "stalled" if fault.reason == "timeout" else "lost"
            return Ended(gap, fault.reason, fault.detail, self._good_s(first_s))
        if fault.reason == "timeout":
            return Ended("lost", fault.reason, fault.detail)
        if late:
            return Ended("lost", "timeout", "it answers too slowly to find its video; check the network and its load")
        detail = "it opened, but ended before one frame could be decoded; check that the URL is that of its stream"
        return Ended("undecodable", "no_video", detail)

    def _without(self, damaged: bool, seconds: float) -> None:
        """A frame came that is not whole."""
        if damaged:
            self._damage.damaged(seconds)
        if self._journal.flowing and seconds - self.last_s >= self._stall_s:
            # The connection stays: its next key frame is the soonest that a whole frame can come.
            detail = f"no whole frame for {self._stall_s:g} s; check the network"
            self._journal.went("stalled", "undecodable", detail, self.last_s, seconds, "timeout")

    def _deliver(self, connection: Connection, seconds: float, doubtful: bool, cut: bool) -> bool:
        """Hand one frame to the listener; False when it turned out to have no picture."""
        current, failed = True, False

        def retrieve() -> UInt8Array:
            nonlocal failed
            if not current:
                raise RuntimeError(f"camera {self._source.name}: retrieve() only inside on_frame()")
            picture = connection.picture()
            if picture is None:
                failed = True
                raise InvalidFrame(f"camera {self._source.name}: a frame decodes to no picture; it is left out")
            return picture

        if doubtful:
            first = connection.picture()
            if first is None:
                return False
            self._journal.came(f"frames of {first.shape[1]} x {first.shape[0]}", seconds)
        frame = DecodedFrame(self.index, seconds, retrieve, connection.is_key(), cut)
        try:
            self._listener.on_frame(frame)
        except InvalidFrame:
            if not failed:
                raise
        finally:
            current = False
        if failed:
            return False
        self.index += 1
        self.last_s = seconds
        self._delivered()
        return True
