"""A run's cameras, and what the next run knows of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edge_runtime.records import SegmentRecord
from edge_runtime.site.budget import LEAST_SEGMENTS, Budget
from edge_runtime.site.drift import BLOCK, LEARNING, DriftSpace
from edge_runtime.site.watching import Known, SiteWatch
from edge_runtime.stream.segments import Segment

SIZE, STEP_S = 4, 3.2
NO_PIXELS = np.zeros((1, 1, 1, 3), np.uint8)


def known() -> Known:
    zeros, ones = np.zeros(SIZE), np.ones(SIZE)
    return Known(DriftSpace.of(zeros, ones, zeros, ones, np.zeros((0, SIZE))), None, np.linspace(0, 0.5, 300))


def segment(index: int, quality=()) -> Segment:
    return Segment(index, index, index + 1, index * STEP_S, (index + 1) * STEP_S, NO_PIXELS, quality)


def record(camera: str, index: int, score: float) -> SegmentRecord:
    return SegmentRecord(
        camera=camera,
        index=index,
        start_frame=index,
        end_frame=index + 1,
        start_s=index * STEP_S,
        end_s=(index + 1) * STEP_S,
        score=score,
        smoothed=score,
        anomalous=score > 0.65,
    )


def watch(folder=None, told=None, scores_of="full") -> SiteWatch:
    return SiteWatch(
        known(),
        "id",
        folder,
        scores_of=scores_of,
        budget_of=lambda name: Budget(2.0, 0.65, STEP_S) if name == "gate" else None,
        tell=lambda camera, change: None if told is None else told.append((camera, change)),
    )


def live(site: SiteWatch, camera: str, segments: range, view: float = 0.0) -> None:
    rng = np.random.default_rng(segments.start)
    for index in segments:
        site.seen(camera, segment(index), view + rng.standard_normal(SIZE).astype(np.float32), 0.1)
        site.located(record(camera, index, float(rng.uniform(0, 0.4))))


def test_what_a_bundle_says_of_its_calibration_is_taken_as_it_stands():
    rng = np.random.default_rng(0)
    calibration = SimpleNamespace(
        mean=rng.standard_normal(SIZE),
        scale=rng.random(SIZE) + 0.5,
        centre=rng.standard_normal(SIZE),
        covariance_diagonal=rng.random(SIZE) + 0.5,
        covariance_factor=rng.standard_normal((2, SIZE)),
        normal_scores=rng.random(12),
        distances=np.arange(12.0),
        videos=np.arange(12) // 2,
    )
    found = Known.of(calibration, overlap=2)
    assert found.farthest == 10.5
    assert found.overlap == 2
    assert found.normal_scores is calibration.normal_scores
    centre = calibration.mean + calibration.scale * calibration.centre
    np.testing.assert_allclose(found.space.whitened(centre), 0, atol=1e-12)


def test_two_cameras_are_two_sites():
    told = []
    site = watch(told=told)
    learned = LEARNING * BLOCK
    live(site, "gate", range(learned))
    live(site, "yard", range(500))
    live(site, "gate", range(learned, learned + 40), view=4.0)
    live(site, "yard", range(500, 540), view=4.0)
    ((camera, change),) = told
    assert (camera, change.drifted) == ("gate", True)
    # Scores up to 0.4 were usual: the budget's threshold is below the calibrated one, and only the gate has a budget.
    threshold = site.threshold("gate")
    assert threshold is not None
    assert threshold < 0.65
    assert site.threshold("yard") is None


def test_the_next_run_goes_on_where_the_last_one_ended(tmp_path):
    first = watch(tmp_path)
    live(first, "gate", range(LEAST_SEGMENTS + 100))
    first.close()
    second = watch(tmp_path)
    assert second.threshold("gate") == first.threshold("gate") is not None
    for score in (0.1, 0.39, 0.9):
        assert second.camera("gate").pvalues.of(score) == first.camera("gate").pvalues.of(score)
    assert second.camera("gate").drift.learning_left == first.camera("gate").drift.learning_left
    other = watch(tmp_path, scores_of="another scorer")
    assert other.threshold("gate") is None
    assert other.camera("gate").drift.learning_left == first.camera("gate").drift.learning_left


def test_a_killed_run_loses_ten_minutes_at_most(tmp_path):
    killed = watch(tmp_path)
    live(killed, "gate", range(400))
    killed._pool.shutdown()  # as written by then
    assert watch(tmp_path).camera("gate").budget.events.segments >= 188


def test_a_state_whose_arrays_contradict_each_other_is_set_aside(tmp_path, caplog):
    site = watch(tmp_path)
    live(site, "gate", range(50))
    site.camera("gate").parts()["pvalues"]["now_counts"][0] = -5
    site.close()
    assert watch(tmp_path).camera("gate").pvalues.quiet == 0
    assert "learned anew" in caplog.text
    assert list(tmp_path.glob("*.damaged"))


def test_a_disk_that_fails_is_told_once_and_ends_nothing(tmp_path, caplog):
    folder = tmp_path / "sites"
    site = watch(folder)
    folder.rmdir()
    live(site, "gate", range(800))
    site.close()
    assert [one.message for one in caplog.records if "kept in memory" in one.message]
    assert caplog.text.count("kept in memory") == 1


def test_segments_whose_picture_is_known_to_be_wrong_teach_nothing():
    site = watch()
    for index in range(100):
        site.seen("gate", segment(index, ("covered",)), np.full(SIZE, 9.0), 0.1)
    assert site.camera("gate").drift.distance is None
    # What drift itself told does not keep it from seeing that end.
    for index in range(100):
        site.seen("gate", segment(index, ("drifted",)), np.zeros(SIZE), 0.1)
    assert site.camera("gate").drift.distance == pytest.approx(0.0)
