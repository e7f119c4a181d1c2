"""A run's cameras, and what the next run knows of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import UNSET

from edge_runtime.records import EventRecord, Record, SegmentRecord
from edge_runtime.site.alarms import Alarms, AlarmWish
from edge_runtime.site.budget import LEAST_SEGMENTS
from edge_runtime.site.drift import BLOCK, LEARNING, DriftSpace
from edge_runtime.site.pvalues import OWN_FROM
from edge_runtime.site.state import Keeper, state_path
from edge_runtime.site.watching import Known, Scored, SiteStream, SiteWatch
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.segments import Segment
from edge_runtime.stream.track import LocatedStream, SegmentTimes

SIZE, STEP_S = 4, 3.2
NO_PIXELS = np.zeros((1, 1, 1, 3), np.uint8)
SCORED = Scored(locator="sigma 0", threshold=0.65, step_s=STEP_S)

Told = list[tuple[str, bool, str, float | None]]


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


class Run:
    """One run over a site, whose gate has a budget."""

    def __init__(self, folder: Path | None = None, bundle_id: str = "id", *, calibrated: bool = True) -> None:
        self.told: Told = []
        self.scorer = ""
        self.alarms = Alarms()
        self.alarms.configure({"gate": AlarmWish(budget_per_day=2.0)})
        self.keeper = Keeper()
        self.watch = SiteWatch(
            known() if calibrated else None, bundle_id, self.alarms, folder, self.keeper, lambda: self.scorer
        )
        self.streams: dict[str, SiteStream] = {}

    def begin(self, camera: str, scored: Scored = SCORED) -> None:
        def tell(drifted: bool, detail: str, seconds: float, since_s: float | None) -> None:
            assert since_s is None or since_s <= seconds
            self.told.append((camera, drifted, detail, since_s))

        self.streams[camera] = self.watch.begin(camera, scored, lambda alarm: None, tell)

    def live(self, camera: str, segments: range, view: float = 0.0) -> list[Record]:
        if camera not in self.streams:
            self.begin(camera)
        rng = np.random.default_rng(segments.start)
        records: list[Record] = []
        for index in segments:
            self.watch.seen(camera, segment(index), view + rng.standard_normal(SIZE).astype(np.float32), 0.1)
            records += self.streams[camera].located([record(camera, index, float(rng.uniform(0, 0.4)))])
        return records

    def end(self, camera: str) -> None:
        self.streams.pop(camera).end()

    def close(self) -> None:
        self.watch.close()
        self.keeper.close(60.0)


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
    site = Run()
    learned = LEARNING * BLOCK
    site.live("gate", range(learned))
    site.live("yard", range(500))
    site.live("gate", range(learned, learned + 40), view=4.0)
    site.live("yard", range(500, 540), view=4.0)
    ((camera, drifted, _, since_s),) = site.told
    assert (camera, drifted) == ("gate", True)
    # From a block before the first strange one on, at most.
    assert learned - BLOCK <= since_s / STEP_S <= learned + BLOCK
    # Scores up to 0.4 were usual: the budget's threshold is below the calibrated one, and only the gate has a budget.
    assert site.alarms.of("gate").by == "budget"
    assert site.alarms.of("gate").threshold < 0.65
    assert site.alarms.of("yard").by == "bundle"


def test_a_camera_that_comes_back_still_drifted_is_told_again():
    site = Run()
    learned = LEARNING * BLOCK
    site.live("gate", range(learned))
    site.live("gate", range(learned, learned + 40), view=4.0)
    site.end("gate")
    site.live("gate", range(learned + 40, learned + 80), view=4.0)
    assert [one[1] for one in site.told] == [True, True]
    assert site.told[0][2:] == site.told[1][2:]
    site.live("gate", range(learned + 80, learned + 140))
    assert [one[1] for one in site.told] == [True, True, False]


def test_every_segment_says_how_rare_its_score_is():
    site = Run()
    first, *_ = site.live("gate", range(OWN_FROM + 50))
    (high,) = site.streams["gate"].located([record("gate", OWN_FROM + 50, 0.99)])
    assert first.p == pytest.approx((1 + np.sum(np.linspace(0, 0.5, 300) >= first.score)) / 301)
    assert high.p == pytest.approx(1 / (1 + site.watch.camera("gate").pvalues.quiet))
    assert high.p < 1 / OWN_FROM


def test_a_bundle_that_says_nothing_of_its_calibration_goes_on_without():
    site = Run(calibrated=False)
    records = site.live("gate", range(OWN_FROM + 50))
    assert records[0].p is UNSET
    assert 0 < records[-1].p <= 1
    assert site.watch.camera("gate").drift is None
    assert site.told == []


def test_another_scorer_begins_scores_anew_and_keeps_the_views():
    site = Run()
    site.live("gate", range(LEAST_SEGMENTS))
    assert site.alarms.of("gate").by == "budget"
    left = site.watch.camera("gate").drift.learning_left
    site.scorer = "scorer of ten marks"
    (later,) = site.live("gate", range(LEAST_SEGMENTS, LEAST_SEGMENTS + 1))
    # The calibration's normals were scored by the bundle's own.
    assert later.p is UNSET
    assert site.alarms.of("gate").missing_segments == LEAST_SEGMENTS - 1
    assert site.watch.camera("gate").drift.learning_left == left


def test_another_locator_counts_anew_and_keeps_p_values():
    site = Run()
    site.live("gate", range(200))
    quiet = site.watch.camera("gate").pvalues.quiet
    site.end("gate")
    site.begin("gate", Scored(locator="sigma 2", threshold=0.5, step_s=STEP_S))
    assert site.alarms.of("gate").missing_segments == LEAST_SEGMENTS
    assert site.alarms.of("gate").threshold == 0.5
    assert site.watch.camera("gate").pvalues.quiet == quiet


def test_the_next_run_goes_on_where_the_last_one_ended(tmp_path):
    first = Run(tmp_path)
    first.live("gate", range(LEAST_SEGMENTS + 100))
    first.close()
    second = Run(tmp_path)
    second.begin("gate")
    assert second.alarms.of("gate") == first.alarms.of("gate")
    assert second.alarms.of("gate").by == "budget"
    for score in (0.1, 0.39, 0.9):
        assert second.watch.camera("gate").pvalues.of(score) == first.watch.camera("gate").pvalues.of(score)
    assert second.watch.camera("gate").drift.learning_left == first.watch.camera("gate").drift.learning_left
    other = Run(tmp_path)
    other.begin("gate", Scored(locator="sigma 2", threshold=0.65, step_s=STEP_S))
    assert other.alarms.of("gate").by == "bundle"
    assert other.watch.camera("gate").drift.learning_left == first.watch.camera("gate").drift.learning_left
    stranger = Run(tmp_path, bundle_id="another")
    stranger.begin("gate")
    assert stranger.watch.camera("gate").drift.learning_left == LEARNING


def test_a_killed_run_loses_ten_minutes_at_most(tmp_path):
    killed = Run(tmp_path)
    killed.live("gate", range(400))
    killed.keeper.close(60.0)  # as written by then
    after = Run(tmp_path)
    after.begin("gate")
    assert after.alarms.of("gate").missing_segments <= LEAST_SEGMENTS - 188


def test_a_camera_that_leaves_is_kept_at_once(tmp_path):
    site = Run(tmp_path)
    site.live("gate", range(50))
    site.end("gate")
    site.keeper.close(60.0)
    assert state_path(tmp_path, "gate").is_file()


def test_a_camera_that_another_detector_scores_now_is_left_to_that(tmp_path):
    one, two = Run(tmp_path), Run(tmp_path, bundle_id="another")
    one.live("gate", range(50))
    one.watch.forget("gate")
    two.live("gate", range(50))
    two.close()
    kept = state_path(tmp_path, "gate").read_bytes()
    one.close()
    assert state_path(tmp_path, "gate").read_bytes() == kept


def test_a_state_whose_arrays_contradict_each_other_is_set_aside(tmp_path, caplog):
    site = Run(tmp_path)
    site.live("gate", range(50))
    site.watch.camera("gate").pvalues.arrays()["now_counts"][0] = -5
    site.close()
    after = Run(tmp_path)
    after.begin("gate")
    assert after.watch.camera("gate").pvalues.quiet == 0
    assert "learned anew" in caplog.text
    assert list(tmp_path.glob("*.damaged"))


def test_a_disk_that_fails_is_told_once_and_ends_nothing(tmp_path, caplog):
    folder = tmp_path / "sites"
    folder.mkdir()
    site = Run(folder)
    folder.rmdir()
    site.live("gate", range(800))
    site.close()
    assert caplog.text.count("kept in memory") == 1


def test_segments_whose_picture_is_known_to_be_wrong_teach_nothing():
    site = Run()
    site.begin("gate")
    for index in range(100):
        site.watch.seen("gate", segment(index, ("covered",)), np.full(SIZE, 9.0), 0.1)
    assert site.watch.camera("gate").drift.distance is None
    # What drift itself told does not keep it from seeing that end.
    for index in range(100):
        site.watch.seen("gate", segment(index, ("drifted",)), np.zeros(SIZE), 0.1)
    assert site.watch.camera("gate").drift.distance == pytest.approx(0.0)


def test_a_run_that_learns_nothing_looks_after_alarms_alone(tmp_path):
    alarms = Alarms()
    alarms.configure({"gate": AlarmWish(threshold=0.8)})
    keeper, given = Keeper(), []
    watch = SiteWatch(None, "id", alarms, tmp_path, keeper, learns=False)
    stream = watch.begin("gate", SCORED, given.append, lambda *_: None)
    told = record("gate", 0, 0.2)
    assert stream.located([told]) == [told]
    stream.end()
    watch.close()
    keeper.close(60.0)
    assert [alarm.threshold for alarm in given] == [0.8]
    assert list(tmp_path.iterdir()) == []


def test_an_event_says_how_rare_its_rarest_segment_is():
    scores = [0.1, 0.7, 0.9, 0.8, 0.2, 0.95, 0.1, 0.99]
    site = Run()
    site.begin("gate")
    stream = LocatedStream("gate", LocatorSpec(sigma=0, threshold=0.65, lookahead=0, calibrated=True), "run")
    records: list[Record] = []
    # A segment is missing before the last one: the event before ends behind it.
    for index, score in enumerate(scores[:-1]):
        records += stream.push(SegmentTimes(index, index, index + 1, index * STEP_S, (index + 1) * STEP_S), score)
    records += stream.push(SegmentTimes(8, 8, 9, 8 * STEP_S, 9 * STEP_S), scores[-1])
    located = site.streams["gate"].located([*records, *stream.flush()])
    segments = [one for one in located if isinstance(one, SegmentRecord)]
    events = [one for one in located if isinstance(one, EventRecord)]
    assert [one.state for one in events].count("end") == 3
    for event in events:
        inside = [one.p for one in segments if event.start_s <= one.start_s < event.end_s]
        assert event.p == min(inside)


def test_events_that_follow_each_other_have_p_values_of_their_own():
    """The first ends with a record that comes behind the first segment of the second: one between them is missing."""
    site = Run()
    site.begin("gate")
    stream = LocatedStream("gate", LocatorSpec(sigma=0, threshold=0.65, lookahead=0, calibrated=True), "run")
    records: list[Record] = []
    for index, score in ((0, 0.9), (2, 0.66)):
        records += stream.push(SegmentTimes(index, index, index + 1, index * STEP_S, (index + 1) * STEP_S), score)
    located = site.streams["gate"].located([*records, *stream.flush()])
    segments = {one.start_s: one.p for one in located if isinstance(one, SegmentRecord)}
    events = [(one.start_s, one.p) for one in located if isinstance(one, EventRecord)]
    assert len(events) == 4
    assert events == [(start_s, segments[start_s]) for start_s, _ in events]


def test_where_nothing_is_known_an_event_has_no_p_value():
    site = Run(calibrated=False)
    site.begin("gate")
    told = site.streams["gate"].located(
        [record("gate", 0, 0.9), EventRecord("new", "e", "gate", 0.0, 3.2, 0, 1, 0.9, 0.9)]
    )
    assert [one.p for one in told] == [UNSET, UNSET]
