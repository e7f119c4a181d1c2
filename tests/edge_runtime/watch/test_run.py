"""Sources to records, in one process: files against plain pushes, live cameras from a script."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from clips import write_clip
from edge_command import with_manifest
from numpy.typing import NDArray
from scripted_camera import Script, ScriptedCamera, flow

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import FootageIncomplete, InferenceFailed, OutputFailed, SourceUnavailable, UsageError
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, RunRecord, SegmentRecord
from edge_runtime.stream.segments import Encode
from edge_runtime.video import footage
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.file import VideoFile
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.options import RunOptions
from edge_runtime.watch.run import Runner, check_sources, warn_of_unmeasured_reuse


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", threads=1) as opened:
        yield opened


def run_files(detector: Detector, *paths: Path, stop: threading.Event | None = None) -> list[Record]:
    records: list[Record] = []
    Runner(detector, records.append, stop or threading.Event()).run([parse_source(str(path)) for path in paths])
    return records


def spans(records: list[Record]) -> list[tuple[int, int]]:
    return [(item.start_frame, item.end_frame) for item in records if isinstance(item, SegmentRecord)]


# ---- files


def test_an_event_that_a_crash_left_open_is_ended_first(detector: Detector, clip_path: Path) -> None:
    event = EventRecord("update", "1a-gate-3", "gate", 4.8, 8.0, 144, 240, 0.9, 0.8, time="2031-01-01T00:00:00.000Z")
    records: list[Record] = []
    Runner(detector, records.append, threading.Event(), unfinished=[event]).run([parse_source(str(clip_path))])
    assert isinstance(records[0], RunRecord)
    assert records[1] == msgspec.structs.replace(event, state="end", reason="restart")


def test_every_frame_of_a_file_lies_in_one_segment(detector: Detector, clip_path: Path) -> None:
    assert spans(run_files(detector, clip_path)) == [(0, 48), (48, 96), (96, 130)]


@pytest.mark.parametrize("locator", ["full", "low_latency"])
def test_a_file_gives_what_its_frames_pushed_one_by_one_give(
    bundle_dir: Path, tmp_path: Path, clip_path: Path, locator: str
) -> None:
    spec = {"sigma": 0.7, "threshold": 0.5, "calibrated": True, "f1": None}
    smoothing = {"full": spec | {"lookahead": 3}, "low_latency": spec | {"lookahead": 0}}
    path = with_manifest(bundle_dir, tmp_path / "smoothing", locators=smoothing)
    with Detector(Bundle.open(path), "cpu", threads=1) as detector, VideoFile(clip_path) as video:
        records: list[Record] = []
        Runner(detector, records.append, threading.Event(), options=RunOptions(locator=locator)).run(
            [parse_source(str(clip_path))]
        )
        pushed: list[Record] = []
        stream = detector.stream(clip_path.stem, locator, "frames")
        for grabbed in video.frames():
            pushed += stream.push(grabbed.retrieve(), grabbed.seconds)
        pushed += stream.flush()
    assert isinstance(records[0], RunRecord)
    assert records[1:] == pushed
    assert len(spans(records)) == 3


def test_only_sampled_frames_are_prepared(
    detector: Detector, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []

    def counting(*arguments: object) -> NDArray[np.uint8]:
        prepared.append(arguments)
        return original(*arguments)

    original: Callable[..., NDArray[np.uint8]] = footage.prepare
    monkeypatch.setattr(footage, "prepare", counting)
    run_files(detector, clip_path)
    # 16 of each whole segment, and all 34 of a tail whose end nobody knows before it comes.
    assert len(prepared) == 16 + 16 + 34


@pytest.fixture(scope="module")
def truncated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cut") / "cut.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rng = np.random.default_rng(3)
        for index in range(150):
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 15)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def test_a_truncated_file_is_scored_as_far_as_it_goes(detector: Detector, truncated: Path) -> None:
    with VideoFile(truncated) as video:
        decoded = video.count_frames()
    assert 60 < decoded < 140
    records: list[Record] = []
    runner = Runner(detector, records.append, threading.Event())
    with pytest.raises(FootageIncomplete, match=rf"cut\.avi: .*{decoded} of 150 frames"):
        runner.run([parse_source(str(truncated))])
    expected = [(start, min(start + 48, decoded)) for start in range(0, decoded, 48)]
    assert spans(records) == expected
    (gap,) = [record for record in records if isinstance(record, GapRecord)]
    assert gap.reason == "undecodable"
    assert (gap.start_s, gap.end_s) == (pytest.approx(decoded / 15), pytest.approx(10.0))
    assert records[-1] == gap or isinstance(records[-1], EventRecord)


def test_the_tail_of_a_truncated_file_has_its_own_samples(detector: Detector, truncated: Path) -> None:
    """The promised length was wrong: the frames that its tail needs are read again."""
    records: list[Record] = []
    with pytest.raises(FootageIncomplete):
        Runner(detector, records.append, threading.Event()).run([parse_source(str(truncated))])
    stream = detector.stream("cut", "full", "frames")
    pushed: list[Record] = []
    with VideoFile(truncated) as video:
        for grabbed in video.frames():
            pushed += stream.push(grabbed.retrieve(), grabbed.seconds)
    pushed += stream.flush()
    assert [r for r in records if isinstance(r, SegmentRecord)] == [r for r in pushed if isinstance(r, SegmentRecord)]


def test_one_bad_file_does_not_keep_the_next_from_running(
    detector: Detector, truncated: Path, clip_path: Path
) -> None:
    records: list[Record] = []
    runner = Runner(detector, records.append, threading.Event())
    with pytest.raises(FootageIncomplete, match="cut"):
        runner.run([parse_source(str(truncated)), parse_source(str(clip_path))])
    assert spans(records)[-3:] == [(0, 48), (48, 96), (96, 130)]


@pytest.mark.parametrize("order", [1, -1])
def test_each_file_that_can_be_scored_is_scored_in_any_order(
    detector: Detector, truncated: Path, clip_path: Path, tmp_path: Path, order: int
) -> None:
    """Twenty files with an empty, a missing and a truncated one among them: what outweighs is told, in any order."""
    (tmp_path / "empty.mp4").touch()
    good = [f"good{number}={clip_path}" for number in range(17)]
    bad = [f"empty={tmp_path / 'empty.mp4'}", f"gone={tmp_path / 'gone.mp4'}", f"cut={truncated}"]
    texts = [*good[:5], bad[0], *good[5:11], bad[2], *good[11:], bad[1]][::order]
    records: list[Record] = []
    runner = Runner(detector, records.append, threading.Event())
    with pytest.raises(SourceUnavailable, match="3 of 20 files") as caught:
        runner.run([parse_source(text) for text in texts])
    assert caught.value.exit_code == 4
    scored = {record.camera for record in records if isinstance(record, SegmentRecord)}
    assert scored == {"cut", *(f"good{number}" for number in range(17))}


def test_a_file_without_a_rate_takes_the_bundles(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "lies.mp4", 50, fps=5000)
    records = run_files(detector, path)
    first = next(record for record in records if isinstance(record, SegmentRecord))
    assert first.end_s == pytest.approx(48 / detector.bundle.manifest.segment.fps)
    assert sum("no usable frame rate" in message for message in caplog.messages) == 1


def test_a_segment_that_cannot_be_scored_is_a_gap_and_an_error(
    detector: Detector, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def failing(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        scored.append(frames)
        if len(scored) == 2:
            raise InferenceFailed("the graphs failed: out of memory")
        return np.full(1, 0.25, np.float32)

    monkeypatch.setattr(detector, "score", failing)
    records: list[Record] = []
    with pytest.raises(FootageIncomplete, match="1 of 3 segments could not be scored"):
        Runner(detector, records.append, threading.Event()).run([parse_source(str(clip_path))])
    assert spans(records) == [(0, 48), (96, 130)]
    assert [(r.start_s, r.reason) for r in records if isinstance(r, GapRecord)] == [(3.2, "unscored")]


@pytest.mark.parametrize("frames", [1, 47, 48, 50, 97, 129])
def test_a_stopped_file_run_writes_what_it_has(detector: Detector, clip_path: Path, frames: int) -> None:
    stop = threading.Event()

    def progress(camera: str, done: int, total: int | None, fps: float) -> None:
        if done == frames:
            stop.set()

    records: list[Record] = []
    Runner(detector, records.append, stop, options=RunOptions(progress=progress)).run([parse_source(str(clip_path))])
    expected = [(start, min(start + 48, frames)) for start in range(0, frames, 48)]
    if frames == 1:
        expected.pop()  # its one frame was none of those that a whole segment would have shown
    assert spans(records) == expected
    events = [record.state for record in records if isinstance(record, EventRecord)]
    assert events.count("new") == events.count("end")


def test_an_output_that_fails_ends_the_run_at_once(detector: Detector, clip_path: Path) -> None:
    def write(record: Record) -> None:
        raise OutputFailed("out.jsonl: cannot be written")

    with pytest.raises(OutputFailed):
        Runner(detector, write, threading.Event()).run(
            [parse_source(str(clip_path)), parse_source(str(clip_path))][:1]
        )


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "no camera"),
        (["rtsp://a/1", "rtsp://a/2"], "two cameras are called 'a'"),
        (["CLIP", "rtsp://a/"], "two commands"),
    ],
)
def test_sources_that_cannot_run_together(texts: list[str], words: str, clip_path: Path) -> None:
    sources = [parse_source(text.replace("CLIP", str(clip_path))) for text in texts]
    with pytest.raises(UsageError, match=words):
        check_sources(sources)


# ---- live cameras, from a script instead of a network


def run_script(
    detector: Detector,
    script: Script,
    done: Callable[[list[Record]], bool],
    *sources: str,
    options: RunOptions | None = None,
) -> list[Record]:
    records: list[Record] = []
    stop = threading.Event()
    deadline = time.monotonic() + 60

    def write(record: Record) -> None:
        records.append(record)
        if done(records):
            stop.set()

    watchdog = threading.Timer(deadline - time.monotonic(), stop.set)
    watchdog.start()
    runner = Runner(detector, write, stop, options=options, open_reader=ScriptedCamera.of(script))
    runner.run([parse_source(text) for text in sources or ("gate=rtsp://camera/",)])
    watchdog.cancel()
    return records


def test_scoring_that_is_too_slow_drops_the_oldest_and_says_so(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = threading.Event()
    held = threading.Event()

    def slow(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        held.set()
        resting.wait(30)
        return np.full(len(frames), 0.25, np.float32)

    monkeypatch.setattr(detector, "score", slow)

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 49, 0.0)
        held.wait(30)
        # While the first segment is scored, nine more come to their end.
        flow(listener, 49, 9 * 48, 49 / 15)
        resting.set()
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return sum(isinstance(record, SegmentRecord) for record in records) == 3

    records = run_script(detector, script, done)
    segments = [record.index for record in records if isinstance(record, SegmentRecord)]
    gaps = [(round(record.start_s / 3.2), record.reason) for record in records if isinstance(record, GapRecord)]
    assert segments[:3] == [0, 8, 9]
    assert gaps == [(index, "dropped") for index in range(1, 8)]
    stretches = [record for record in records if isinstance(record, SegmentRecord | GapRecord)]
    for before, after in itertools.pairwise(stretches):
        assert after.start_s == pytest.approx(before.end_s)


def test_an_event_ends_although_the_camera_stays_away(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"sigma": 0.5, "threshold": 0.5, "calibrated": True, "f1": None, "lookahead": 2}
    path = with_manifest(
        bundle_dir,
        tmp_path / "quick",
        locators={"full": spec, "low_latency": spec | {"lookahead": 0}},
        segment={"fps": 480.0},
    )

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 49, 0.0, fps=480.0)
        listener.on_state("offline", "the connection ended", 0.2)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return isinstance(records[-1], EventRecord) and records[-1].state == "end"

    with Detector(Bundle.open(path), "cpu", threads=1) as detector:
        monkeypatch.setattr(detector, "score", lambda frames: np.full(len(frames), 0.75, np.float32))
        before = time.monotonic()
        records = run_script(detector, script, done)
    assert time.monotonic() - before < 60  # not ended by the watchdog
    assert [type(record) for record in records[-2:]] == [EventRecord, EventRecord]
    assert spans(records) == [(0, 48), (48, 49)]


def test_several_cameras_each_in_its_own_order(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "score", lambda frames: np.full(len(frames), 0.25, np.float32))

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        for segment in range(4):
            flow(listener, 48 * segment, 48, 3.2 * segment)
            stopping.wait(0.1)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return sum(isinstance(record, SegmentRecord) for record in records) == 9

    sources = [f"{name}=rtsp://camera/" for name in ("gate", "yard", "hall")]
    records = run_script(detector, script, done, *sources)
    for name in ("gate", "yard", "hall"):
        own = [record for record in records if isinstance(record, SegmentRecord) and record.camera == name]
        assert [(record.start_frame, record.end_frame) for record in own] == [
            (48 * index, 48 * index + 48) for index in range(4)
        ]


def test_ids_of_events_differ_from_run_to_run(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "score", lambda frames: np.full(len(frames), 1.0, np.float32))

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        flow(listener, 0, 49, 0.0)
        stopping.wait(30)

    ids = set()
    for _ in range(2):
        records = run_script(detector, script, lambda records: isinstance(records[-1], EventRecord))
        ids |= {record.id for record in records if isinstance(record, EventRecord)}
        time.sleep(0.002)  # ids hold the start in milliseconds
    assert len(ids) == 2
    assert all(name.startswith(detector.bundle.manifest.bundle_id[:8]) for name in ids)


@pytest.mark.parametrize("others", [0, 1])
def test_only_when_no_camera_answers_the_run_is_refused(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    def script(listener: CameraListener, stopping: threading.Event) -> None:
        name = listener.camera  # type: ignore[attr-defined]  # a CameraFeed
        if name == "good":
            listener.on_state("online", "", 0.0)
            stopping.wait(0.5)
            flow(listener, 0, 49, 0.0)
        else:
            listener.on_state("offline", "refused", 0.0)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return isinstance(records[-1], SegmentRecord)

    sources = ["down=rtsp://user:s3cret@camera/", "good=rtsp://camera/"][: 1 + others]
    if others:
        records = run_script(detector, script, done, *sources)
        assert {record.state for record in records if isinstance(record, CameraRecord)} == {"offline", "online"}
    else:
        with pytest.raises(SourceUnavailable, match="camera down") as caught:
            run_script(detector, script, done, *sources)
        assert "s3cret" not in str(caught.value)


def test_a_live_camera_with_a_stride_gives_what_a_stream_gives(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(110)]
    stream = detector.stream("gate", "low_latency", stride=12)
    wanted = [record for i, frame in enumerate(frames) for record in stream.push(frame, i / 15)] + stream.flush()

    scored = threading.Semaphore(0)
    score = detector.score_segment

    def noted(*arguments: Any) -> float | None:
        found = score(*arguments)
        scored.release()
        return found

    monkeypatch.setattr(detector, "score_segment", noted)

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        for index, frame in enumerate(frames):
            listener.on_frame(DecodedFrame(index, index / 15, lambda frame=frame: frame))  # type: ignore[misc]
            if index >= 48 and index % 12 == 0:
                # A camera waits for its frames, too.
                scored.acquire(timeout=30)
        # All that run end at once, and none makes room for another.
        listener.on_state("stalled", "", 110 / 15)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return sum(isinstance(record, SegmentRecord) for record in records) == 10

    records = run_script(detector, script, done, options=RunOptions(locator="low_latency", stride=12))
    found, plain = ([one for one in each if isinstance(one, SegmentRecord)] for each in (records, wanted))
    assert [(one.index, one.start_frame, one.end_frame) for one in found] == [
        (one.index, one.start_frame, one.end_frame) for one in plain
    ]
    # The last four are of tails, for which a live camera may not have prepared the nearest frame.
    assert [one.score for one in found[:6]] == pytest.approx([one.score for one in plain[:6]], abs=1e-5)


def test_a_live_camera_that_is_encoded_ahead_gives_the_same_segments(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_ahead = threading.Event()
    encode_ahead = detector.encode

    def noted(camera: str, frames: Sequence[NDArray[np.uint8]], encoder: FrameEncoder) -> None:
        encode_ahead(camera, frames, encoder)
        was_ahead.set()

    monkeypatch.setattr(detector, "encode", noted)

    def script(listener: CameraListener, stopping: threading.Event, wait: bool) -> None:
        listener.on_state("online", "", 0.0)
        for index in range(110):
            frame = np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            listener.on_frame(DecodedFrame(index, index / 15, lambda frame=frame: frame))  # type: ignore[misc]
            if wait and index == 40:
                was_ahead.wait(30)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return sum(isinstance(record, SegmentRecord) for record in records) == 2

    def segments(encode: Encode) -> list[SegmentRecord]:
        options = RunOptions(locator="low_latency", encode=encode)
        records = run_script(detector, partial(script, wait=encode == "eager"), done, options=options)
        return [record for record in records if isinstance(record, SegmentRecord)]

    together = segments("batch")
    assert not was_ahead.is_set()
    ahead = segments("eager")
    assert was_ahead.is_set(), "frames were encoded before their segment ended"
    assert [record.index for record in together] == [record.index for record in ahead]
    for one, other in zip(together, ahead, strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-5)


# ---- frames that did not change


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def test_a_file_run_says_how_many_frames_it_reused_where_it_was_asked_to(
    detector: Detector, clip_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for reuse in (None, 255.0):  # all frames are alike at 255
        options = RunOptions(reuse_unchanged=reuse)
        with caplog.at_level("INFO"):
            runner = Runner(detector, lambda record: None, threading.Event(), options=options)
            runner.run([parse_source(str(clip_path))])
    without, told = said(caplog, "clip: 130 frames, 3 segments")
    assert "reused" not in without
    assert ", 1 groups of frames encoded and 47 reused, in" in told


@pytest.mark.parametrize("encode", ["batch", "eager"])
def test_a_live_camera_reuses_what_it_shows_again(
    detector: Detector, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 97, 0.0)
        stopping.wait(30)

    def done(records: list[Record]) -> bool:
        return sum(isinstance(record, SegmentRecord) for record in records) == 2

    with caplog.at_level("INFO"):
        options = RunOptions(locator="low_latency", encode=encode, reuse_unchanged=0.0)
        run_script(detector, script, done, options=options)
    # The frame behind the second segment is a third one.
    assert len(said(caplog, "gate: 3 segments")) == 1
    assert len(said(caplog, "1 groups of frames encoded and 47 reused")) == 1


def test_more_reuse_than_the_build_measured_is_warned_of(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    measured = msgspec.structs.replace(bundle.manifest, parity={"reuse_threshold": 2.0})
    for levels, manifest in [(None, bundle.manifest), (0.0, bundle.manifest), (2.0, measured), (0.5, measured)]:
        warn_of_unmeasured_reuse(levels, manifest)
    assert not caplog.records
    warn_of_unmeasured_reuse(2.5, measured)
    warn_of_unmeasured_reuse(0.5, bundle.manifest)
    more, unmeasured = (record.getMessage() for record in caplog.records)
    assert "--reuse-unchanged 2.5: the build measured the accuracy with 2 grey levels" in more
    assert "--reuse-unchanged 0.5" in unmeasured
    assert "was not measured" in unmeasured


@pytest.mark.parametrize("levels", [-1.0, float("nan"), 256.0])
def test_options_of_a_run_refuse_grey_levels_that_are_none(levels: float) -> None:
    with pytest.raises(UsageError, match="grey levels"):
        RunOptions(reuse_unchanged=levels)
