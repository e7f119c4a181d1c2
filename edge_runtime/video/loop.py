"""Plays a video file as a live camera: in real time, over and over. For demonstrations, tests and long trials.

Frames come when their times in the file say, and packets with them, so that clips of it can be made. Each round opens
the file anew: one that was deleted or replaced is noticed, and every container can begin again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edge_runtime.errors import SourceUnavailable
from edge_runtime.files import file_stamp
from edge_runtime.stream.packets import PacketTap, VideoFormat
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.connection import Fault, Grabbed
from edge_runtime.video.network import bgr_of
from edge_runtime.video.sources import Source, check_file

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.bitstream import BitStreamFilterContext
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

# A reader must be able to stop: it is not kept waiting for longer at once.
_PATIENCE_S = 0.1
# Recordings with pauses, of scenes where nothing moves: a camera that gives nothing for longer counts as stalled.
_LONGEST_PAUSE_S = 2.0
# Behind by more than this it plays on later: a computer that was busy must not be given all at once.
_BEHIND_S = 1.0
# Of files that state none, or one that no camera has: some state that of their ticks.
_RATE, _HIGHEST_RATE = Fraction(25), 1000


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What comes next: `frame`, None where one is damaged, at `due_s`; `cut`: it does not follow the one before."""

    frame: VideoFrame | None
    due_s: float
    cut: bool = False


