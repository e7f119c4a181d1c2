"""A camera's video as it came, before it is decoded: what a reader hands on and a ring keeps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What the packets of one connection are.

    Attributes:
        codec: FFmpeg's name of it: `h264`, `hevc`, `mjpeg`.
        time_base: Unit of `pts` and `dts` in seconds.
        width: Of the picture in pixels as the stream announced it; 0 where it did not.
        height: The same.
        extradata: What a decoder needs before the first packet, as FFmpeg gives it; may be empty.
    """

    codec: str
    time_base: Fraction
    width: int = 0
    height: int = 0
    extradata: bytes = b""


@dataclass(frozen=True, slots=True)
class VideoPacket:
    """One packet.

    Attributes:
        data: Its bytes.
        arrival_s: When it came, in seconds of the run.
        key: Whether it can be decoded without any before it.
        pts: When its picture is shown, in the format's time base; None where the camera did not say.
        dts: When it is decoded; None likewise.
        damaged: Whether it is known not to be what the camera sent.
    """

    data: bytes
    arrival_s: float
    key: bool
    pts: int | None = None
    dts: int | None = None
    damaged: bool = False


class PacketTap(Protocol):
    """Takes the packets of one connection, in its reader's thread; must not block."""

    def begin(self, video: VideoFormat) -> None:
        """The connection is open; what comes next is of this format."""

    def take(self, data: bytes, key: bool, pts: int | None, dts: int | None, damaged: bool) -> None:
        """One packet, in decoding order; see VideoPacket."""

    def end(self) -> None:
        """The connection is over; may be called more than once."""
