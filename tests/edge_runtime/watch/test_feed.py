"""A camera's frames and outages become one unbroken row of segments and holes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InvalidFrame
from edge_runtime.records import CameraRecord
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.pixels import PixelSpec, UInt8Array
from edge_runtime.stream.segments import Gap, Segment, SegmentSpec
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.watch.backlog import Backlog
from edge_runtime.watch.feed import CameraFeed

SEGMENT = SegmentSpec(frames=8, sampled=4, fps=10.0)
PIXELS = PixelSpec(size=2)


def backlog_of(segments: int = 2, items: int = 64) -> Backlog:
    backlog = Backlog(segments, items)
    backlog.add("gate")
    return backlog


def picture() -> UInt8Array:
    return np.zeros((4, 4, 3), np.uint8)


def broken() -> UInt8Array:
    raise InvalidFrame("no picture")


def feed_of(backlog: Backlog) -> CameraFeed:
    return CameraFeed("gate", TimeSegmenter(SEGMENT, sparing=True), SEGMENT, PIXELS, backlog)


def drain(backlog: Backlog) -> list[Segment | Gap]:
    items = []
    while (taken := backlog.take(0.0)) is not None:
        if not isinstance(taken[1], CameraRecord):
            items.append(taken[1])
    return items


# Stretches of a camera's life: frames that flow (how many, how many of them broken), then an outage in seconds.
LIFE = st.lists(
    st.tuples(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=5), st.floats(0.1, 20)), max_size=6
)


@given(LIFE)
def test_segments_and_holes_follow_each_other(life: list[tuple[int, set[int], float]]) -> None:
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    now = good = 0.0
    frames = 0
    for count, bad, outage_s in life:
        feed.on_state("online", "", now)
        for number in range(count):
            if number in bad and number > 0:
                # LiveCamera lets such a frame take no index, and the next one comes all the same.
                try:
                    feed.on_frame(DecodedFrame(frames, now, broken))
                    frames += 1  # passed over: it was none of those that the model sees
                    good = now
                except InvalidFrame:
                    pass
            else:
                feed.on_frame(DecodedFrame(frames, now, picture))
                frames += 1
                good = now
            now += 0.1
        # An outage begins with the last good frame, as LiveCamera reports it.
        now = max(now, good + 0.11) + outage_s
        feed.on_state("offline", "", now)
        feed.on_outage(good, now, "lost")
    feed.finish()
    items = drain(backlog)
    for before, after in itertools.pairwise(items):
        places = before.segments if isinstance(before, Gap) else 1
        assert after.index == before.index + places
        assert after.start_s >= before.end_s - 1e-9
    assert sum(item.end_frame - item.start_frame for item in items if isinstance(item, Segment)) == frames
    holes = [item for item in items if isinstance(item, Gap)]
    assert len(holes) >= len(life)


def test_a_camera_that_goes_away_leaves_no_frames_waiting() -> None:
    backlog = backlog_of()
    feed = feed_of(backlog)
    feed.on_state("online", "", 0.0)
    for number in range(3):
        feed.on_frame(DecodedFrame(number, number / 10, picture))
    assert backlog.take(0.0) == ("gate", CameraRecord(camera="gate", state="online", detail=""))
    assert backlog.is_empty("gate")
    assert not feed.silent
    feed.on_state("stalled", "no frame for 3 s", 3.2)
    assert feed.silent
    taken = backlog.take(0.0)
    assert taken is not None
    assert isinstance(taken[1], Segment)
    assert (taken[1].start_frame, taken[1].end_frame) == (0, 3)


def test_a_frame_without_picture_does_not_swallow_a_segment() -> None:
    backlog = backlog_of()
    feed = feed_of(backlog)
    for number in range(SEGMENT.frames):
        feed.on_frame(DecodedFrame(number, number / 10, picture))
    assert backlog.is_empty("gate")
    with pytest.raises(InvalidFrame):
        feed.on_frame(DecodedFrame(SEGMENT.frames, SEGMENT.frames / 10, broken))
    feed.on_frame(DecodedFrame(SEGMENT.frames, SEGMENT.frames / 10 + 0.1, picture))
    (first,) = drain(backlog)
    assert isinstance(first, Segment)
    assert (first.start_frame, first.end_frame) == (0, SEGMENT.frames)


def test_refused_until_the_first_frame() -> None:
    feed = feed_of(backlog_of())
    assert not feed.refused
    feed.on_state("offline", "refused", 0.1)
    assert feed.refused
    feed.on_state("online", "", 3.0)
    feed.on_state("offline", "the connection ended", 9.0)
    assert not feed.refused
    assert feed.silent


def test_nothing_comes_after_the_end() -> None:
    backlog = backlog_of()
    feed = feed_of(backlog)
    feed.on_frame(DecodedFrame(0, 0.0, picture))
    feed.finish()
    assert len(drain(backlog)) == 1
    feed.on_frame(DecodedFrame(1, 0.1, picture))
    feed.on_outage(0.1, 5.0, "lost")
    feed.on_state("offline", "", 5.0)
    feed.finish()
    assert backlog.take(0.0) is None
