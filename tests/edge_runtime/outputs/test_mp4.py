"""Clips as files: they play wherever they are cut, and have the camera's own times where those are good."""

from __future__ import annotations

import os
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from filmed import encoded, played
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.outputs.encoded import Encode
from edge_runtime.outputs.mp4 import TICKS, ClipTimes, Copy, can_copy, mend
from edge_runtime.stream.packets import VideoFormat, VideoPacket


class Plain:
    """A file without bounds."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self._file = path.open("w+b", buffering=0)

    def claim(self, size: int) -> None:
        pass

    def write(self, data: bytes) -> int:
        done = self._file.write(data)
        self.size = max(self.size, self._file.tell())
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int) -> None:
        self._file.truncate(size)


@pytest.mark.parametrize("writer", [Copy, Encode])
def test_a_file_that_is_cut_anywhere_is_mended_as_far_as_it_goes_or_refused(
    tmp_path: Path, writer: type[Copy] | type[Encode]
) -> None:
    video, packets = encoded(noise=True, frames=50)
    path = tmp_path / "whole.mp4"
    clip = writer(Plain(path), video)
    for packet in packets[:45]:
        clip.write(packet)
    # Not closed: as a kill leaves it.
    data = path.read_bytes()
    rng = random.Random(1)
    counts = []
    for length in [0, 10, len(data), *sorted(rng.sample(range(len(data)), 12))]:
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(data[:length])
        if mend(cut):
            counts.append(played(cut)[2])
        else:
            counts.append(0)
    assert counts[:3][:2] == [0, 0]
    assert counts[2] == max(counts) >= 30
    assert counts[3:] == sorted(counts[3:])


def test_what_is_no_file_of_ours_cannot_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    for data in (b"", bytes(100), os.urandom(3000), b"\0\0\0\x10ftypisom\0\0\0\0" * 5):
        path.write_bytes(data)
        assert not mend(path)
    assert not mend(tmp_path / "missing.mp4")


def test_parameters_that_come_apart_from_the_pictures_are_put_before_the_first(tmp_path: Path) -> None:
    video, packets = encoded(frames=30)
    first = packets[0].data
    starts = [at for at in range(len(first) - 4) if first[at : at + 3] == b"\0\0\1"]
    behind = next(at for at in starts if first[at + 3] & 0x1F not in (7, 8)) - 1
    parameters, rest = first[:behind], first[behind:]
    apart = VideoFormat("h264", video.time_base, video.width, video.height, parameters)
    clip = Copy(Plain(tmp_path / "x.mp4"), apart)
    clip.write(VideoPacket(rest, 0.0, True, 0, 0))
    for packet in packets[1:]:
        clip.write(packet)
    assert clip.close()
    assert played(tmp_path / "x.mp4")[2] == 30


def test_what_can_be_copied() -> None:
    base = Fraction(1, TICKS)
    assert can_copy(VideoFormat("h264", base, 640, 480))
    assert can_copy(VideoFormat("h264", base, 640, 480, b"\0\0\0\1\x67"))
    assert not can_copy(VideoFormat("h264", base, 0, 0))
    assert not can_copy(VideoFormat("h264", base, 640, 480, b"\1\x64\0"))
    assert not can_copy(VideoFormat("hevc", base, 640, 480))


H264 = VideoFormat("h264", Fraction(1, 1000), 640, 480)


def placed(packets: list[VideoPacket], video: VideoFormat = H264) -> list[tuple[int, int]]:
    times = ClipTimes(video)
    return [times.place(packet) for packet in packets]


def test_the_cameras_own_times_hold_when_packets_come_in_bursts() -> None:
    packets = [VideoPacket(b"", number // 10 * 0.4, number == 0, 40 * number, 40 * number) for number in range(100)]
    assert placed(packets) == [(3600 * number, 3600 * number) for number in range(100)]


def test_arrival_holds_where_the_camera_has_no_times_or_jumps() -> None:
    own = [0, 40, 90_000, 90_040, None, 5, 45]
    packets = [VideoPacket(b"", 0.04 * number, number == 0, pts, pts) for number, pts in enumerate(own)]
    assert placed(packets) == [(3600 * number, 3600 * number) for number in range(len(own))]


def test_times_that_go_at_another_pace_are_given_up() -> None:
    # A second of this camera's clock passes in half a second.
    packets = [VideoPacket(b"", 0.04 * number, number == 0, 80 * number, 80 * number) for number in range(2000)]
    last = placed(packets)[-1][1] / TICKS
    assert abs(last - 80.0) <= 11.0


def test_made_up_times_of_jpegs_are_not_believed() -> None:
    mjpeg = VideoFormat("mjpeg", Fraction(1, 25), 640, 480)
    packets = [VideoPacket(b"", 0.2 * number, True, number, number) for number in range(50)]
    assert placed(packets, mjpeg)[-1] == (round(49 * 0.2 * TICKS), round(49 * 0.2 * TICKS))


TIMES = st.one_of(st.none(), st.integers(-(2**40), 2**40))


@given(st.lists(st.tuples(st.floats(0, 5), TIMES, TIMES), max_size=40))
def test_whatever_a_camera_says_times_grow_and_pictures_are_shown_when_they_are_decoded_or_later(
    packets: list[tuple[float, int | None, int | None]],
) -> None:
    arrival, sent = 0.0, []
    for waited, pts, dts in packets:
        arrival += waited
        sent.append(VideoPacket(b"", arrival, False, pts, dts))
    times = placed(sent)
    assert all(later[1] > earlier[1] for earlier, later in pairwise(times))
    assert all(decoded <= shown <= decoded + 2 * TICKS for shown, decoded in times)
    # However wrong the camera's times are, the clip is about as long as it took.
    if times:
        assert times[-1][1] / TICKS <= arrival - sent[0].arrival_s + 10.1


def test_pictures_that_are_reordered_keep_their_order(tmp_path: Path) -> None:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 160, 120, "yuv420p"
    context.time_base, context.framerate = Fraction(1, TICKS), Fraction(10)
    context.options = {"preset": "medium", "bf": "3", "g": "20"}
    packets = []
    for number in range(60):
        frame = av.VideoFrame(160, 120, "yuv420p")
        for place, plane in enumerate(frame.planes):
            plane.update(bytes([4 * number if place == 0 else 128]) * plane.buffer_size)
        frame.pts, frame.time_base = number * 9000, Fraction(1, TICKS)
        packets += context.encode(frame)
    packets += context.encode(None)
    video = VideoFormat("h264", Fraction(1, TICKS), 160, 120, b"")
    clip = Copy(Plain(tmp_path / "x.mp4"), video)
    assert any(one.pts != one.dts for one in packets)
    for number, one in enumerate(packets):
        clip.write(VideoPacket(bytes(one), 0.1 * number, one.is_keyframe, one.pts, one.dts))
    clip.close()
    with av.open(str(tmp_path / "x.mp4")) as container:
        shown = [(frame.time, frame.to_ndarray()[0, 0]) for frame in container.decode(video=0)]
    assert len(shown) == 60
    assert [int(level) for _, level in shown] == sorted(int(level) for _, level in shown)
    steps = [later[0] - earlier[0] for earlier, later in pairwise(shown)]
    assert steps == pytest.approx([0.1] * 59, abs=0.001)
