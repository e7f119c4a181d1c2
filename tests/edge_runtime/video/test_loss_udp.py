"""What a bad network does to pictures that come over UDP, from a camera that refuses TCP."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import pytest
from lossy_udp import Arrivals, lossy_udp
from recorder import Recorder
from rtsp import RtspServer

from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.sources import parse_source


class Digests(Recorder):
    """Keeps of every picture what tells it from all others."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: list[int] = []

    def on_frame(self, frame: DecodedFrame) -> None:
        self.digests.append(hash(frame.retrieve().tobytes()))
        super().on_frame(frame)


def watch(
    fate: Callable[[int], Arrivals],
    most: Callable[[Digests, LiveCamera], bool],
    rtsp_server: Callable[..., RtspServer],
) -> tuple[Digests, Digests]:
    """Watch one camera well and through a network; returns what was seen of it both ways, once that is enough.

    On a busy machine the RTSP server may send nothing to a client of UDP, or drop packets of the one that sees it
    well: then another camera is taken.
    """
    for seed in range(1, 5):
        server = rtsp_server(size=(320, 240), fps=30, shared=True)
        right, seen = Digests(), Digests()
        with (
            LiveCamera(parse_source(f"right={server.url}"), right, RunClock()) as whole,
            lossy_udp(server.port, fate(seed)) as port,
        ):
            whole.require_online()
            with (
                LiveCamera(parse_source(f"gate=rtsp://127.0.0.1:{port}/stream"), seen, RunClock()) as live,
                seen.changed,
            ):
                enough = seen.changed.wait_for(partial(most, seen, live), 30)
            time.sleep(1)
            if enough and not whole.damaged:
                assert not right.qualities
                return right, seen
    raise AssertionError("no camera was seen well enough")


def lose_packets(seed: int) -> Arrivals:
    """One RTP packet in forty is lost; of those that follow the first frames, so that it opens."""
    chance = random.Random(seed)
    return lambda number, packet: [] if number > 60 and chance.random() < 1 / 40 else [packet]


def lose_frames(seed: int) -> Arrivals:
    """One frame in fifteen is lost as a whole: nothing of what arrives is damaged."""
    chance, last = random.Random(seed), [b"", False]

    def arrivals(number: int, packet: bytes) -> list[bytes]:
        if packet[4:8] != last[0]:
            last[:] = [packet[4:8], number > 60 and chance.random() < 1 / 15]
        return [] if last[1] else [packet]

    return arrivals


def disorder(seed: int) -> Arrivals:
    """One packet in ten comes behind the one after it; none is lost."""
    chance = random.Random(seed)
    held: list[bytes] = []

    def arrivals(number: int, packet: bytes) -> list[bytes]:
        if not held and chance.random() < 1 / 10:
            held.append(packet)
            return []
        arriving = [packet, *held]
        held.clear()
        return arriving

    return arrivals


def double(seed: int) -> Arrivals:
    """One packet in twenty comes twice."""
    chance = random.Random(seed)
    return lambda number, packet: [packet] * (1 + (chance.random() < 1 / 20))


@pytest.mark.parametrize("fate", [lose_packets, lose_frames])
def test_of_a_stream_with_losses_only_right_pictures_are_delivered(
    fate: Callable[[int], Arrivals], rtsp_server: Callable[..., RtspServer]
) -> None:
    def most(seen: Digests, live: LiveCamera) -> bool:
        return len(seen.digests) >= 30 and live.damaged >= 5

    right, seen = watch(fate, most, rtsp_server)
    assert set(seen.digests) <= set(right.digests)
    assert seen.qualities[0][0] == ["corrupt"]


@pytest.mark.parametrize("fate", [disorder, double])
def test_of_packets_in_another_order_or_doubled_only_right_pictures_are_delivered(
    fate: Callable[[int], Arrivals], rtsp_server: Callable[..., RtspServer]
) -> None:
    right, seen = watch(fate, lambda seen, _: len(seen.digests) >= 40, rtsp_server)
    assert set(seen.digests) <= set(right.digests)
