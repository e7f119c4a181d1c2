"""A camera's newest packets in bounded memory, from which clips and snapshots are made when something happens.

Kept are whole runs of packets that begin with a key frame, as nothing else can be decoded. Beyond the bytes the
oldest run goes, whoever still reads it: memory never grows with a disk or an encoder that is slow.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_runtime.stream.packets import VideoFormat, VideoPacket

# What a packet takes beside its bytes, about.
_OVERHEAD = 256
# What a reader is given at once.
_PORTION = 256


@dataclass(slots=True, eq=False)
class _Run:
    """Packets from a key frame to the one before the next. `first` counts the packets of the ring from 0."""

    connection: int
    video: VideoFormat
    first: int
    packets: list[VideoPacket] = field(default_factory=list)
    size: int = 0

    @property
    def start_s(self) -> float:
        return self.packets[0].arrival_s

    @property
    def end(self) -> int:
        return self.first + len(self.packets)


class PacketRing:
    """The packets of one camera. Any thread may call anything.

    Args:
        most_bytes: What may be kept, in bytes.
        now_s: The run's clock: packets are dated when they come.

    Attributes:
        dropped: How many runs had to go, because all were too large, before they were too old.
    """

    def __init__(self, most_bytes: int, now_s: Callable[[], float]) -> None:
        if most_bytes < 1:
            raise ValueError(f"a ring of {most_bytes} bytes holds no packet")
        self._most_bytes, self._now_s = most_bytes, now_s
        self._lock = threading.Lock()
        self._runs: deque[_Run] = deque()
        self._size = 0
        self._next = 0
        self._connection = 0
        self._video: VideoFormat | None = None
        # Whether the newest run goes on: a packet that depends on one that is not there is of no use.
        self._going = False
        self._keep_from_s = -math.inf
        self._readers: list[RingReader] = []
        self.dropped = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return self._size

    def tap(self) -> RingTap:
        """What the next connection hands its packets to; that of a connection before it is heard no more."""
        with self._lock:
            self._connection += 1
            self._video, self._going = None, False
            return RingTap(self, self._connection, self._now_s)

    def keep_from(self, seconds: float) -> None:
        """Say that nothing before that moment will be asked for, but by those who read already."""
        with self._lock:
            self._keep_from_s = max(self._keep_from_s, seconds)
            self._trim()

    def forget_before(self, seconds: float) -> None:
        """Forget all where the camera has sent nothing since that moment."""
        with self._lock:
            if self._runs and self._runs[-1].packets[-1].arrival_s < seconds:
                while self._runs:
                    self._drop()

    def read(self, from_s: float, start_s: float) -> RingReader | None:
        """Read from the key frame at or before a moment on, within one connection.

        Args:
            from_s: The moment. Where the connection is younger, or the key frame gone: from its oldest one.
            start_s: A later moment, which tells the connection: the last one that began before it.

        Returns:
            A reader, which is to be closed; None where there is nothing of that connection.
        """
        with self._lock:
            if (run := self._run_at(from_s, start_s)) is None:
                return None
            reader = RingReader(self, run.connection, run.video, run.first, run.start_s)
            self._readers.append(reader)
            return reader

    def until(self, seconds: float) -> tuple[VideoFormat, Sequence[VideoPacket]] | None:
        """What has to be decoded for the picture of a moment: from a key frame to the last packet not after it.

        Where the oldest key frame is younger than the moment, that alone; None where there is none.
        """
        with self._lock:
            if (run := self._run_at(seconds, seconds)) is None:
                return None
            packets = [packet for packet in run.packets if packet.arrival_s <= seconds]
            return run.video, packets or run.packets[:1]

    def _run_at(self, from_s: float, start_s: float) -> _Run | None:
        """The run to begin with. The lock is held."""
        if not self._runs:
            return None
        begun = [run.connection for run in self._runs if run.start_s <= start_s]
        connection = begun[-1] if begun else self._runs[0].connection
        of_it = [run for run in self._runs if run.connection == connection]
        before = [run for run in of_it if run.start_s <= from_s]
        return before[-1] if before else of_it[0]

    # ---- for RingTap

    def _begin(self, connection: int, video: VideoFormat) -> None:
        with self._lock:
            if connection == self._connection:
                self._video, self._going = video, False

    def _take(self, connection: int, packet: VideoPacket) -> None:
        with self._lock:
            if connection != self._connection or self._video is None:
                return
            if packet.key and not packet.damaged:
                self._runs.append(_Run(connection, self._video, self._next))
                self._going = True
            if not self._going:
                # Counted all the same: whoever read what was before it learns of the hole.
                self._next += 1
                return
            run, size = self._runs[-1], len(packet.data) + _OVERHEAD
            run.packets.append(packet)
            run.size += size
            self._size += size
            self._next += 1
            self._trim()

    def _end(self, connection: int) -> None:
        with self._lock:
            if connection == self._connection:
                self._video, self._going = None, False

    def _is_over(self, connection: int) -> bool:
        return connection != self._connection or self._video is None

    # ---- for RingReader

    def _read(self, reader: RingReader, until_s: float) -> list[VideoPacket]:
        with self._lock:
            found: list[VideoPacket] = []
            reader.past = reader.ended = False
            for run in self._runs:
                if run.connection != reader.connection or run.end <= reader.place:
                    continue
                if run.first > reader.place:
                    # What was before it is gone.
                    reader.lost = True
                    return found
                for packet in run.packets[reader.place - run.first :]:
                    if packet.arrival_s > until_s:
                        reader.past = True
                        return found
                    if len(found) == _PORTION:
                        return found
                    found.append(packet)
                    reader.place += 1
            if not found:
                reader.lost = reader.lost or reader.place < self._next_of(reader.connection)
                reader.ended = self._is_over(reader.connection)
            return found

    def _next_of(self, connection: int) -> int:
        """Behind the last packet of a connection that is known; those of others come behind it."""
        if connection == self._connection:
            return self._next
        return max((run.end for run in self._runs if run.connection == connection), default=0)

    def _leave(self, reader: RingReader) -> None:
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)
            self._trim()

    def _trim(self) -> None:
        """Let go what nobody will ask for, and then what is too much. The lock is held."""
        place = min((reader.place for reader in self._readers), default=self._next)
        while len(self._runs) > 1 and self._runs[1].start_s <= self._keep_from_s and self._runs[0].end <= place:
            self._drop()
        while self._size > self._most_bytes:
            self._drop()
            self.dropped += 1

    def _drop(self) -> None:
        self._size -= self._runs.popleft().size
        if not self._runs:
            self._going = False


class RingTap:
    """Hands one connection's packets to its ring; see PacketTap. Made by PacketRing."""

    def __init__(self, ring: PacketRing, connection: int, now_s: Callable[[], float]) -> None:
        self._ring, self._connection, self._now_s = ring, connection, now_s

    def begin(self, video: VideoFormat) -> None:
        """See PacketTap."""
        self._ring._begin(self._connection, video)

    def take(self, data: bytes, key: bool, pts: int | None, dts: int | None, damaged: bool) -> None:
        """See PacketTap."""
        self._ring._take(self._connection, VideoPacket(data, self._now_s(), key, pts, dts, damaged))

    def end(self) -> None:
        """See PacketTap."""
        self._ring._end(self._connection)


class RingReader:
    """Reads one connection's packets in order. One thread uses it. Made by PacketRing.

    Attributes:
        connection: Which one.
        video: What its packets are.
        start_s: When its first packet came.
        place: The number of the packet that comes next.
        lost: Packets that come next were let go: they were read too slowly.
        ended: The connection is over, and all of it was read.
        past: There is a packet after the moment that was asked for last.
    """

    def __init__(self, ring: PacketRing, connection: int, video: VideoFormat, place: int, start_s: float) -> None:
        self._ring = ring
        self.connection, self.video = connection, video
        self.place, self.start_s = place, start_s
        self.lost = self.ended = self.past = False

    def take(self, until_s: float) -> list[VideoPacket]:
        """What has come since and not after a moment, a portion at a time; empty where there is nothing (more)."""
        if self.lost:
            return []
        return self._ring._read(self, until_s)

    def close(self) -> None:
        """Read no more: the ring need not keep anything for it."""
        self._ring._leave(self)
