"""Decodes what cameras send, and writes it as H.264 again where it cannot be copied: other codecs, and masks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_runtime.outputs.mp4 import TICKS, ClipTimes, Mp4, Target
from edge_runtime.stream.packets import VideoFormat, VideoPacket
from edge_runtime.stream.pixels import UInt8Array

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

Blank = Callable[[UInt8Array], UInt8Array]

# One thread, and nothing held back: cores are for the cameras, and a clip is complete the moment its event is.
_ENCODER = {"preset": "superfast", "tune": "zerolatency", "crf": "24", "threads": "1"}
_KEY_EVERY = 50
# Only a hint for the encoder's rate control; times are the frames' own.
_RATE = 25


class Encode:
    """Writes a camera's video as H.264, 4:2:0, of an even size.

    Args:
        target: The file.
        video: What comes.
        blank: Blanks what nobody may see in a picture, BGR uint8 (h, w, 3).
    """

    def __init__(self, target: Target, video: VideoFormat, blank: Blank | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._mp4, self._times, self._blank = Mp4(target), ClipTimes(video), blank
        self._decoder = _decoder(video)
        self._pictures, self._drawn = VideoReformatter(), VideoReformatter()
        self._stream: VideoStream | None = None
        self._last = -1

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self._mp4.ticks / TICKS

    def write(self, packet: VideoPacket) -> None:
        """Write one packet, the first a key frame. Raises as Mp4.write."""
        import av

        shown, decoded = self._times.place(packet)
        if packet.damaged:
            return
        taken = av.Packet(packet.data)
        taken.time_base = Fraction(1, TICKS)
        taken.pts, taken.dts = shown, decoded
        for frame in _decode(self._decoder, taken):
            self._write(frame)

    def close(self) -> bool:
        """See Mp4."""
        from av.error import FFmpegError

        with contextlib.suppress(OSError, FFmpegError):
            for frame in _decode(self._decoder, None):
                self._write(frame)
            if self._stream is not None:
                for packet in self._stream.encode(None):
                    self._mp4.write(packet)
        return self._mp4.close()

    def _write(self, frame: VideoFrame) -> None:
        from av import VideoFrame

        ticks = self._last + 1 if frame.pts is None else max(frame.pts, self._last + 1)
        if self._blank is not None:
            frame = VideoFrame.from_ndarray(self._blank(_picture(frame, self._pictures)), format="bgr24")
        if self._stream is None:
            self._stream = self._encoder(frame.width, frame.height)
        context = self._stream.codec_context
        # A camera may change its size while it runs; a file has one.
        size = context.width, context.height
        drawn = self._drawn.reformat(frame, *size, "yuv420p", dst_color_range="MPEG", threads=1)
        drawn.pts, drawn.time_base = ticks, Fraction(1, TICKS)
        drawn.pict_type = 0
        self._last = ticks
        for packet in self._stream.encode(drawn):
            self._mp4.write(packet)

    def _encoder(self, width: int, height: int) -> VideoStream:
        stream = self._mp4.container.add_stream(
            "libx264",
            rate=_RATE,
            options=dict(_ENCODER),
            width=max(2, width // 2 * 2),
            height=max(2, height // 2 * 2),
            time_base=Fraction(1, TICKS),
        )
        stream.codec_context.gop_size = _KEY_EVERY
        stream.codec_context.thread_count = 1
        return stream


def last_picture(video: VideoFormat, packets: Sequence[VideoPacket]) -> UInt8Array | None:
    """Decode packets from a key frame on; the last picture that they give, BGR uint8 (h, w, 3), if any."""
    from av.video.reformatter import VideoReformatter

    last: VideoFrame | None = None
    for last in _frames(video, packets):  # noqa: B007  only the last one is converted
        pass
    return None if last is None else _picture(last, VideoReformatter())


def _frames(video: VideoFormat, packets: Iterable[VideoPacket]) -> Iterator[VideoFrame]:
    import av

    decoder = _decoder(video)
    for packet in packets:
        if not packet.damaged:
            yield from _decode(decoder, av.Packet(packet.data))
    yield from _decode(decoder, None)


def _decoder(video: VideoFormat) -> VideoCodecContext:
    import av

    decoder = cast("VideoCodecContext", av.CodecContext.create(video.codec, "r"))
    if video.extradata:
        decoder.extradata = video.extradata
    if video.width > 0 and video.height > 0:
        # Old formats of files do not say it themselves.
        decoder.width, decoder.height = video.width, video.height
    decoder.thread_count = 1
    return decoder


def _decode(decoder: VideoCodecContext, packet: object) -> list[VideoFrame]:
    from av.error import FFmpegError

    try:
        return [frame for frame in decoder.decode(cast("None", packet)) if not frame.is_corrupt]
    except FFmpegError:
        return []


def _picture(frame: VideoFrame, reformatter: VideoReformatter) -> UInt8Array:
    # As cameras' frames are converted for the model, and in this thread alone.
    drawn = reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
    return np.asarray(drawn.to_ndarray(), dtype=np.uint8)
