"""Frames in, records out: pushing is processing the file, failures are gaps, and careless callers lose nothing."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import threading
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from table_engine import TableEngine

from edge_runtime.bundle.manifest import Locators
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, InferenceFailed, InvalidFrame, UsageError
from edge_runtime.inference.engines import open_engine
from edge_runtime.records import EventRecord, GapRecord, SegmentRecord
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.pixels import prepare
from edge_runtime.stream.segments import Gap, Segment, SegmentSpec, sample_indices
from edge_runtime.stream.track import LocatedStream, SegmentTimes, locate
from edge_runtime.video.file import VideoFile

LOW = LocatorSpec(sigma=0.0, threshold=0.5, lookahead=0, calibrated=False)
# Hypothesis runs many examples on one fixture; none of them is changed by an example.
shared_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def detector(bundle):
    with Detector(bundle, provider="cpu", threads=1) as detector:
        yield detector


def brightness(frames) -> np.ndarray:
    """A scorer that anyone can compute: how bright the sampled frames are, in 0..1."""
    return np.asarray(frames, dtype=np.float64).mean(axis=(1, 2, 3, 4)).astype(np.float32) / 255


def scored_by(detector: Detector, score=brightness, full: LocatorSpec = LOW, **segment) -> Detector:
    """The same detector with another scorer, smoothing and segment."""
    manifest = msgspec.structs.replace(detector.bundle.manifest, locators=Locators(full=full, low_latency=LOW))
    if segment:
        manifest = msgspec.structs.replace(manifest, segment=SegmentSpec(**segment))
    twin = copy.copy(detector)
    twin.bundle = Bundle(detector.bundle.path, manifest)
    twin.score = score
    return twin


def plain(level: int) -> np.ndarray:
    return np.full((6, 8, 3), level, np.uint8)


def push_all(stream, frames, fps=15.0, first=0):
    return [record for i, frame in enumerate(frames, first) for record in stream.push(frame, i / fps)]


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


# -- the located stream against the definition ------------------------------------------------------------------

scores = st.lists(st.none() | st.floats(0, 1), max_size=40)


@st.composite
def locators(draw):
    sigma = draw(st.just(0.0) | st.floats(0.1, 3))
    return LocatorSpec(
        sigma=sigma,
        threshold=draw(st.floats(0, 1)),
        lookahead=draw(st.integers(0, math.ceil(3 * sigma))),
        calibrated=False,
    )


def direct(scores, locator):
    """Smoothed scores, decisions and events, straight from their definitions."""
    r = math.ceil(3 * locator.sigma)
    smoothed = {}
    for t, own in enumerate(scores):
        near = [
            (s, 1.0 if j == t else math.exp(-0.5 * ((j - t) / locator.sigma) ** 2))
            for j, s in enumerate(scores)
            if s is not None and t - r <= j <= t + locator.lookahead
        ]
        if own is not None:
            smoothed[t] = sum(s * w for s, w in near) / sum(w for _, w in near)
    return smoothed


def segment_times(index: int) -> SegmentTimes:
    return SegmentTimes(index, 48 * index, 48 * index + 48, 3.2 * index, 3.2 * (index + 1))


def check_against_direct(records, scores, locator):
    smoothed = direct(scores, locator)
    segments = of(SegmentRecord, records)
    assert [record.index for record in segments] == list(smoothed)
    assert [record.smoothed for record in segments] == pytest.approx(list(smoothed.values()), abs=1e-12)
    for record in segments:
        assert record.score == scores[record.index]
        assert record.anomalous == (record.smoothed > locator.threshold)
    anomalous = [record.index for record in segments if record.anomalous]
    runs = [
        [i for _, i in members]
        for _, members in itertools.groupby(enumerate(anomalous), lambda pair: pair[1] - pair[0])
    ]
    ended = [record for record in of(EventRecord, records) if record.state == "end"]
    assert [(record.start_frame, record.end_frame) for record in ended] == [
        (48 * run[0], 48 * run[-1] + 48) for run in runs
    ]
    for record, run in zip(ended, runs, strict=True):
        assert record.peak == max(scores[i] for i in run)
        assert record.mean == pytest.approx(sum(scores[i] for i in run) / len(run))


@given(scores=scores, locator=locators())
def test_a_whole_video_is_located_by_the_definition(scores, locator):
    records = locate([segment_times(i) for i in range(len(scores))], scores, locator)
    check_against_direct(records, scores, locator)
    assert len(of(GapRecord, records)) == scores.count(None)


@given(scores=scores, locator=locators())
def test_one_hole_of_many_segments_is_many_holes_of_one(scores, locator):
    stream, records = LocatedStream("video", locator, "batch"), []
    for is_gap, members in itertools.groupby(enumerate(scores), key=lambda pair: pair[1] is None):
        indices = list(members)
        if is_gap:
            first, last = segment_times(indices[0][0]), segment_times(indices[-1][0])
            records += stream.gap(Gap(first.index, len(indices), first.start_s, last.end_s, "lost"))
        else:
            for index, score in indices:
                records += stream.push(segment_times(index), score)
    check_against_direct(records + stream.flush(), scores, locator)


@given(scores=scores, locator=locators())
def test_an_event_never_ends_before_its_segments_are_told(scores, locator):
    told, open_events = set(), set()
    for record in locate([segment_times(i) for i in range(len(scores))], scores, locator):
        if isinstance(record, SegmentRecord):
            told.add(record.end_frame)
        elif isinstance(record, EventRecord):
            assert record.end_frame in told
            assert (record.id in open_events) == (record.state != "new")
            assert len(open_events) <= 1
            (open_events.discard if record.state == "end" else open_events.add)(record.id)
    assert not open_events


# -- frames, pushed -----------------------------------------------------------------------------------------------


@shared_fixtures
@given(
    levels=st.lists(st.integers(0, 255), max_size=70),
    frames=st.integers(1, 20),
    sampled=st.integers(1, 8),
    hint=st.none() | st.integers(0, 90),
    full=locators(),
)
def test_pushed_frames_against_the_definition(detector, levels, frames, sampled, hint, full):
    twin = scored_by(detector, full=full, frames=frames, sampled=sampled, fps=15.0)
    stream = twin.stream("video", clock="frames", length=hint)
    records = push_all(stream, map(plain, levels))
    spec = twin.bundle.manifest.pixels
    records += stream.flush(lambda indices: {i: prepare(plain(levels[i]), spec) for i in indices})
    expected = []
    for start in range(0, len(levels), frames):
        own = levels[start : start + frames]
        expected.append(np.mean([own[math.floor((i + 0.5) * len(own) / sampled)] for i in range(sampled)]) / 255)
    segments = of(SegmentRecord, records)
    assert [(record.start_frame, record.end_frame) for record in segments] == [
        (start, min(start + frames, len(levels))) for start in range(0, len(levels), frames)
    ]
    assert [record.score for record in segments] == pytest.approx(expected, abs=1e-6)
    smoothed = direct([record.score for record in segments], full)
    assert [record.smoothed for record in segments] == pytest.approx(list(smoothed.values()), abs=1e-12)


@pytest.mark.parametrize("hint", [None, 130, 96, 40, 200])
def test_pushing_is_processing_the_file(detector, clip_path, hint):
    """The real graphs on a real file: pushed, read by index, and computed stage by stage."""
    stream = detector.stream("clip", clock="frames", length=hint)
    spec, segment = detector.bundle.manifest.pixels, detector.bundle.manifest.segment
    with VideoFile(clip_path) as video:
        pictures = video.read_frames(range(130))
        records = push_all(stream, pictures)
        records += stream.flush(
            lambda indices: {i: prepare(picture, spec) for i, picture in video.read_again(indices).items()}
        )
    expected = []
    for start, end in [(0, 48), (48, 96), (96, 130)]:
        sampled = [start + math.floor((i + 0.5) * (end - start) / segment.sampled) for i in range(segment.sampled)]
        pixels = np.stack([prepare(pictures[i], spec) for i in sampled])
        expected.append(float(detector.score(pixels[None])[0]))
    got = of(SegmentRecord, records)
    assert [record.score for record in got] == pytest.approx(expected, abs=1e-6)
    assert [(record.start_frame, record.end_frame) for record in got] == [(0, 48), (48, 96), (96, 130)]
    assert len(set(np.round(expected, 6))) > 1


def test_frames_that_come_in_another_way_score_the_same(detector, clip_path):
    """A reused buffer, RGB, a padded view: the same records, to the byte."""
    with VideoFile(clip_path) as video:
        pictures = [picture.copy() for picture in video.read_frames(range(130))]

    def run(present, color="bgr"):
        stream, records = detector.stream("clip"), []
        for i, picture in enumerate(pictures):
            frame = present(picture)
            records += stream.push(frame, i / 15, color)
            if frame is buffer:
                frame[:] = 77
        return [record.to_json() for record in records + stream.flush()]

    buffer = np.empty_like(pictures[0])

    def reused(picture):
        buffer[:] = picture
        return buffer

    def read_only(picture):
        view = np.pad(picture, ((2, 1), (4, 3), (0, 0)))[2:-1, 4:-3]
        view.setflags(write=False)
        return view

    expected = run(lambda picture: picture)
    assert expected == run(reused) == run(read_only) == run(lambda picture: picture[..., ::-1], "rgb")
    assert expected != run(lambda picture: picture, "rgb")


def test_the_frame_size_may_change_at_any_time(detector):
    stream = scored_by(detector).stream("gate", clock="frames")
    sizes = [(6, 8), (480, 640), (1, 1), (64, 64), (7, 5000)]
    frames = [np.full((*sizes[i % 5], 3), 100, np.uint8) for i in range(96)]
    records = push_all(stream, frames) + stream.flush()
    assert [record.score for record in of(SegmentRecord, records)] == pytest.approx([100 / 255] * 2)


@pytest.mark.parametrize("clock", ["frames", "time"])
@pytest.mark.parametrize(
    ("frame", "seconds", "color"),
    [
        (np.zeros((4, 4, 3), np.float32), 1.0, "bgr"),
        (np.zeros((4, 4), np.uint8), 1.0, "bgr"),
        (np.zeros((0, 4, 3), np.uint8), 1.0, "bgr"),
        (np.zeros((4, 4, 4), np.uint8), 1.0, "bgr"),
        (None, 1.0, "bgr"),
        (plain(0), 1.0, "gray"),
        (plain(0), math.nan, "bgr"),
        (plain(0), math.inf, "bgr"),
        (plain(0), -5.0, "bgr"),
        (plain(0), "soon", "bgr"),
        (plain(0), None, "bgr"),
    ],
)
def test_an_invalid_push_leaves_the_stream_as_it_was(detector, clock, frame, seconds, color):
    twin = scored_by(detector)
    harassed, calm = twin.stream("gate", clock=clock), twin.stream("gate", clock=clock)
    frames = [plain(i) for i in range(130)]
    records = push_all(harassed, frames[:10])
    for _ in range(2):
        with pytest.raises(InvalidFrame):
            harassed.push(frame, seconds, color)
    records += push_all(harassed, frames[10:], first=10) + harassed.flush()
    assert records == push_all(calm, frames) + calm.flush()


@pytest.mark.parametrize("start_s", [0.0, -1e6, 1.7e9])
def test_the_origin_of_time_makes_no_difference(detector, start_s):
    twin = scored_by(detector, full=LocatorSpec(sigma=1.0, threshold=0.2, lookahead=3, calibrated=False))
    stream, reference = twin.stream("gate"), twin.stream("gate")
    records, expected = [], []
    for i in range(200):
        records += stream.push(plain(i), start_s + i / 15)
        expected += reference.push(plain(i), i / 15)
    for got, wanted in zip(records + stream.flush(), expected + reference.flush(), strict=True):
        assert type(got) is type(wanted)
        assert got.start_s == pytest.approx(start_s + wanted.start_s, abs=1e-5)
        if isinstance(got, SegmentRecord):
            assert (got.index, got.score, got.smoothed) == (wanted.index, wanted.score, wanted.smoothed)


def test_what_was_flushed_is_over(detector):
    stream = scored_by(detector).stream("gate")
    push_all(stream, [plain(200)] * 10)
    assert len(of(SegmentRecord, stream.flush())) == 1
    assert stream.flush() == []
    assert stream.idle(1e6) == []
    for late in (lambda: stream.push(plain(0), 99.0), lambda: stream.gap(99.0, 100.0)):
        with pytest.raises(UsageError, match="was flushed"):
            late()


@pytest.mark.parametrize("clock", ["frames", "time"])
def test_an_empty_stream(detector, clock):
    stream = detector.stream("gate", clock=clock)
    assert stream.idle(5.0) == []
    assert stream.flush() == stream.flush() == []


def test_a_length_that_was_too_long_can_be_repaired(detector):
    stream = scored_by(detector).stream("clip", clock="frames", length=48)
    push_all(stream, [plain(50)] * 20)
    with pytest.raises(InvalidFrame, match="after 20 frames but 48 were announced"):
        stream.flush()
    size = detector.bundle.manifest.pixels.size
    again = stream.flush(lambda indices: dict.fromkeys(indices, np.full((size, size, 3), 50, np.uint8)))
    assert of(SegmentRecord, again)[0].score == pytest.approx(50 / 255)


@pytest.mark.parametrize("wrong", [{"locator": "fast"}, {"clock": "wall"}])
def test_unknown_choices(detector, wrong):
    with pytest.raises(UsageError, match="choose from"):
        detector.stream("gate", **wrong)


@pytest.mark.parametrize("name", [None, "", 7, b"gate"])
def test_a_stream_has_a_name(detector, name):
    with pytest.raises(UsageError, match="a stream's name must be a text"):
        detector.stream(name)


# -- other engines ------------------------------------------------------------------------------------------------


def test_an_engine_that_answers_from_a_table_serves_a_detector(bundle):
    """Features are looked up, so the same stream of frames gives the scorer's answer to the table's features."""
    golden = bundle.golden()
    engine = TableEngine.of_golden(golden)
    with Detector(bundle, engine=engine) as detector:
        asked = engine.segments
        stream = detector.stream("gate", clock="frames")
        records = push_all(stream, [plain(9)] * 130) + stream.flush()
        found = of(SegmentRecord, records)
        assert [record.score for record in found] == pytest.approx([float(golden.probabilities[0])] * 3, abs=1e-5)
        assert engine.segments - asked == 3
        assert detector.score(golden.frames) == pytest.approx(golden.probabilities, abs=1e-5)
    # It was the caller's before, and it stays the caller's.
    assert not engine.closed


def test_an_engine_that_computes_something_else_is_refused_before_the_first_frame(bundle):
    golden = bundle.golden()
    other = TableEngine.constant(golden.features[0] + 1.0)
    other.tokens = TableEngine.of_golden(golden).tokens
    with pytest.raises(InferenceFailed, match=r"self-test: the features .* --no-self-test"):
        Detector(bundle, engine=other)
    with Detector(bundle, engine=other, self_test=False) as detector:
        assert np.isfinite(detector.score(golden.frames)).all()


def test_an_engine_that_fails_gives_gaps_and_one_line_in_the_log(bundle, caplog):
    engine = TableEngine.of_golden(bundle.golden())
    with Detector(bundle, engine=engine) as detector:
        engine.abandon()
        stream = detector.stream("gate", clock="frames")
        records = push_all(stream, [plain(9)] * 48 * 20) + stream.flush()
        assert len([message for message in caplog.messages if "could not be scored" in message]) == 1
    assert [record.reason for record in of(GapRecord, records)] == ["unscored"] * 20
    assert of(SegmentRecord, records) == []
    # The rest is summed up at the end.
    assert "gate: 19 more segments could not be scored" in caplog.messages[-1]


# -- gaps, silence, failure ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["frames", "time"])
def test_a_gap_is_a_gap_and_takes_its_places(detector, clock):
    stream = scored_by(detector).stream("gate", clock=clock)
    records = push_all(stream, [plain(200)] * 60) + stream.gap(4.0, 17.0)
    for i in range(60):
        records += stream.push(plain(200), 17.0 + i / 15)
    records += stream.flush()
    assert [record.index for record in of(SegmentRecord, records)] == [0, 1, 2 + round(13 / 3.2), 3 + round(13 / 3.2)]
    assert of(GapRecord, records) == [GapRecord("gate", 4.0, 17.0, "lost")]
    kinds = [record.type if record.type != "event" else record.state for record in records]
    assert kinds == [
        "segment",
        "new",
        "segment",
        "update",
        "end",
        "gap",
        "segment",
        "new",
        "segment",
        "update",
        "end",
    ]


@pytest.mark.parametrize(
    "times", [(5.0, 4.0), (math.nan, 9.0), (9.0, math.nan), (9.0, math.inf), (0.0, 0.5), (0.0, 1e300)]
)
def test_a_gap_that_makes_no_sense_is_refused(detector, times):
    stream = scored_by(detector).stream("gate")
    push_all(stream, [plain(9)] * 20)
    with pytest.raises(UsageError, match="a gap"):
        stream.gap(*times)
    assert len(of(SegmentRecord, stream.flush())) == 1


@pytest.mark.parametrize("times", [("a", "b"), (None, 1.0), (0.0, object()), (0.0, 10**400)])
def test_a_gap_between_times_that_are_none_is_refused(detector, times):
    stream = scored_by(detector).stream("gate")
    with pytest.raises(UsageError, match="a gap lies between two times in seconds"):
        stream.gap(*times)


@pytest.mark.parametrize("reason", ["bored", "", None])
def test_a_gap_has_a_known_reason(detector, reason):
    stream = scored_by(detector).stream("gate")
    with pytest.raises(UsageError, match="choose from stalled, lost, undecodable, dropped, unscored"):
        stream.gap(0.0, 1.0, reason)
    assert [record.reason for record in stream.gap(0.0, 1.0, "stalled")] == ["stalled"]


def test_a_gap_never_begins_before_the_newest_frame(detector):
    stream = scored_by(detector).stream("gate")
    push_all(stream, [plain(9)] * 20)
    segment, gap = stream.gap(0.5, 60.0)
    assert segment.start_s < segment.end_s <= gap.start_s == pytest.approx(19 / 15)


def test_silence_ends_an_event_before_the_camera_returns(detector):
    full = LocatorSpec(sigma=1.0, threshold=0.5, lookahead=3, calibrated=False)
    stream = scored_by(detector, full=full).stream("gate")
    records = push_all(stream, [plain(200)] * 60)
    assert not of(EventRecord, records)
    for tick in range(40):
        records += stream.idle(4.0 + tick)
    assert [record.state for record in of(EventRecord, records)] == ["new", "update", "end"]
    # The frames that were there have all been told, before the event that holds them ended.
    assert [record.end_frame for record in of(SegmentRecord, records)] == [48, 60]


def test_counted_frames_wait_for_their_segment_however_long_it_takes(detector):
    full = LocatorSpec(sigma=1.0, threshold=0.5, lookahead=3, calibrated=False)
    asked, left_alone = (scored_by(detector, full=full).stream("gate", clock="frames") for _ in range(2))
    records = push_all(asked, [plain(200)] * 60) + asked.idle(1000.0)
    records += push_all(asked, [plain(10)] * 60, first=60) + asked.flush()
    assert records == push_all(left_alone, [plain(200)] * 60 + [plain(10)] * 60) + left_alone.flush()


@shared_fixtures
@given(
    stretches=st.lists(st.tuples(st.integers(1, 90), st.floats(0, 40)), min_size=1, max_size=5),
    asks=st.integers(0, 6),
    full=locators(),
    level=st.integers(0, 255),
)
@example(
    stretches=[(10, 12.0), (10, 0.0)],
    asks=6,
    full=LocatorSpec(sigma=2.0, threshold=0.5, lookahead=6, calibrated=False),
    level=0,
)
def test_asking_during_silence_changes_no_record(detector, stretches, asks, full, level):
    twin = scored_by(detector, full=full)
    asked, left_alone = twin.stream("gate"), twin.stream("gate")
    records, expected, seconds = [], [], 0.0
    for number, (frames, pause_s) in enumerate(stretches):
        for i in range(frames):
            frame = plain((level + 40 * number + i) % 256)
            records += asked.push(frame, seconds)
            expected += left_alone.push(frame, seconds)
            seconds += 1 / 15
        for ask in range(asks):
            records += asked.idle(seconds + pause_s * ask / asks)
        seconds += pause_s
    records += asked.flush()
    expected += left_alone.flush()
    for kind in (SegmentRecord, EventRecord, GapRecord):
        assert of(kind, records) == of(kind, expected)


def failing(places, score=brightness):
    """A scorer that fails at the calls `places`."""
    calls = itertools.count()

    def score_or_fail(frames):
        if next(calls) in places:
            raise InferenceFailed("out of memory")
        return score(frames)

    return score_or_fail


@shared_fixtures
@given(levels=st.lists(st.integers(0, 255), max_size=12), fails=st.sets(st.integers(0, 12)), full=locators())
def test_a_segment_that_cannot_be_scored_is_a_gap_and_the_others_are_right(detector, levels, fails, full):
    twin = scored_by(detector, failing(fails), full, frames=4, sampled=2, fps=15.0)
    stream = twin.stream("gate", clock="frames")
    records = push_all(stream, [plain(level) for level in levels for _ in range(4)]) + stream.flush()
    kept = [None if i in fails else level / 255 for i, level in enumerate(levels)]
    segments = of(SegmentRecord, records)
    assert [record.score for record in segments] == pytest.approx([score for score in kept if score is not None])
    measured = iter([record.score for record in segments])
    smoothed = direct([None if score is None else next(measured) for score in kept], full)
    assert [record.index for record in segments] == list(smoothed)
    assert [record.smoothed for record in segments] == pytest.approx(list(smoothed.values()), abs=1e-12)
    gaps = of(GapRecord, records)
    assert [record.reason for record in gaps] == ["unscored"] * kept.count(None)
    assert [record.start_s for record in gaps] == pytest.approx([4 * i / 15 for i, s in enumerate(kept) if s is None])


def test_abandoned_scoring_gives_gaps_and_is_no_error(bundle, caplog):
    with Detector(bundle, provider="cpu", threads=1) as detector:
        stream = detector.stream("gate", clock="frames")
        push_all(stream, [plain(9)] * 20)
        detector.abandon()
        assert [record.reason for record in stream.flush()] == ["unscored"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_closed_detector_says_so(bundle):
    with Detector(bundle, provider="cpu", threads=1) as detector:
        stream = detector.stream("gate")
        push_all(stream, [plain(9)] * 20)
    with pytest.raises(UsageError, match="closed"):
        stream.flush()
    with pytest.raises(UsageError, match="closed"):
        detector.stream("yard")


def test_two_threads_on_one_detector_give_what_each_gives_alone(detector):
    rng = np.random.default_rng(0)
    footage = {name: rng.integers(0, 256, (110, 48, 64, 3), dtype=np.uint8) for name in ("gate", "yard", "door")}

    def watch(name):
        stream = detector.stream(name)
        return push_all(stream, footage[name]) + stream.flush()

    alone = {name: watch(name) for name in footage}
    together = {}
    threads = [threading.Thread(target=lambda name=name: together.update({name: watch(name)})) for name in footage]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert len({record.score for records in alone.values() for record in of(SegmentRecord, records)}) > 1


def test_streams_of_one_detector_do_not_mix(detector):
    twin = scored_by(detector)
    streams = {level: twin.stream(str(level), clock="frames") for level in (10, 200)}
    records = []
    for i in range(100):
        for level, stream in streams.items():
            records += stream.push(plain(level), i / 15)
    assert {(record.camera, round(record.score * 255)) for record in of(SegmentRecord, records)} == {
        ("10", 10),
        ("200", 200),
    }


def test_the_id_of_an_event_is_the_same_when_the_footage_runs_again(detector):
    def ids(**options):
        stream = scored_by(detector).stream("gate", clock="frames", **options)
        return {record.id for record in of(EventRecord, push_all(stream, [plain(200)] * 60) + stream.flush())}

    assert ids() == ids() == {f"{detector.bundle.manifest.bundle_id[:8]}-gate-0"}
    assert ids(run="tuesday") == {"tuesday-gate-0"}


# -- encoding ahead -----------------------------------------------------------------------------------------------


class CountingEngine:
    """A real engine, and how many segments' frames went through each graph."""

    def __init__(self, engine) -> None:
        self.engine, self.provider = engine, engine.provider
        self.encoded, self.read = [], 0

    def tokens(self, frames):
        self.encoded.append(frames.shape[1])
        return self.engine.tokens(frames)

    def language(self, tokens):
        self.read += 1
        return self.engine.language(tokens)

    def features(self, frames):
        return self.language(self.tokens(frames))

    def abandon(self): ...

    def close(self): ...


