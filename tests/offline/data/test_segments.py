"""Videos to pixels: offline sees exactly what the edge's own reader and segmenter give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

from edge_runtime.errors import SourceUnavailable, SourceUnreachable, VideoUnreadable
from edge_runtime.stream.pixels import PixelSpec, prepare
from edge_runtime.stream.segments import SegmentSpec, cut, sample_indices
from edge_runtime.video.file import VideoFile
from offline.data.segments import frame_rate, leave_out, read_segments, read_whole

PIXELS = PixelSpec(size=24)


def every_picture(path: Path) -> list[np.ndarray]:
    with VideoFile(path) as video:
        return [prepare(grabbed.retrieve(), PIXELS) for grabbed in video.frames()]


@pytest.mark.parametrize("frames", [1, 5, 47, 48, 49, 130])
def test_segments_hold_the_pictures_at_their_bin_centres_and_cover_every_frame(frames: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "v.mp4", frames)
    pictures = every_picture(path)
    spec = SegmentSpec(frames=48, sampled=16, fps=15)
    found = list(read_segments(path, PIXELS, spec))
    assert [(segment.start_frame, segment.end_frame) for segment in found] == cut(frames, 48)
    for segment in found:
        centres = segment.start_frame + sample_indices(segment.end_frame - segment.start_frame, 16)
        assert np.array_equal(segment.pixels, np.stack([pictures[index] for index in centres]))


@pytest.mark.parametrize("frames", [1, 7, 16, 130])
def test_a_whole_video_is_one_segment_of_all_its_frames(frames: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "v.mp4", frames)
    pictures = every_picture(path)
    found, count = read_whole(path, PIXELS, 16)
    assert count == frames
    assert np.array_equal(found, np.stack([pictures[index] for index in sample_indices(frames, 16)]))


def test_the_rate_is_the_containers(tmp_path: Path) -> None:
    assert frame_rate(write_clip(tmp_path / "v.mp4", 5, fps=12.5)) == pytest.approx(12.5)


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    for read in (
        lambda p: list(read_segments(p, PIXELS, SegmentSpec())),
        lambda p: read_whole(p, PIXELS, 16),
        frame_rate,
    ):
        with pytest.raises(SourceUnavailable, match=r"nothing\.mp4"):
            read(tmp_path / "nothing.mp4")


def test_what_cannot_be_reached_is_never_left_out() -> None:
    unreadable, unreachable = VideoUnreadable("a.mp4: no frames"), SourceUnreachable("s3://b/a.mp4: cannot be read")
    leave_out(unreadable, skip_unreadable=True)
    with pytest.raises(VideoUnreadable, match=r"a\.mp4: no frames; or leave such videos out with --skip-unreadable"):
        leave_out(unreadable, skip_unreadable=False)
    for skip in (False, True):
        with pytest.raises(SourceUnreachable, match=r"a\.mp4: cannot be read$"):
            leave_out(unreachable, skip_unreadable=skip)


def test_a_truncated_video_is_refused_whichever_way_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 15.0, (64, 48))
    for _ in range(120):
        writer.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    for read in (lambda: list(read_segments(path, PIXELS, SegmentSpec())), lambda: read_whole(path, PIXELS, 16)):
        with pytest.raises(VideoUnreadable, match=r"v\.avi"):
            read()
