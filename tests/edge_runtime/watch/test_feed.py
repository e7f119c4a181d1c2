"""A camera's frames and outages become one unbroken row of segments and holes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from edge_runtime.errors import InvalidFrame
from edge_runtime.records import CameraRecord, Quality
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.clock import RunClock
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


VIEW = np.repeat(np.repeat(np.random.default_rng(3).integers(0, 256, (12, 16, 1), np.uint8), 12, 0), 12, 1)


def scene(number: int) -> UInt8Array:
    """A picture with the noise of a sensor."""
    noise = np.random.default_rng(number).integers(0, 4, (*VIEW.shape[:2], 1), np.uint8)
    return np.repeat(VIEW // 2 + noise, 3, axis=2)


def look(feed: CameraFeed, since_s: float, until_s: float, shown: Callable[[int], UInt8Array]) -> None:
    for number in range(round(10 * since_s), round(10 * until_s)):
        feed.on_frame(DecodedFrame(number, number / 10, partial(shown, number)))


def told(backlog: Backlog) -> tuple[list[CameraRecord], list[Segment]]:
    """What the feed put into the backlog: records, and segments."""
    items = []
    while (taken := backlog.take(0.0)) is not None:
        items.append(taken[1])
    return [one for one in items if isinstance(one, CameraRecord)], [one for one in items if isinstance(one, Segment)]


@pytest.mark.parametrize(
    ("shown", "quality"), [(lambda _: scene(0), "frozen"), (lambda _: np.zeros((144, 192, 3), np.uint8), "covered")]
)
def test_a_bad_picture_is_told_and_its_segments_are_marked(
    shown: Callable[[int], UInt8Array], quality: Quality
) -> None:
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    feed.on_state("online", "", 0.0)
    look(feed, 0, 20, scene)
    look(feed, 20, 40, shown)
    look(feed, 40, 60, scene)
    feed.finish()
    (online, wrong, right), segments = told(backlog)
    assert online.quality is UNSET
    assert (wrong.state, wrong.quality) == ("online", [quality])
    assert (right.state, right.quality) == ("online", ["ok"])
    marked = [segment for segment in segments if segment.quality]
    assert {segment.quality for segment in marked} == {(quality,)}
    # From within 15 s of its beginning until within a few seconds of its end.
    assert 20 < marked[0].start_s < 35
    assert 40 <= marked[-1].end_s < 47
    assert [segment.index for segment in marked] == list(range(marked[0].index, marked[-1].index + 1))


@pytest.mark.parametrize("sampled", [1, 4])
def test_pictures_are_looked_at_though_the_model_sees_few(sampled: int) -> None:
    spec = SegmentSpec(frames=100, sampled=sampled, fps=10.0)
    backlog = backlog_of(segments=1000, items=10000)
    feed = CameraFeed("gate", TimeSegmenter(spec, sparing=True), spec, PIXELS, backlog)
    retrieved = []

    def shown(number: int) -> UInt8Array:
        retrieved.append(number)
        return scene(0)

    look(feed, 0, 20, shown)
    (record,), _ = told(backlog)
    assert record.quality == ["frozen"]
    assert len(retrieved) < 30


def test_what_the_reader_finds_is_told_with_what_is_seen() -> None:
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    look(feed, 0, 15, lambda _: scene(0))
    feed.on_quality(["corrupt"], "half of the frames do not decode", 15.0)
    feed.on_quality(["corrupt"], "most of the frames do not decode", 15.1)
    look(feed, 15, 18, lambda _: scene(0))
    feed.on_quality(["ok"], "frames decode again", 18.0)
    look(feed, 18, 20, lambda _: scene(0))
    look(feed, 20, 27, scene)
    records, segments = told(backlog)
    assert [record.quality for record in records] == [["frozen"], ["frozen", "corrupt"], ["frozen"], ["ok"]]
    assert records[1].detail == "half of the frames do not decode"
    both = [segment for segment in segments if segment.quality == ("frozen", "corrupt")]
    assert both
    assert all(segment.end_s > 15 and segment.start_s < 18 for segment in both)


def test_what_scoring_finds_is_told_with_what_is_seen() -> None:
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    look(feed, 0, 5, scene)
    feed.on_quality(["corrupt"], "half of the frames do not decode", 5.0)
    # Of a segment that ended before that.
    feed.on_drift(True, "its pictures are not what they used to be", 4.0)
    look(feed, 5, 8, scene)
    feed.on_quality(["ok"], "frames decode again", 8.0)
    feed.on_drift(False, "its pictures are as they used to be", 8.5)
    look(feed, 9, 12, scene)
    records, segments = told(backlog)
    assert [record.quality for record in records] == [["corrupt"], ["corrupt", "drifted"], ["drifted"], ["ok"]]
    assert [record.detail for record in records][1::2] == [
        "its pictures are not what they used to be",
        "its pictures are as they used to be",
    ]
    assert all("drifted" in segment.quality for segment in segments if 5 < segment.start_s < 8)
    assert segments[-1].quality == ()


def test_drift_says_since_when_and_its_end_does_not() -> None:
    backlog = backlog_of(segments=1000, items=10000)
    clock = RunClock(monotonic=lambda: 0.0, date=lambda: datetime(2031, 5, 6, 12, tzinfo=UTC))
    feed = CameraFeed("gate", TimeSegmenter(SEGMENT, sparing=True), SEGMENT, PIXELS, backlog, clock=clock)
    look(feed, 0, 5, scene)
    feed.on_drift(True, "its pictures are not what they used to be", 100.0, 40.0)
    feed.on_drift(False, "its pictures are as they used to be", 200.0, 40.0)
    records, _ = told(backlog)
    assert [(record.time, record.since) for record in records] == [
        ("2031-05-06T12:01:40.000Z", "2031-05-06T12:00:40.000Z"),
        ("2031-05-06T12:03:20.000Z", UNSET),
    ]


def test_what_a_reader_finds_while_it_retrieves_a_frame() -> None:
    backlog = backlog_of()
    feed = feed_of(backlog)

    def shown(number: int) -> UInt8Array:
        feed.on_quality(["corrupt"], "blocks are missing", number / 10)
        return scene(number)

    look(feed, 0, 1, shown)
    assert feed.quality == ("corrupt",)


def test_a_state_that_follows_says_what_is_wrong_too() -> None:
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    look(feed, 0, 15, lambda _: scene(0))
    feed.on_state("offline", "the connection ended", 15.0)
    feed.on_outage(14.9, 30.0, "lost")
    feed.on_state("reconnected", "", 30.0)
    (frozen, offline, reconnected), _ = told(backlog)
    assert frozen.quality == reconnected.quality == ["frozen"]
    assert offline.quality is UNSET
    look(feed, 30, 37, scene)
    (record,), _ = told(backlog)
    assert (record.state, record.quality) == ("reconnected", ["ok"])


@pytest.mark.parametrize("cuts", [True, False])
def test_pictures_that_come_again_behind_a_cut_are_not_frozen(cuts: bool) -> None:
    """A quiet place of five seconds, noise and all, over and over."""
    backlog = backlog_of(segments=1000, items=10000)
    feed = feed_of(backlog)
    ground = np.random.default_rng(0).integers(60, 200, (9, 16, 3)).repeat(10, 0).repeat(10, 1)
    noise = np.random.default_rng(1).integers(-2, 3, (50, 90, 160, 3))
    for number in range(600):
        shown = (ground + noise[number % 50]).astype(np.uint8)
        cut = cuts and number > 0 and number % 50 == 0
        feed.on_frame(DecodedFrame(number, number / 10, lambda shown=shown: shown, number % 50 == 0, cut))
    assert ("frozen" in feed.quality) != cuts