class LoopConnection:
    """A file that is played for ever; see Connection.

    Args:
        source: A `loop`.
        tap: Takes every packet of the video, with times that go on from round to round. Of a file that is to be shown
            turned it gets nothing: packets cannot be turned, and what is masked would not be in its place.

    Raises:
        Fault: It is not there, or not one frame of it can be decoded.
    """

    def __init__(self, source: Source, tap: PacketTap | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = Path(source.target)
        self._reformatter = VideoReformatter()
        self._frame: VideoFrame | None = None
        self._ahead: _Ahead | None = None
        self._round: _Round | None = None
        self._turned = False
        self._stamp = file_stamp(self._path)
        self._format = self._try_it()
        self._tap = None if self._turned else tap
        self._coming = self._rounds()
        if self._tap is not None:
            self._tap.begin(self._format)

    def grab(self) -> Grabbed:
        """See Connection. Waits until the next frame is due."""
        self._frame = None
        if self._ahead is None:
            self._ahead = next(self._coming)
        wait_s = self._ahead.due_s - time.monotonic()
        if wait_s > _PATIENCE_S:
            time.sleep(_PATIENCE_S)
            return "nothing"
        if wait_s > 0:
            time.sleep(wait_s)
        ahead, self._ahead = self._ahead, None
        self._frame = ahead.frame
        if ahead.frame is None:
            return "damaged"
        return "cut" if ahead.cut else "whole"

    def picture(self) -> UInt8Array | None:
        """See Connection. Turned as the file says, as in VideoFile."""
        if self._frame is None:
            return None
        picture = bgr_of(self._frame, self._reformatter)
        quarters = _quarters(self._frame)
        if picture is None or not quarters:
            return picture
        return np.ascontiguousarray(np.rot90(picture, quarters))

    def is_key(self) -> bool | None:
        """See Connection."""
        return None if self._frame is None else bool(self._frame.key_frame)

    def stamp_s(self) -> float | None:
        """See Connection. Its frames come when they are due, and no network holds them up."""
        return None

    def catch_up(self, behind_s: float) -> bool:
        """See Connection. What is late is played late."""
        del behind_s
        return False

    def close(self) -> None:
        """See Connection."""
        if self._tap is not None:
            self._tap.end()
        if self._round is not None:
            self._round.close()

    def _try_it(self) -> VideoFormat:
        """Decode the first frame, to see whether it works."""
        with contextlib.closing(_Round(self._path)) as first:
            for _, frames in first.steps():
                if frames:
                    self._turned = _quarters(frames[0]) != 0
                    return first.format
        raise Fault("no_video", "not one frame of it can be decoded; check it with ffprobe, or copy it again")

    def _rounds(self) -> Iterator[_Ahead]:
        """All that comes, for ever."""
        times = _Times(self._format.time_base)
        while True:
            self._round = current = _Round(self._path)
            if file_stamp(self._path) != self._stamp:
                # Nothing of it can be relied on: neither its format nor whether it is shown turned.
                raise Fault("ended", "the file was written anew, and is opened again")
            times.begin()
            cut, whole, seen = times.rounds > 1, True, False
            for packet, frames in current.steps():
                if packet is not None:
                    self._hand_on(current, packet, times)
                if frames is None:
                    # What follows depends on it, until a frame that depends on none.
                    whole = False
                    yield _Ahead(None, 0.0)
                    continue
                for frame in frames:
                    whole = not frame.is_corrupt and (whole or bool(frame.key_frame))
                    due_s = times.due_s(frame.pts)
                    yield _Ahead(frame if whole else None, due_s, cut)
                    if whole:
                        cut, seen = False, True
            current.close()
            if not seen:
                raise Fault("no_video", "no frame of it can be decoded any more; copy it again")

    def _hand_on(self, current: _Round, packet: Packet[Any], times: _Times) -> None:
        duration = packet.duration or current.usual
        shift = times.take(packet.pts, packet.dts, duration)
        if self._tap is None:
            return
        key, corrupt = packet.is_keyframe, packet.is_corrupt
        pts, dts = (None if at is None else at + shift for at in (packet.pts, packet.dts))
        for one in current.with_start_codes(packet):
            self._tap.take(bytes(one), key, pts, dts, corrupt)


class _Round:
    """The file from its beginning to its end, once.

    Attributes:
        format: What its packets are.
        usual: How long a frame lasts that does not say it, in the format's time base.

    Raises:
        Fault: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        import av

        try:
            check_file(path)
        except SourceUnavailable as error:
            raise Fault("not_found", str(error)) from None
        try:
            # An absolute path: `a:b.mp4` would be the protocol `a`.
            self._container: InputContainer = av.open(str(path.absolute()))
        except (av.FFmpegError, ValueError):
            raise Fault("no_video", _NO_VIDEO) from None
        try:
            self._stream, self._decoder = _video_of(self._container)
        except Fault:
            self._container.close()
            raise
        time_base = self._stream.time_base or Fraction(1, 90_000)
        rate = self._stream.average_rate or _RATE
        if not 0 < rate <= _HIGHEST_RATE:
            rate = _RATE
        self.usual = max(1, round(1 / (rate * time_base)))
        extradata = bytes(self._decoder.extradata or b"")
        self._filter: BitStreamFilterContext | None = None
        if self._decoder.name == "h264" and extradata[:1] == b"\1":
            # As cameras send it: that can be copied into clips.
            self._filter = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", self._stream)
            extradata = b""
        width, height = self._decoder.width, self._decoder.height
        self.format = VideoFormat(self._decoder.name, time_base, width, height, extradata)

    def steps(self) -> Iterator[tuple[Packet[Any] | None, list[VideoFrame] | None]]:
        """Each packet and what became of it: frames in the order of showing; None where it is damaged."""
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                # Cut short: the rest of it is not there.
                packet = None
            if packet is None or packet.size == 0:
                break
            try:
                frames = self._decoder.decode(packet)
            except FFmpegError:
                yield packet, None
            else:
                yield packet, frames
        with contextlib.suppress(FFmpegError):
            yield None, self._decoder.decode(None)

    def with_start_codes(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """A packet in the form that `format` says; it is used up by that."""
        return [packet] if self._filter is None else self._filter.filter(packet)

    def close(self) -> None:
        """Free what it holds."""
        self._container.close()


class _Times:
    """When frames are due, and how far packets of a round are shifted. Times of a file begin where they like.

    Attributes:
        rounds: How many were begun.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._tick_s = float(time_base)
        self.rounds = 0
        self._shift: int | None = None
        # Behind all that was shown, and the last packet's time of decoding, both shifted.
        self._end = 0
        self._decoded: int | None = None
        self._usual = 1
        self._shown: int | None = None
        self._due_s = 0.0

    def begin(self) -> None:
        """A round begins."""
        self.rounds += 1
        self._shift = None

    def take(self, pts: int | None, dts: int | None, duration: int) -> int:
        """Take a packet's times in the file; returns what is to be added to them."""
        shown = pts if pts is not None else dts
        self._usual = duration
        if shown is None:
            # A bare stream without times: one after the other.
            self._end += duration
            return 0
        if self._shift is None:
            begin = self._end
            if dts is not None and self._decoded is not None:
                begin = max(begin, self._decoded + 1 + shown - dts)
            self._shift = begin - shown
        self._end = max(self._end, shown + self._shift + duration)
        if dts is not None:
            self._decoded = max(dts + self._shift, self._decoded or dts + self._shift)
        return self._shift

    def due_s(self, pts: int | None) -> float:
        """When a frame is due, on the monotonic clock."""
        now_s = time.monotonic()
        if self._shown is None:
            self._due_s = now_s
            self._shown = 0 if pts is None else pts + (self._shift or 0)
            return now_s
        shown = self._shown + self._usual if pts is None else pts + (self._shift or 0)
        step_s = (shown - self._shown if shown > self._shown else self._usual) * self._tick_s
        self._shown = shown
        self._due_s += min(step_s, _LONGEST_PAUSE_S)
        if now_s - self._due_s > _BEHIND_S:
            self._due_s = now_s
        return self._due_s


_NO_VIDEO = "it holds no video that FFmpeg can decode; check it with ffprobe, or convert it with ffmpeg"


def _video_of(container: InputContainer) -> tuple[VideoStream, VideoCodecContext]:
    """The video of a file, no cover of a piece of music, and its decoder."""
    video = cast("VideoStream | None", container.streams.best("video"))
    if video is None:
        raise Fault("no_video", _NO_VIDEO)
    decoder = video.codec_context
    if decoder is None:
        raise Fault("unsupported_codec", _NO_VIDEO)
    # The other cores are for inference, and n threads hold back n - 1 frames.
    decoder.thread_count = 1
    return video, decoder


def _quarters(frame: VideoFrame) -> int:
    """By how many quarters of a circle a frame is to be turned, against the clock."""
    return round(frame.rotation / 90) % 4
