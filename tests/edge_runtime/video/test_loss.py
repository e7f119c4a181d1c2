"""What a bad network does to pictures: none that is known to be wrong is delivered."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from lossy import Fate, lossy
from recorder import Recorder
from rtsp import RtspServer

from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.h264 import FrameNumbers
from edge_runtime.video.sources import parse_source


class Digests(Recorder):
    """Keeps of every picture what tells it from all others."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: list[int] = []

    def on_frame(self, frame: DecodedFrame) -> None:
        self.digests.append(hash(frame.retrieve().tobytes()))
        super().on_frame(frame)


def lose_packets(seed: int) -> Fate:
    """One RTP packet in forty is lost; of those that follow the first frames, so that it opens."""
    chance = random.Random(seed)
    return lambda number, packet: None if number > 60 and chance.random() < 1 / 40 else packet


def lose_frames(seed: int) -> Fate:
    """One frame in fifteen is lost as a whole: nothing of what arrives is damaged."""
    chance, last = random.Random(seed), [b"", False]

    def fate(number: int, packet: bytes) -> bytes | None:
        if packet[4:8] != last[0]:
            last[:] = [packet[4:8], number > 60 and chance.random() < 1 / 15]
        return None if last[1] else packet

    return fate


@pytest.mark.parametrize("fate", [lose_packets(1), lose_frames(1)], ids=["packets", "frames"])
def test_of_a_stream_with_losses_only_right_pictures_are_delivered(
    fate: Fate, rtsp_server: Callable[..., RtspServer]
) -> None:
    for _ in range(4):
        server = rtsp_server(size=(320, 240), fps=30, shared=True)
        right, seen = Digests(), Digests()
        with (
            LiveCamera(parse_source(f"right={server.url}"), right, RunClock()) as whole,
            lossy(server.port, fate) as port,
        ):
            whole.require_online()
            with LiveCamera(parse_source(f"gate=rtsp://127.0.0.1:{port}/stream"), seen, RunClock()) as live:
                seen.wait(lambda seen=seen, live=live: len(seen.digests) >= 60 and live.damaged >= 10)
            time.sleep(1)
        # On a busy machine the RTSP server itself may drop packets: then another camera is taken.
        if not whole.damaged:
            break
    assert whole.damaged == 0
    assert set(seen.digests) <= set(right.digests)
    assert seen.qualities[0][0] == ["corrupt"]
    assert not right.qualities


FFMPEG = "ffmpeg -v error -f lavfi -i testsrc2=size=320x240:rate=10 -t 4 -vf noise=alls=10:allf=t -f h264 {} {}"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to make footage with")
@pytest.mark.parametrize(
    "options",
    [
        "-c:v libx264 -tune zerolatency -g 15",
        "-c:v libx264 -bf 3 -g 20 -pix_fmt yuv420p",
        "-c:v libx264 -profile:v high444 -pix_fmt yuv444p -g 15",
        "-c:v libx264 -x264-params slices=4:cqm=jvt:intra-refresh=1 -g 20",
        "-c:v libx264 -x264-params bframes=3:b-pyramid=strict:weightp=2 -pix_fmt yuv420p10le",
        "-c:v libx264 -flags +ilme+ildct -g 15",
    ],
)
def test_a_missing_reference_frame_is_noticed_and_nothing_else_is(options: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.h264"
    subprocess.run(FFMPEG.format(options, path).split(), check=True, capture_output=True)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    whole = FrameNumbers()
    assert not [index for index, packet in enumerate(packets) if whole.missing(packet)]
    noticed = 0
    for lost in range(1, len(packets) - 1):
        numbers = FrameNumbers()
        found = [index for index, packet in enumerate(packets) if index != lost and numbers.missing(packet)]
        assert found in ([], [lost + 1])
        noticed += bool(found)
    # What is not noticed harms none: frames that no other depends on, and those before a key frame.
    assert noticed > len(packets) / 5


def test_what_is_no_h264_is_no_missing_frame() -> None:
    chance = random.Random(2)
    numbers = FrameNumbers()
    for _ in range(2000):
        kind = bytes([chance.choice([0x67, 0x68, 0x65, 0x41, chance.randrange(256)])])
        numbers.missing(b"\0\0\1" + kind + chance.randbytes(chance.randrange(40)))
    assert not FrameNumbers().missing(b"")
    assert not FrameNumbers().missing(b"\0\0\1")


def test_numbers_run_over_at_their_end() -> None:
    # Baseline profile, frame_num of 4 bits: 0 to 15, and 0 again.
    def bits(text: str) -> bytes:
        text = text.replace(" ", "") + "1"
        text += "0" * (-len(text) % 8)
        return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))

    parameters = b"\0\0\1\x67\x42\x00\x1e" + bits("1 1 011 1 0 1") + b"\0\0\1\x68" + bits("1 1")
    numbers = FrameNumbers()
    numbers.missing(parameters)

    def frame(number: int) -> bytes:
        return b"\0\0\1\x41" + bits("1 1 1" + f"{number:04b}" + "0" * 20)

    assert [numbers.missing(frame(number % 16)) for number in range(40)] == [False] * 40
    assert numbers.missing(frame(41 % 16))