class CountingGrowingEngine(CountingEngine):
    """The same of an engine that was opened with the growing form; counts positions too."""

    def __init__(self, engine) -> None:
        super().__init__(engine)
        self.grown = []

    def grow(self, tokens, positions, state):
        self.grown.append(len(positions))
        return self.engine.grow(tokens, positions, state)


def noisy(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def growing_engine(bundle):
    engine = open_engine(bundle, "cpu", threads=1, growing=True)
    yield engine
    engine.close()


@pytest.mark.parametrize("clock", ["frames", "time"])
@pytest.mark.parametrize("growing", [False, True], ids=["plain", "growing"])
def test_encoding_ahead_gives_the_same_records_and_leaves_little_for_the_end(
    bundle, detector, growing_engine, growing, clock
):
    frames = [noisy(number) for number in range(110)]
    engine = CountingGrowingEngine(growing_engine) if growing else CountingEngine(detector.engine)
    with Detector(bundle, engine=engine, self_test=False, growing=growing) as counted:
        told = {}
        for encode in ("batch", "eager"):
            stream = counted.stream("gate", clock=clock, encode=encode)
            records, engine.encoded = [], []
            for number, frame in enumerate(frames):
                before = len(engine.encoded)
                # Frame 48 begins the next segment on the clock of times; frame 47 ends this one when counting.
                made = stream.push(frame, number / bundle.manifest.segment.fps)
                if of(SegmentRecord, made) and encode == "eager":
                    assert len(engine.encoded) - before <= 1
                records += made
            told[encode] = records + stream.flush()
            sampled = bundle.manifest.segment.sampled
            if encode == "eager":
                assert max(engine.encoded[: 2 * sampled]) == 1, "one frame at a time, each once"
                if growing:
                    assert sum(engine.grown[:sampled]) == bundle.manifest.graphs.growing.ends[-1]
                    assert len(set(engine.grown[:sampled])) > 1, "the question goes with the last frame"
            else:
                assert set(engine.encoded) == {sampled}
    assert len(told["eager"]) == len(told["batch"]) >= 3
    for ahead, together in zip(
        map(msgspec.to_builtins, told["eager"]), map(msgspec.to_builtins, told["batch"]), strict=True
    ):
        assert ahead.keys() == together.keys()
        for key, value in together.items():
            assert ahead[key] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def test_frames_that_cannot_be_encoded_ahead_are_tried_again_with_their_segment(bundle, detector, monkeypatch):
    engine = CountingEngine(detector.engine)
    with Detector(bundle, engine=engine, self_test=False) as counted:
        stream = counted.stream("gate", clock="frames", encode="eager")

        def broken(frames):
            raise InferenceFailed("the graphs failed")

        monkeypatch.setattr(engine, "tokens", broken)
        records = push_all(stream, [noisy(number) for number in range(47)])
        monkeypatch.undo()
        records += push_all(stream, [noisy(47)], first=47) + stream.flush()
        assert len(of(SegmentRecord, records)) == 1
        assert not of(GapRecord, records)


def test_the_growing_form_passes_the_self_test_and_scores_what_the_plain_one_does(bundle, detector):
    frames = bundle.golden().frames
    with Detector(bundle, provider="cpu", threads=1, growing=True) as growing:
        assert growing.score(frames) == pytest.approx(detector.score(frames), abs=1e-5)


def test_a_bundle_without_a_growing_form_encodes_ahead_as_before(bundle, detector):
    manifest = bundle.manifest
    graphs = msgspec.structs.replace(manifest.graphs, growing=msgspec.UNSET)
    older = replace(bundle, manifest=msgspec.structs.replace(manifest, graphs=graphs))
    with Detector(older, provider="cpu", threads=1, growing=True) as found:
        stream = found.stream("gate", clock="frames", encode="eager")
        records = push_all(stream, [noisy(number) for number in range(48)]) + stream.flush()
    assert len(of(SegmentRecord, records)) == 1
    with pytest.raises(BundleRefused, match="no growing form of its decoder; build it again"):
        open_engine(older, "cpu", growing=True)


def test_an_unknown_way_to_encode_is_refused(detector):
    with pytest.raises(UsageError, match="unknown way to encode 'never'; choose from eager, batch"):
        detector.stream("gate", encode="never")


# -- segments that overlap ------------------------------------------------------------------------------------------


def seen(clock: str, start: int, end: int) -> list[int]:
    """The 16 frames that a segment of frames `start` to `end` shows."""
    if clock == "frames":
        return (start + sample_indices(end - start, 16)).tolist()
    # The nearest in time to each bin centre, the earlier of two.
    return [min(start + math.ceil((i + 0.5) * (end - start) / 16 - 0.5), end - 1) for i in range(16)]


@pytest.mark.parametrize("encode", ["batch", "eager"])
@pytest.mark.parametrize("clock", ["frames", "time"])
@pytest.mark.parametrize("stride", [12, 24])
def test_a_stride_is_scored_by_all_segments_that_cover_it_and_frames_are_encoded_once(
    bundle, detector, clock, stride, encode
):
    frames = [noisy(number) for number in range(110)]
    manifest = bundle.manifest
    shown = [seen(clock, start, min(start + 48, 110)) for start in range(0, 110, stride)]
    alone = detector.score(np.stack([[prepare(frames[i], manifest.pixels) for i in one] for one in shown]))
    engine = CountingEngine(detector.engine)
    with Detector(bundle, engine=engine, self_test=False) as counted:
        stream = counted.stream("gate", clock=clock, encode=encode, stride=stride)
        records = of(SegmentRecord, push_all(stream, frames, manifest.segment.fps) + stream.flush())
    assert [(record.start_frame, record.end_frame) for record in records] == [
        (start, min(start + stride, 110)) for start in range(0, 110, stride)
    ]
    for index, record in enumerate(records):
        covering = alone[max(0, index - 48 // stride + 1) : index + 1]
        assert record.score == pytest.approx(covering.mean(), abs=1e-4)
    different = len({index for one in shown for index in one})
    # What was encoded ahead for a full segment may turn out to be of a tail.
    assert different <= sum(engine.encoded) <= different + 16 * (encode == "eager")


def test_a_segment_without_a_score_leaves_its_stride_to_the_others(detector):
    located = detector.located("gate", "low_latency", stride=24)
    pixels = np.zeros((16, 1, 1, 3), np.uint8)
    items = [Segment(i, 24 * i, 24 * i + 24, i / 2, i / 2 + 0.5, pixels) for i in range(6)]
    dropped = Gap(3, 1, 1.5, 2.0, "dropped", interrupts=False)
    taken = [(items[0], 0.2), (items[1], None), (items[2], 0.6), (dropped, None), (items[4], 0.8)]
    records = [record for item, score in taken for record in located.take(item, score)]
    records += located.take(Gap(5, 2, 2.5, 3.5, "lost"), None)
    records += located.take(Segment(7, 120, 144, 3.5, 4.0, pixels), 0.4) + located.flush()
    assert [record.score for record in of(SegmentRecord, records)] == pytest.approx([0.2, 0.2, 0.6, 0.8, 0.4])
    assert [record.reason for record in of(GapRecord, records)] == ["dropped", "lost"]


def test_what_is_wrong_with_the_picture_of_a_segment_stands_in_its_record(detector):
    located = detector.located("gate")
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    items = [Segment(i, 24 * i, 24 * i + 24, i / 2, i / 2 + 0.5, pixels) for i in range(3)]
    items[1] = replace(items[1], quality=("covered", "frozen"))
    records = [record for item in items for record in located.take(item, 0.2)]
    told = [record.quality for record in of(SegmentRecord, records + located.flush())]
    assert told == [msgspec.UNSET, ["covered", "frozen"], msgspec.UNSET]


def test_another_stride_than_the_calibrated_one_is_told_once(bundle, detector, caplog):
    twin = scored_by(detector)
    twin._told_of_stride = False
    for name in ("gate", "yard"):
        twin.stream(name, stride=16)
    assert caplog.text.count("stride 16: the locators were calibrated at 48") == 1
    with pytest.raises(UsageError, match="a stride must divide the 48 frames of a segment, got 20"):
        twin.stream("gate", stride=20)


def test_the_bundles_own_stride_is_the_default(detector):
    twin = scored_by(detector, frames=48, sampled=16, fps=15.0, stride=24)
    assert twin.cutting().step == 24
    assert twin.cutting(48).overlap == 1


# -- frames that did not change -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", ["batch", "eager"])
def test_reusing_identical_pixels_changes_no_record_of_a_file(detector, clip_path, encode):
    with VideoFile(clip_path) as video:
        pictures = video.read_frames(range(130))

    def told(**options):
        stream = detector.stream("clip", clock="frames", encode=encode, **options)
        return [record.to_json() for record in push_all(stream, pictures) + stream.flush()]

    assert told(reuse_unchanged=0) == told()


def quiet_camera(count: int) -> list[np.ndarray]:
    """A noisy still scene, until somebody stands in it from frame 60 on."""
    random = np.random.default_rng(3)
    scene = random.integers(40, 200, (48, 64, 3), dtype=np.uint8)
    frames = [scene + random.integers(0, 2, scene.shape, dtype=np.uint8) for _ in range(count)]
    for frame in frames[60:]:
        frame[30:40, 10:16] = 255
    return frames


@pytest.mark.parametrize("clock", ["frames", "time"])
def test_a_quiet_camera_is_encoded_when_something_changes(bundle, detector, clock):
    frames = quiet_camera(144)
    engine = CountingEngine(detector.engine)
    with Detector(bundle, engine=engine, self_test=False) as counted:
        told = {}
        for encode in ("batch", "eager"):
            stream, engine.encoded = counted.stream("gate", clock=clock, encode=encode, reuse_unchanged=3), []
            told[encode] = push_all(stream, frames) + stream.flush()
            assert engine.encoded == [1, 1], "once, and again when somebody came"
            assert (stream.encoder.asked, stream.encoder.encoded, stream.encoder.reused) == (48, 2, 46)
        assert told["batch"] == told["eager"]
        encoded_all = push_all(stream := counted.stream("gate", clock=clock), frames) + stream.flush()
    assert len(told["batch"]) == len(encoded_all) >= 3
    for reused, plainly in zip(of(SegmentRecord, told["batch"]), of(SegmentRecord, encoded_all), strict=True):
        assert reused.score == pytest.approx(plainly.score, abs=0.02)


@pytest.mark.parametrize("levels", [-1, math.nan, 256])
def test_grey_levels_that_are_none_are_refused(detector, levels):
    with pytest.raises(UsageError, match="got"):
        detector.stream("gate", reuse_unchanged=levels)
