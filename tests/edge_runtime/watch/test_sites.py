"""A run of live cameras and its site: p-values and drift in its records, alarms that are kept, folders that fail."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edge_command import with_manifest
from msgspec import UNSET
from scripted_camera import Script, ScriptedCamera
from served_run import LIMIT_S, serving, wait_for
from table_engine import TableEngine

from edge_runtime.bundle.calibration import CALIBRATION
from edge_runtime.bundle.manifest import MANIFEST, seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.records import CameraRecord, EventRecord, Record, SegmentRecord
from edge_runtime.site.alarms import Alarms, AlarmWish
from edge_runtime.site.drift import BLOCK, LEARNING
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.site.sites import Sites
from edge_runtime.site.state import state_path
from edge_runtime.stream.segments import Segment
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.cameras import LiveRun
from edge_runtime.watch.config import read_plan
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.run import Runner
from edge_runtime.watch.sites import open_sites

STEP_S, FPS = 3.2, 15.0
NO_PIXELS = np.zeros((1, 1, 1, 3), np.uint8)


def usual(bundle: Bundle) -> np.ndarray:
    """Features in the middle of the calibration's normal ones."""
    known = bundle.calibration()
    return (known.mean + known.scale * known.centre).astype(np.float32)


def detector_of(bundle: Bundle, features: np.ndarray) -> Detector:
    return Detector(bundle, engine=TableEngine.constant(features), self_test=False)


