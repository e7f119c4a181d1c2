"""Reads a network camera (RTSP, HTTP) through PyAV. Several open and read at once, none waits for another.

Every packet is decoded, because frames depend on those before them; a frame becomes a picture only when asked for.
What FFmpeg prints is not heard: its lines name no camera, and may hold a URL with its password.
"""

from __future__ import annotations

import time
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.stream.packets import PacketTap, VideoFormat
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.connection import Fault, Grabbed
from edge_runtime.video.diagnosis import ca_file, resolve, why_not_open
from edge_runtime.video.h264 import FrameNumbers
from edge_runtime.video.leaving import interruptible
from edge_runtime.video.sources import Source

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter

# Over TCP where the server offers it: over UDP lost packets damage pictures. No sound, which nobody listens to.
# A short look at the stream: without `fpsprobesize` FFmpeg waits for twenty frames to guess a rate. `nobuffer` would
# throw away the frames of that look, and with them the key frame that the next seconds depend on.
_OPTIONS = {
    "rtsp_flags": "prefer_tcp",
    "allowed_media_types": "video",
    "fpsprobesize": "0",
    "analyzeduration": "500000",
}
# Errors are errors, instead of pictures that are patched up from their neighbours without a word.
_CODEC_OPTIONS = {"err_detect": "explode"}
# A stream that renews its pictures row by row has no key frames: this long after the last damage it counts as whole.
_HEALED_S = 10.0
# Between key frames a decoder that joins late has nothing to show: such a reader is not blocked.
_NOTHING_S = 1.0
# Whether frames waited is seen within so long. They have caught up when no more than this waits.
_CATCH_UP_S = 1.0
_CAUGHT_UP_S = 0.3


class NetworkConnection:
    """An open network camera; see Connection.

    Args:
        source: The camera.
        open_timeout_s: Limit for connecting, and once more for finding the video.
        read_timeout_s: Limit for one frame.
        tap: Takes every packet of the video as it came, when it was decoded.

    Raises:
        Fault: It cannot be opened.
    """

    def __init__(
        self, source: Source, open_timeout_s: float, read_timeout_s: float, tap: PacketTap | None = None
    ) -> None:
        self._source, self._read_timeout_s, self._tap = source, read_timeout_s, tap
        self._container = _open(source, open_timeout_s, read_timeout_s)
        try:
            self._video, self._decoder = _decoder_of(self._container)
        except Fault:
            self.close()
            raise
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._packets = self._container.demux()
        self._waiting: deque[VideoFrame] = deque()
        # Packets that were read to catch up, and are decoded all the same.
        self._read: deque[Packet[Any]] = deque()
        # Since when packets are not decoded until a key frame; None where they are.
        self._left_out_s: float | None = None
        self._frame: VideoFrame | None = None
        self._numbers = FrameNumbers() if self._decoder.name == "h264" else None
        if self._numbers is not None:
            self._numbers.missing(self._decoder.extradata or b"")
        self._damaged_s: float | None = None
        self._damaged_pts: int | None = None
        if tap is not None:
            tap.begin(_format_of(self._container, self._video, self._decoder))

    def grab(self) -> Grabbed:
        """See Connection. After a damaged frame all are, until one that depends on none before it."""
        self._frame = None
        begun_s = time.monotonic()
        while not self._waiting:
            if not self._decode_one(begun_s) and not self._waiting:
                return "damaged"
            if not self._waiting and time.monotonic() - begun_s >= _NOTHING_S:
                return "nothing"
        frame = self._waiting.popleft()
        if frame.is_corrupt:
            self._is_damaged(frame.pts)
            return "damaged"
        if self._damaged_s is not None:
            healed = time.monotonic() - self._damaged_s >= _HEALED_S
            if not healed and not (frame.key_frame and self._is_later(frame.pts)):
                return "damaged"
            self._damaged_s = None
        self._frame = frame
        return "whole"

    def picture(self) -> UInt8Array | None:
        """See Connection. The pixels are those that OpenCV makes of the same file, to the bit."""
        return None if self._frame is None else bgr_of(self._frame, self._reformatter)

    def is_key(self) -> bool | None:
        """See Connection."""
        return None if self._frame is None else bool(self._frame.key_frame)

    def stamp_s(self) -> float | None:
        """See Connection. Over HTTP there are none: FFmpeg counts the pictures."""
        return self._frame.time if self._frame is not None and self._source.kind == "rtsp" else None

    def catch_up(self, behind_s: float) -> bool:
        """See Connection. What waits comes faster than it was sent."""
        stamp_s, begun_s = self.stamp_s(), time.monotonic()
        if stamp_s is None or self._read:
            return False
        gained_s = took_s = 0.0
        while took_s < _CATCH_UP_S and gained_s < behind_s - _CAUGHT_UP_S:
            packet = self._next_packet(begun_s)
            self._read.append(packet)
            took_s = time.monotonic() - begun_s
            if packet.stream_index == self._video and packet.pts is not None and packet.time_base is not None:
                gained_s = float(packet.pts * packet.time_base) - stamp_s - took_s
        if gained_s < behind_s / 2:
            return False
        self._waiting.clear()
        self._left_out_s = time.monotonic()
        return True

    def close(self) -> None:
        """See Connection."""
        if self._tap is not None:
            self._tap.end()
        self._container.close()

    def _next_packet(self, begun_s: float) -> Packet[Any]:
        """Wait for a packet.

        Args:
            begun_s: Since when a frame is waited for.

        Raises:
            Fault: None comes.
        """
        from av.error import FFmpegError

        try:
            with interruptible():
                return next(self._packets)
        except StopIteration:
            raise Fault("ended", "the camera ended the stream") from None
        except FFmpegError:
            # The error's own text holds the URL with its password.
            waited_s = time.monotonic() - begun_s
            if waited_s >= 0.9 * self._read_timeout_s:
                raise self._too_late(waited_s) from None
            raise Fault("ended", "the connection ended; check the network and whether the camera restarts") from None

    def _decode_one(self, begun_s: float) -> bool:
        """Read and decode one packet. False: it was damaged."""
        from av.error import FFmpegError

        packet = self._read.popleft() if self._read else self._next_packet(begun_s)
        if packet.stream_index != self._video:
            # Sound that goes on without pictures must not keep the camera online.
            waited_s = time.monotonic() - begun_s
            if waited_s >= self._read_timeout_s:
                raise self._too_late(waited_s)
            return True
        if packet.size == 0:
            return True
        data = b"" if self._tap is None and self._numbers is None else bytes(packet)
        damaged = packet.is_corrupt
        # Where only one before it is missing the packet itself is good, and its picture is not.
        whole = not damaged and not (self._numbers is not None and self._numbers.missing(data))
        if self._left_out(packet):
            whole = True
        else:
            try:
                self._waiting.extend(self._decoder.decode(packet))
            except FFmpegError:
                damaged, whole = True, False
        if self._tap is not None:
            self._tap.take(data, packet.is_keyframe, packet.pts, packet.dts, damaged)
        if not whole:
            self._is_damaged(packet.pts)
        return whole

    def _left_out(self, packet: Packet[Any]) -> bool:
        """Whether a packet is left out: none is decoded between catching up and the next key frame behind that."""
        if self._left_out_s is None:
            return False
        waited_s = time.monotonic() - self._left_out_s
        if self._read or not (packet.is_keyframe or waited_s >= _HEALED_S):
            return True
        self._left_out_s = None
        # The decoder knows nothing of the frames in between, which the new ones do not need.
        self._decoder.flush_buffers()
        return False

    def _is_damaged(self, pts: int | None) -> None:
        self._damaged_s, self._damaged_pts = time.monotonic(), pts

    def _is_later(self, pts: int | None) -> bool:
        """Whether a frame comes behind the damage: a decoder that puts frames in order gives older ones after it."""
        return pts is None or self._damaged_pts is None or pts >= self._damaged_pts

    def _too_late(self, waited_s: float) -> Fault:
        return Fault("timeout", f"no frame within {waited_s:.1f} s; check the network and the camera")


