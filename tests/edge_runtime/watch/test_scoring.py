"""Segments of several cameras in one call give what each gives by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edge_command import with_manifest
from numpy.typing import NDArray
from scripted_camera import ScriptedCamera, flow
from served_run import wait_for

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import EngineUnreachable, InferenceFailed, UsageError
from edge_runtime.inference.engine import Engine
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.stream.segments import Segment
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.cameras import LiveRun
from edge_runtime.watch.detectors import Detectors
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.scoring import Unreachable, Waiting, score_together


class Counting:
    """An engine that notes how many segments each call had, and fails where it is told to."""

    def __init__(self, engine: Engine, fails: Any = lambda frames: False) -> None:
        self._engine, self._fails = engine, fails
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(frames))
        if self._fails(frames):
            raise InferenceFailed("the graphs failed: out of memory")
        return self._engine.features(frames)


@pytest.fixture(scope="module")
def opened(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", threads=1) as detector:
        yield detector


def waiting(bundle: Bundle, detector: Detector) -> list[Waiting]:
    frames = bundle.golden().frames
    return [
        Waiting(f"camera{place}", Segment(0, 0, 48, 0.0, 1.6, frames[place % len(frames)]), detector)
        for place in range(5)
    ]


def test_a_batch_scores_as_its_segments_do(bundle: Bundle, opened: Detector) -> None:
    assert opened.engine is not None
    engine = Counting(opened.engine)
    detector = Detector(bundle, engine=engine, self_test=False)
    alone = [opened.score_segment(one.camera, one.segment) for one in waiting(bundle, opened)]
    np.testing.assert_allclose(
        np.array(score_together(waiting(bundle, detector)), float), np.array(alone, float), atol=1e-5
    )
    assert engine.batches == [5]
    assert len(set(alone)) > 1


@pytest.mark.parametrize("together", [True, False])
def test_whoever_asks_sees_the_features_of_every_scored_segment(
    bundle: Bundle, opened: Detector, together: bool
) -> None:
    detector = Detector(bundle, engine=opened.engine, self_test=False)
    seen: list[tuple[str, float]] = []
    golden = bundle.golden().features

    def note(camera: str, segment: Segment, features: np.ndarray, score: float) -> None:
        np.testing.assert_allclose(features, golden[int(camera[-1]) % len(golden)], atol=1e-3, rtol=1e-3)
        seen.append((camera, score))

    detector.seen.append(note)
    all_of_them = waiting(bundle, detector)
    if together:
        scores = score_together(all_of_them)
    else:
        scores = [detector.score_segment(one.camera, one.segment) for one in all_of_them]
    assert seen == [(one.camera, score) for one, score in zip(all_of_them, scores, strict=True)]


def test_one_segment_that_fails_takes_no_other_with_it(bundle: Bundle, opened: Detector) -> None:
    assert opened.engine is not None
    bad = bundle.golden().frames[1]
    engine = Counting(opened.engine, lambda frames: any(np.array_equal(one, bad) for one in frames))
    detector = Detector(bundle, engine=engine, self_test=False)
    scores = score_together(waiting(bundle, detector))
    assert [score is None for score in scores] == [False, True, False, True, False]
    assert engine.batches == [5, 1, 1, 1, 1, 1]


def test_a_scorer_that_fails_fails_for_its_segments_alone_and_all_are_seen_once(
    bundle: Bundle, opened: Detector
) -> None:
    class Failing:
        def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
            raise InferenceFailed("its values are not finite")

    good, bad = (Detector(bundle, engine=opened.engine, self_test=False) for _ in range(2))
    bad.site_scorer = Failing()
    seen: list[str] = []
    for detector in (good, bad):
        detector.seen.append(lambda camera, *_: seen.append(camera))
    first, second, third = waiting(bundle, good)[:3]
    scores = score_together([first, Waiting(second.camera, second.segment, bad), third])
    assert [score is None for score in scores] == [False, True, False]
    assert seen == [first.camera, third.camera]


@pytest.mark.parametrize(("most", "wait_ms"), [(1, 0.0), (4, 0.0), (4, 500.0)])
def test_cameras_are_scored_together_and_each_in_its_order(
    bundle: Bundle, opened: Detector, most: int, wait_ms: float
) -> None:
    assert opened.engine is not None
    engine = Counting(opened.engine)
    detector = Detector(bundle, engine=engine, self_test=False)
    together = threading.Barrier(4)

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        together.wait(30)
        flow(listener, 0, 100, 0.0)
        stopping.wait(30)

    records: list[Record] = []
    stop = threading.Event()

    def emit(record: Record) -> None:
        records.append(record)
        if sum(isinstance(one, SegmentRecord) for one in records) == 8:
            stop.set()

    options = RunOptions(locator="low_latency", max_batch=most, max_wait_ms=wait_ms)
    run = LiveRun(detector, emit, options, open_reader=ScriptedCamera.of(script))
    for number in range(4):
        run.add(parse_source(f"camera{number}=rtsp://camera/{number}"))
    run.serve(stop)
    assert max(engine.batches) <= most
    if wait_ms:
        assert max(engine.batches) > 1
    for number in range(4):
        own = [one for one in records if isinstance(one, SegmentRecord) and one.camera == f"camera{number}"]
        assert [one.index for one in own] == list(range(len(own)))
        assert len({one.score for one in own}) == 1
    assert not any(isinstance(one, GapRecord) for one in records)


class Away:
    """An engine whose server does not answer, until it does."""

    provider = "triton"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.answers = False
        self.asked = 0

    def _ask(self, name: str, given: Any) -> Any:
        self.asked += 1
        if not self.answers:
            raise EngineUnreachable("no server answers")
        return getattr(self._engine, name)(given)

    def tokens(self, frames: Any) -> Any:
        return self._ask("tokens", frames)

    def language(self, tokens: Any) -> Any:
        return self._ask("language", tokens)

    def features(self, frames: Any) -> Any:
        return self._ask("features", frames)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.mark.parametrize("how", [{}, {"encode": "eager"}, {"stride": 24}, {"reuse_unchanged": 0.0}])
def test_cameras_wait_once_for_a_server_that_does_not_answer(
    bundle: Bundle, opened: Detector, how: dict[str, Any]
) -> None:
    assert opened.engine is not None
    engine = Away(opened.engine)
    detector = Detector(bundle, engine=engine, self_test=False)
    names = [f"camera{number}" for number in range(6)]
    again, records, stop = threading.Event(), list[Record](), threading.Event()

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 49, 0.0)
        again.wait(60)
        flow(listener, 49, 96, 49 / 15.0)
        stopping.wait(60)

    def count(kind: type[Record]) -> int:
        """Of the camera with the fewest."""
        return min(sum(isinstance(one, kind) and one.camera == name for one in records) for name in names)

    def emit(record: Record) -> None:
        records.append(record)
        if count(GapRecord) and not engine.answers:
            asked.append(engine.asked)
            reasons.extend(one.reason for one in records if isinstance(one, GapRecord))
            engine.answers = True
            again.set()
        if count(SegmentRecord):
            stop.set()

    asked, reasons = list[int](), list[str]()
    # All that waits is one round.
    options = RunOptions(locator="low_latency", max_batch=64, **how)
    run = LiveRun(detector, emit, options, open_reader=ScriptedCamera.of(script))
    for name in names:
        run.add(parse_source(f"{name}=rtsp://camera/1"))
    wait_for(lambda: all(one.waiting for one in run.figures()))
    run.serve(stop)
    assert asked == [1]
    assert set(reasons) == {"unscored"}
    assert count(SegmentRecord) >= 1, "it is asked again in the next round"


def test_what_cannot_be_reached_is_asked_again_and_other_engines_are_not_kept_from_it(
    bundle: Bundle, opened: Detector
) -> None:
    assert opened.engine is not None
    engine = Away(opened.engine)
    away = Detector(bundle, engine=engine, self_test=False)
    unreachable = Unreachable()
    first, *others = waiting(bundle, away)
    here = [Waiting(one.camera, one.segment, opened) for one in waiting(bundle, opened)]
    assert score_together([first], unreachable=unreachable) == [None]
    scores = score_together([*others, *here], unreachable=unreachable)
    assert [score is None for score in scores] == [True] * 4 + [False] * 5
    assert (engine.asked, unreachable.lasts(engine)) == (1, True)
    unreachable.begin()
    engine.answers = True
    assert None not in score_together(others, unreachable=unreachable)
    assert not unreachable.lasts(engine)


def test_what_was_waited_for_is_left_alone_as_long_again(bundle: Bundle, opened: Detector) -> None:
    """Forty cameras fill their queues while eight at a time wait for a server that hangs."""
    moment = 0.0
    unreachable = Unreachable(lambda: moment)
    assert opened.engine is not None
    engine, error = Away(opened.engine), EngineUnreachable("no server answers")
    away = Detector(bundle, engine=engine, self_test=False)
    unreachable.note(engine, error, 1.5)
    for passed_s in (0.0, 1.4):
        moment = passed_s
        unreachable.begin()
        assert score_together(waiting(bundle, away), unreachable=unreachable) == [None] * 5
        assert engine.asked == 0
    moment = 1.5
    unreachable.begin()
    score_together(waiting(bundle, away), unreachable=unreachable)
    assert engine.asked == 1
    # However long it took.
    unreachable.note(engine, error, 60.0)
    moment += 2.0
    unreachable.begin()
    score_together(waiting(bundle, away), unreachable=unreachable)
    assert engine.asked == 2


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_wait_ms": -1.0}, {"max_wait_ms": float("nan")}])
def test_batches_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        RunOptions(**wrong)


def test_bundles_that_differ_in_their_locators_share_their_graphs(bundle_dir: Path, tmp_path: Path) -> None:
    spec = {"sigma": 0.7, "threshold": 0.1, "calibrated": True, "f1": None}
    locators = {"full": spec | {"lookahead": 3}, "low_latency": spec | {"lookahead": 0}}
    site = with_manifest(bundle_dir, tmp_path / "site", locators=locators)
    loaded: list[Engine | None] = []

    def load(bundle: Bundle, engine: Engine | None) -> Detector:
        loaded.append(engine)
        return Detector(bundle, "cpu", threads=1, engine=engine)

    with Detectors(load) as detectors:
        first, second, again = (detectors.open(Bundle.open(path)) for path in (bundle_dir, site, bundle_dir))
        assert again is first
        assert second.engine is first.engine
        assert second.bundle.manifest.locators.full.threshold == 0.1
        assert [engine is None for engine in loaded] == [True, False]
        scores = score_together([*waiting(first.bundle, first), *waiting(second.bundle, second)])
        assert scores[:5] == pytest.approx(scores[5:], abs=1e-5)
    assert first.engine is None


def test_what_counts_as_the_same_graphs(bundle: Bundle) -> None:
    manifest, hashes = bundle.manifest, bundle.graph_hashes()
    assert set(manifest.graphs.files) < dict(hashes).keys(), "weights lie beside the graphs"
    for entry in manifest.files:
        files = [msgspec.structs.replace(one, sha256="0" * 64) if one == entry else one for one in manifest.files]
        changed = Bundle(bundle.path, msgspec.structs.replace(manifest, files=files))
        assert (changed.graph_hashes() == hashes) == (entry.path not in dict(hashes))
    assert not {manifest.scorer.file, "golden.npz"} & dict(hashes).keys()


def test_a_camera_with_a_bundle_of_its_own_is_judged_by_its_locator(
    bundle_dir: Path, tmp_path: Path, opened: Detector
) -> None:
    spec = {"sigma": 0.0, "lookahead": 0, "calibrated": True, "f1": None}
    thresholds = {"all": 0.0, "none": 1.0}
    records: list[Record] = []
    stop = threading.Event()

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 49, 0.0)
        stopping.wait(30)

    def emit(record: Record) -> None:
        records.append(record)
        if {one.camera for one in records if isinstance(one, SegmentRecord)} == set(thresholds):
            stop.set()

    run = LiveRun(opened, emit, RunOptions(locator="low_latency"), open_reader=ScriptedCamera.of(script))
    for name, threshold in thresholds.items():
        locators = dict.fromkeys(("full", "low_latency"), spec | {"threshold": threshold})
        site = Bundle.open(with_manifest(bundle_dir, tmp_path / name, locators=locators))
        own = Detector(site, engine=opened.engine, self_test=False)
        run.add(parse_source(f"{name}=rtsp://camera/1"), CameraOptions(detector=own))
    run.serve(stop)
    anomalous = {one.camera: one.anomalous for one in records if isinstance(one, SegmentRecord)}
    assert anomalous == {"all": True, "none": False}