class Live:
    """Cameras that wait for what they sent to be scored, so that nothing is dropped however slow a machine is."""

    def __init__(self, detector: Detector, sites: Sites) -> None:
        self.records: list[Record] = []
        self.run = LiveRun(detector, self.records.append, RunOptions(sites=sites), open_reader=self._open)
        self.segments = 5
        self._rng = np.random.default_rng(0)

    def of(self, camera: str, kind: type[Record]) -> list[Record]:
        return [one for one in self.records if isinstance(one, kind) and one.camera == camera]

    def _open(self, source, listener, clock) -> ScriptedCamera:
        return ScriptedCamera(self._script(source.name), source, listener, clock)

    def _script(self, name: str) -> Script:
        def shown() -> np.ndarray:
            return self._rng.integers(0, 256, (36, 64, 3)).astype(np.uint8)

        def script(listener: CameraListener, stopping: threading.Event) -> None:
            listener.on_state("online", "frames come", 0.0)
            frames = round(STEP_S * FPS)

            def scored(segments: int) -> None:
                wait_for(lambda: len(self.of(name, SegmentRecord)) >= segments or stopping.is_set())

            for index in range(self.segments * frames + 1):
                listener.on_frame(DecodedFrame(index, index / FPS, shown))
                if index % frames == 0:
                    scored(index // frames)
            stopping.wait(LIMIT_S)

        return script


def lived(detector: Detector, sites: Sites, segments: int, camera: str = "gate") -> Live:
    """One camera for so many segments, and the rest of one."""
    live = Live(detector, sites)
    live.segments = segments
    live.run.add(parse_source(f"{camera}=rtsp://camera/1"))
    with serving(live.run):
        wait_for(lambda: len(live.of(camera, SegmentRecord)) >= segments)
    return live


def test_segments_say_how_rare_they_are_and_the_next_run_knows_it(bundle: Bundle, tmp_path: Path) -> None:
    detector = detector_of(bundle, usual(bundle))
    sites = Sites(Alarms(), tmp_path / "learned")
    live = lived(detector, sites, 30)
    sites.close()
    normal = bundle.calibration().normal_scores
    for record in live.of("gate", SegmentRecord):
        assert isinstance(record, SegmentRecord)
        assert record.p == pytest.approx((1 + np.sum(normal >= record.score)) / (1 + len(normal)))
    assert state_path(tmp_path / "learned", "gate").is_file()
    assert detector.seen == []
    later = Sites(Alarms(), tmp_path / "learned")
    lived(detector, later, 1)
    later.close()
    # Two runs together, but for what lay in the guard band at their ends.
    assert later.alarms.arrays("gate")["sizes"][2:].sum() == 31 + 2


def test_a_turned_camera_is_told_with_since_when(bundle: Bundle, tmp_path: Path) -> None:
    """A site that has lived for a day with usual pictures, and then shows other ones in a run."""
    known, rng = bundle.calibration(), np.random.default_rng(1)
    noise = known.scale * np.sqrt(known.covariance_diagonal)
    quiet = usual(bundle)
    before, sites = detector_of(bundle, quiet), Sites(Alarms(), tmp_path)
    stream = sites.begin(before, "full", None, before.located("gate"), lambda *_: None)
    (seen,) = before.seen
    for index in range(LEARNING * BLOCK):
        features = quiet + noise * rng.standard_normal(len(noise))
        seen("gate", Segment(index, 0, 1, index * STEP_S, (index + 1) * STEP_S, NO_PIXELS), features, 0.1)
    stream.end()
    sites.close()
    again = Sites(Alarms(), tmp_path)
    live = lived(detector_of(bundle, (quiet + 20 * noise).astype(np.float32)), again, 45)
    again.close()
    told = [one for one in live.of("gate", CameraRecord) if one.quality is not UNSET]
    assert [one.quality for one in told] == [["drifted"]]
    assert "not what they used to be" in told[0].detail
    assert told[0].since is not UNSET
    assert told[0].since < told[0].time
    # Within two minutes.
    assert [one.quality for one in live.of("gate", SegmentRecord)][40] == ["drifted"]


def test_a_duration_and_a_threshold_of_the_page_hold_in_a_run(bundle: Bundle, tmp_path: Path) -> None:
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.set("gate", threshold=0.0, min_duration_s=9.0)
    live = lived(detector_of(bundle, usual(bundle)), Sites(alarms, tmp_path), 4)
    first, *others = live.of("gate", EventRecord)
    assert (first.state, first.start_s, first.end_s) == ("new", 0.0, pytest.approx(9.6))
    assert {one.state for one in others} == {"update", "end"}


def test_the_sites_own_scorer_begins_scores_anew(bundle: Bundle, tmp_path: Path) -> None:
    detector, known = detector_of(bundle, usual(bundle)), bundle.calibration()
    sites = Sites(Alarms(), tmp_path)
    lived(detector, sites, 3)
    sites.close()
    detector.site_scorer = SiteScorer(known.prior_mean + 0.1, known.mean, known.scale)
    later = Sites(Alarms(), tmp_path)
    live = lived(detector, later, 3)
    later.close()
    assert {one.p for one in live.of("gate", SegmentRecord)} == {UNSET}
    assert later.alarms.arrays("gate")["sizes"][2:].sum() == 4


def test_a_camera_with_a_bundle_of_its_own_has_its_own_site(bundle: Bundle, tmp_path: Path) -> None:
    spec = msgspec.to_builtins(bundle.manifest.locators.full) | {"threshold": 0.25}
    other = Bundle.open(with_manifest(bundle.path, tmp_path / "other", locators={"full": spec}))
    one, two = detector_of(bundle, usual(bundle)), detector_of(other, usual(other))
    sites = Sites(Alarms(), tmp_path / "learned")
    live = Live(one, sites)
    live.run.add(parse_source("gate=rtsp://camera/1"))
    live.run.add(parse_source("yard=rtsp://camera/2"), CameraOptions(detector=two))
    with serving(live.run):
        wait_for(lambda: all(len(live.of(name, SegmentRecord)) >= 5 for name in ("gate", "yard")))
        assert sites.alarms.of("gate").threshold == bundle.manifest.locators.full.threshold
        assert sites.alarms.of("yard").threshold == 0.25
        assert len(one.seen) == len(two.seen) == 1
    sites.close()
    assert len(list((tmp_path / "learned").glob("*.npz"))) == 2


def test_a_bundle_without_calibration_is_told_once_and_goes_on(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = detector_of(bundle, usual(bundle))
    detector.bundle = without_calibration(bundle, tmp_path)
    sites = Sites(Alarms(), tmp_path / "learned")
    live = Live(detector, sites)
    for name in ("gate", "yard"):
        live.run.add(parse_source(f"{name}=rtsp://camera/{name}"))
    with serving(live.run):
        wait_for(lambda: all(len(live.of(name, SegmentRecord)) >= 3 for name in ("gate", "yard")))
    sites.close()
    assert caplog.text.count("drift is not told") == 1


def without_calibration(bundle: Bundle, folder: Path) -> Bundle:
    """The same as an earlier version built it."""
    target = folder / "older"
    shutil.copytree(bundle.path, target)
    document = json.loads((target / MANIFEST).read_text())
    document["files"] = [one for one in document["files"] if one["path"] != CALIBRATION]
    (target / MANIFEST).write_bytes(seal(document))
    (target / CALIBRATION).unlink()
    return Bundle.open(target)


# ---- the folder


def sites_of(bundle: Bundle, folder: Path, text: str):
    path = folder / "cameras.yaml"
    path.write_text(f"version: 1\nbundle: {bundle.path}\n{text}\ncameras: {{gate: {{source: rtsp://camera/1}}}}\n")
    path.chmod(0o600)
    return open_sites(read_plan(path, {}), bundle.manifest)


def test_a_folder_that_cannot_be_made_costs_what_is_learned_and_nothing_else(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with sites_of(bundle, tmp_path, "site: {path: file/learned}") as sites:
        live = lived(detector_of(bundle, usual(bundle)), sites, 3)
    assert len(live.of("gate", SegmentRecord)) == 4
    assert live.of("gate", SegmentRecord)[0].p is not UNSET
    assert "forgotten at the end of the run" in caplog.text


def test_a_plain_run_writes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with sites_of(bundle, tmp_path, "alarm: {threshold: 0.8}") as sites:
        live = lived(detector_of(bundle, usual(bundle)), sites, 3)
        assert sites.alarms.of("gate").by == "config"
    assert {one.p for one in live.of("gate", SegmentRecord)} == {UNSET}
    assert [path.name for path in tmp_path.iterdir()] == ["cameras.yaml"]


def test_a_budget_brings_its_folder_along(bundle: Bundle, tmp_path: Path) -> None:
    with sites_of(bundle, tmp_path, "site: {path: learned}\nalarm: {budget_per_day: 2}") as sites:
        lived(detector_of(bundle, usual(bundle)), sites, 3)
        assert sites.alarms.of("gate").missing_segments == 10_000 - 4
        assert sites.alarms.set("gate", threshold=0.9).by == "page"
    with sites_of(bundle, tmp_path, "site: {path: learned}\nalarm: {budget_per_day: 2}") as sites:
        assert sites.alarms.of("gate") == sites.alarms.of("gate")
        assert sites.alarms.of("gate").threshold == 0.9
        assert sites.alarms.reset("gate").budget_per_day == 2


def test_a_file_takes_the_alarm_of_its_configuration(bundle: Bundle, clip_path: Path) -> None:
    records: list[Record] = []
    own = {"clip": CameraOptions(alarm=AlarmWish(threshold=0.0, min_duration_s=6.0))}
    runner = Runner(detector_of(bundle, usual(bundle)), records.append, threading.Event())
    runner.run([parse_source(f"clip={clip_path}")], own)
    new, *_ = [one for one in records if isinstance(one, EventRecord)]
    # Two whole segments of 48 frames at 15 a second.
    assert (new.state, new.start_frame, new.end_frame) == ("new", 0, 96)