def bgr_of(frame: VideoFrame, reformatter: VideoReformatter) -> UInt8Array | None:
    """A frame as BGR uint8 (h, w, 3), or None where it cannot be converted."""
    from av.error import FFmpegError

    try:
        # OpenCV's interpolation: what a bundle was calibrated with is read from files by OpenCV.
        # One thread: else every camera has as many as there are cores, and a small picture costs more, not less.
        converted = reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
    except (FFmpegError, ValueError):
        return None
    picture = converted.to_ndarray()
    return cast(UInt8Array, picture) if picture.size else None


def _open(source: Source, open_timeout_s: float, read_timeout_s: float) -> InputContainer:
    import av

    resolve(source, open_timeout_s)
    options = dict(_OPTIONS)
    if source.target.lower().startswith(("https:", "rtsps:")):
        options["tls_verify"] = "1"
        if (trusted := ca_file()) is not None:
            options["ca_file"] = trusted
    begun_s = time.monotonic()
    try:
        with interruptible():
            return av.open(source.target, options=options, timeout=(open_timeout_s, read_timeout_s))
    except (av.FFmpegError, UnicodeError, ValueError) as error:
        raise why_not_open(source, error, time.monotonic() - begun_s, open_timeout_s) from None


def _format_of(container: InputContainer, index: int, decoder: VideoCodecContext) -> VideoFormat:
    time_base = container.streams[index].time_base or Fraction(1, 90_000)
    return VideoFormat(decoder.name, time_base, decoder.width, decoder.height, bytes(decoder.extradata or b""))


def _decoder_of(container: InputContainer) -> tuple[int, VideoCodecContext]:
    """Index and decoder of the video in a container."""
    videos = container.streams.video
    if not videos:
        raise Fault("no_video", "it answers, but sends no video; check the path, and that its video is switched on")
    for video in videos:
        decoder = video.codec_context
        if decoder is not None:
            # Decoding with n threads holds back n - 1 frames, and the other cores are for inference.
            decoder.thread_count = 1
            decoder.options = dict(_CODEC_OPTIONS)
            return video.index, decoder
    raise Fault("unsupported_codec", "its video is in no format that can be decoded; set it to H.264, H.265 or MJPEG")
