"""Video of a camera as packets, made here: what a reader would hand on, without a camera and at any speed."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from edge_runtime.outputs.clips import Filmed
from edge_runtime.outputs.encoded import Blank
from edge_runtime.records import EventRecord, EventState
from edge_runtime.stream.packets import VideoFormat, VideoPacket
from edge_runtime.stream.ring import PacketRing, RingTap

RUN = "0123abcd-20260131T120000000"
FPS = 10
TICKS = 90_000


@functools.cache
def encoded(
    codec: str = "libx264", frames: int = 300, size: tuple[int, int] = (160, 120), key: int = 10, noise: bool = False
) -> tuple[VideoFormat, tuple[VideoPacket, ...]]:
    """Bright pictures, ten a second, in which a grey bar moves; with `noise` they are hard to compress."""
    width, height = size
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = size
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base, context.framerate = Fraction(1, TICKS), Fraction(FPS)
    if codec != "mjpeg":
        context.gop_size = key
        context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    if codec == "libx265":
        context.options |= {"x265-params": "log-level=none:repeat-headers=1"}
    random = np.random.default_rng(0)
    packets = []
    for number in range(frames):
        picture = np.full((height, width, 3), 235, np.uint8)
        picture[:, (4 * number) % width : (4 * number) % width + 8] = 90
        if noise:
            picture = random.integers(100, 255, (height, width, 3), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format=context.pix_fmt)
        frame.pts, frame.time_base = number * TICKS // FPS, Fraction(1, TICKS)
        packets += context.encode(frame)
    video = VideoFormat(
        {"libx264": "h264", "libx265": "hevc"}.get(codec, codec), Fraction(1, TICKS), width, height, b""
    )
    made = (VideoPacket(bytes(one), one.pts / TICKS, one.is_keyframe, one.pts, one.dts) for one in packets)
    return video, tuple(made)


class Hands:
    """A clock whose hands are moved."""

    def __init__(self) -> None:
        self.s = 0.0

    def now_s(self) -> float:
        return self.s

    @staticmethod
    def utc(seconds: float) -> str:
        return f"2026-01-31T12:{int(seconds) // 60:02d}:{seconds % 60:06.3f}Z"


@dataclass
class Film:
    """A camera that sends what `encoded` made."""

    filmed: Filmed
    hands: Hands
    tap: RingTap
    packets: tuple[VideoPacket, ...]
    sent: int = 0

    @classmethod
    def of(cls, codec: str = "libx264", *, most: int = 10_000_000, blank: Blank | None = None, **how: object) -> Film:
        video, packets = encoded(codec, **how)  # type: ignore[arg-type]  # passed on as they are
        hands = Hands()
        ring = PacketRing(most, hands.now_s)
        tap = ring.tap()
        tap.begin(video)
        return cls(Filmed(ring, hands.now_s, hands.utc, blank), hands, tap, packets)

    def send(self, until_s: float) -> None:
        """All that the camera sends before that moment."""
        while self.sent < len(self.packets) and self.packets[self.sent].arrival_s <= until_s:
            packet = self.packets[self.sent]
            self.hands.s = packet.arrival_s
            self.tap.take(packet.data, packet.key, packet.pts, packet.dts, packet.damaged)
            self.sent += 1
        self.hands.s = until_s


def event(
    state: EventState, start_s: float, end_s: float, *, number: int = 3, peak: float = 0.9, camera: str = "gate"
) -> EventRecord:
    frames = round(start_s * FPS), round(end_s * FPS)
    return EventRecord(state, f"{RUN}-{camera}-{number}", camera, start_s, end_s, *frames, peak, peak)


def played(path: Path) -> tuple[str, float, int, float]:
    """Codec, first and last time, and number of pictures of a file, as FFmpeg's own player decodes it."""
    # Pictures of a camera may lie closer together than its rate says: without the filter ffmpeg complains of that.
    command = ["ffmpeg", "-v", "error", "-xerror", "-nostdin", "-i", str(path), "-vf", "setpts=N/FRAME_RATE/TB"]
    command += ["-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert all(later > earlier for earlier, later in pairwise(times)), times
        return stream.codec_context.name, times[0], len(times), times[-1]


def pictures(path: Path) -> list[np.ndarray]:
    """All pictures of a file, BGR."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def units(data: bytes, *, lengths: bool) -> list[bytes]:
    """NAL units of a packet, behind start codes or behind their lengths."""
    if not lengths:
        return [unit for unit in re.split(b"\0\0\0\1|\0\0\1", data) if unit]
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found
