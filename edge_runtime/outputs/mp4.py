"""Writes H.264 into MP4 files that can be played at any moment, whatever ends the program.

While it is written a file consists of fragments of about a second; when it is closed FFmpeg turns it into a regular
one (`hybrid_fragmented`).
"""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.stream.packets import VideoFormat, VideoPacket

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer

#: Unit of the times in files, of a second: that of RTP.
TICKS = 90_000

_OPTIONS = {"movflags": "hybrid_fragmented+frag_keyframe", "frag_duration": "1000000"}
_FLUSH_PACKETS = 0x200  # AVFMT_FLAG_FLUSH_PACKETS
# What an index has of a packet, and a file at all; both are generous.
_INDEXED, _FRAME = 64, 8192
# Own times of a camera that jump ahead by more than this are not believed, and neither are those that go at another
# pace than its packets come: one that is joined sends some seconds at once.
_JUMP_S, _APART_S = 1.0, 10.0
_APART_AT_LEAST_S = 0.01
# Pictures are shown at most so much later than they are decoded.
_REORDERED_S = 2.0
_SEQUENCE = 7


class Target(Protocol):
    """Where a file is written; a ShelfFile for real."""

    size: int

    def claim(self, size: int) -> None:
        """Make sure that it may become so many bytes long. Raises OSError."""

    def write(self, data: bytes) -> int:
        """Write at the current place. Raises OSError."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""

    def tell(self) -> int:
        """The current place."""

    def truncate(self, size: int) -> None:
        """Cut the end off. Raises OSError."""


class ClipTimes:
    """When packets are decoded and shown, from 0, in ticks: by the camera's own times where they make sense.

    Args:
        video: The format of the packets.
    """

    def __init__(self, video: VideoFormat) -> None:
        self._time_base = video.time_base
        # FFmpeg makes up times for pictures that come without any.
        self._own = video.codec != "mjpeg"
        self._first_s = 0.0
        self._last: VideoPacket | None = None
        self._ticks = 0

    def place(self, packet: VideoPacket) -> tuple[int, int]:
        """Times of the next packet: when it is shown, and when it is decoded, which grows with every packet."""
        if self._last is None:
            self._first_s = packet.arrival_s
        else:
            self._ticks += max(1, round(TICKS * self._step_s(self._last, packet)))
        self._last = packet
        later_s = 0.0
        if self._own and packet.pts is not None and packet.dts is not None:
            later_s = float((packet.pts - packet.dts) * self._time_base)
        later = round(TICKS * later_s) if 0 < later_s <= _REORDERED_S else 0
        return self._ticks + later, self._ticks

    def _step_s(self, last: VideoPacket, packet: VideoPacket) -> float:
        if not self._own:
            # Some wait until a connection is open, and come together.
            return max(_APART_AT_LEAST_S, packet.arrival_s - self._first_s - self._ticks / TICKS)
        arrived_s = max(0.0, packet.arrival_s - last.arrival_s)
        before, now = (one.pts if one.dts is None else one.dts for one in (last, packet))
        if before is None or now is None:
            return arrived_s
        step_s = float((now - before) * self._time_base)
        apart_s = self._ticks / TICKS + step_s - (packet.arrival_s - self._first_s)
        return step_s if 0 < step_s <= arrived_s + _JUMP_S and abs(apart_s) <= _APART_S else arrived_s


class Mp4:
    """One file.

    Args:
        target: What it is written to.

    Attributes:
        container: FFmpeg's, to add one stream to.
        ticks: When the packet that was written last is shown.
    """

    def __init__(self, target: Target) -> None:
        import av

        self._target = target
        self.container: OutputContainer = av.open(target, "w", format="mp4", container_options=dict(_OPTIONS))
        # A fragment that is complete must not wait in a buffer.
        self.container.flags |= _FLUSH_PACKETS
        self.ticks = 0
        self._packets = 0
        self._waiting = 0
        self._whole = 0

    def write(self, packet: Packet[Any]) -> None:
        """Write one packet.

        Raises:
            NoRoom: There is none for it, and the file can be closed still.
            OSError: The disk is full or broken.
            FFmpegError: It is no packet.
        """
        size = self._target.size
        wanted = size + self._waiting + packet.size + _INDEXED * (self._packets + 2) + _FRAME
        # Also for the index that ends the file.
        self._target.claim(wanted)
        self.ticks = max(self.ticks, packet.pts or 0)
        self.container.mux(packet)
        self._packets += 1
        self._waiting += packet.size
        if self._target.size != size:
            self._waiting = packet.size
            self._whole = self._target.size

    def close(self) -> bool:
        """Complete the file as far as that is possible; whether there is anything in it.

        Raises:
            OSError: The disk is broken.
        """
        from av.error import FFmpegError

        if not self._packets:
            with contextlib.suppress(OSError, FFmpegError, ValueError):
                self.container.close()
            return False
        try:
            self.container.close()
        except (OSError, FFmpegError):
            # What cannot be completed stays in fragments.
            self._target.truncate(self._whole)
            return self._whole > _FRAGMENTED
        return True


# A file that has fewer bytes has no fragment.
_FRAGMENTED = 256


class Copy:
    """Writes a camera's H.264 as it came.

    Args:
        target: The file.
        video: What comes. See `can_copy`.
    """

    def __init__(self, target: Target, video: VideoFormat) -> None:
        self._mp4, self._video, self._times = Mp4(target), video, ClipTimes(video)
        base = Fraction(1, TICKS)
        size = {"width": video.width, "height": video.height}
        self._stream = self._mp4.container.add_mux_stream("h264", time_base=base, **size)
        self._begun = False

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self._mp4.ticks / TICKS

    def write(self, packet: VideoPacket) -> None:
        """Write one packet, the first a key frame; one that is damaged is left out. Raises as Mp4.write."""
        import av

        if packet.damaged:
            return
        data = packet.data
        if not self._begun and not _has_sequence(data):
            data = self._video.extradata + data
        written = av.Packet(data)
        written.stream = self._stream
        written.time_base = Fraction(1, TICKS)
        written.pts, written.dts = self._times.place(packet)
        written.is_keyframe = packet.key
        self._begun = True
        self._mp4.write(written)

    def close(self) -> bool:
        """See Mp4."""
        return self._mp4.close()


def can_copy(video: VideoFormat) -> bool:
    """Whether packets can go into a file as they are: H.264 with start codes, of a known size."""
    starts = not video.extradata or video.extradata.startswith((b"\0\0\1", b"\0\0\0\1"))
    return video.codec == "h264" and starts and video.width > 0 and video.height > 0


def mend(path: Path) -> bool:
    """Cut a file that was not closed behind its last whole fragment; whether it can be played."""
    try:
        with path.open("r+b") as file:
            file.truncate(_whole_boxes(file.fileno()))
        return _plays(path)
    except OSError:
        return False


def _has_sequence(data: bytes) -> bool:
    at = 0
    while (at := data.find(b"\0\0\1", at)) >= 0 and at + 3 < len(data):
        if data[at + 3] & 0x1F == _SEQUENCE:
            return True
        at += 3
    return False


def _whole_boxes(descriptor: int) -> int:
    """Where the last box ends that is complete and needs nothing behind it."""
    at = whole = 0
    length = os.fstat(descriptor).st_size
    while len(head := os.pread(descriptor, 16, at)) >= 8:
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size < 8 or at + size > length:
            break
        at += size
        # A fragment's index is followed by its content.
        if kind != b"moof":
            whole = at
    return whole


def _plays(path: Path) -> bool:
    import av

    try:
        with av.open(str(path)) as container:
            return any(container.decode(video=0))
    except (av.FFmpegError, IndexError, ValueError):
        return False
