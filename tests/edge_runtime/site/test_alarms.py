"""What holds for a camera and who said so, and what of it outlives the run."""

from __future__ import annotations

import json
import logging
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.site import budget
from edge_runtime.site.alarms import AlarmNow, Alarms, AlarmWish
from edge_runtime.site.budget import LEAST_SEGMENTS
from edge_runtime.stream.alarm import Alarm

STEP_S = 3.2
ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle.site" / "alarms.json"


class Stream:
    """Takes alarms as a stream does."""

    def __init__(self) -> None:
        self.alarm: Alarm | None = None

    def take(self, alarm: Alarm) -> None:
        self.alarm = alarm


def begun(alarms: Alarms, camera: str = "gate", bundle_id: str = ONE, calibrated: float = 0.65) -> Stream:
    stream = Stream()
    alarms.begin(camera, stream.take, calibrated, STEP_S, bundle_id)
    return stream


def live(alarms: Alarms, camera: str, segments: int, score: float = 0.1) -> None:
    for index in range(segments):
        alarms.located(camera, index, score)


def test_without_a_word_the_bundles_threshold_holds() -> None:
    alarms = Alarms()
    stream = begun(alarms)
    assert alarms.of("gate") == AlarmNow(0.65, "bundle", 0.0, 0.0, None, 0, on_page=False)
    assert stream.alarm == Alarm(0.65)


def test_the_page_goes_before_the_configuration_and_that_before_the_bundle(path: Path) -> None:
    alarms = Alarms(path)
    stream = begun(alarms)
    alarms.configure({"gate": AlarmWish(threshold=0.7, cooldown_s=30.0)})
    assert alarms.of("gate") == AlarmNow(0.7, "config", 0.0, 30.0, None, 0, on_page=False)
    assert alarms.set("gate", threshold=0.8, min_duration_s=6.4) == alarms.of("gate")
    assert alarms.of("gate") == AlarmNow(0.8, "page", 6.4, 30.0, None, 0, on_page=True)
    assert stream.alarm == Alarm(0.8, 6.4, 30.0)
    # Said again, it takes the place of what was said: the threshold is the configuration's again.
    assert alarms.set("gate", min_duration_s=3.2) == AlarmNow(0.7, "config", 3.2, 30.0, None, 0, on_page=True)
    assert alarms.reset("gate") == AlarmNow(0.7, "config", 0.0, 30.0, None, 0, on_page=False)
    assert stream.alarm == Alarm(0.7, 0.0, 30.0)
    # Other cameras never had anything of it.
    assert alarms.of("yard").by == "bundle"


wishes = st.builds(
    lambda decides, value, least, cooldown: AlarmWish(
        **({} if decides is None else {decides: value}), min_duration_s=least, cooldown_s=cooldown
    ),
    st.sampled_from([None, "threshold", "budget_per_day"]),
    st.floats(0.1, 1),
    st.none() | st.floats(0, 60),
    st.none() | st.floats(0, 600),
)


@given(wishes, wishes, wishes)
def test_wishes_are_put_together_in_any_grouping(one: AlarmWish, two: AlarmWish, three: AlarmWish) -> None:
    assert one.over(two).over(three) == one.over(two.over(three))
    assert one.over(AlarmWish()) == AlarmWish().over(one) == one
    both = one.over(two)
    assert both.threshold is None or both.budget_per_day is None


def test_the_next_run_knows_what_was_set_on_the_page(path: Path) -> None:
    first = Alarms(path)
    begun(first)
    first.set("gate", threshold=0.8, min_duration_s=6.4, cooldown_s=60.0)
    first.set("yard", budget_per_day=2.0)
    first.set("dock", min_duration_s=5.0)
    first.reset("dock")
    second = Alarms(path)
    assert begun(second).alarm == Alarm(0.8, 6.4, 60.0)
    assert second.of("yard").budget_per_day == 2.0
    assert not second.of("dock").on_page
    held = json.loads(path.read_text())
    assert held["format"] == 1
    assert sorted(held["cameras"]) == ["gate", "yard"]
    assert held["cameras"]["gate"]["bundle_id"] == ONE


def test_two_runs_on_one_site_keep_each_others_cameras(path: Path) -> None:
    one, two = Alarms(path), Alarms(path)
    one.set("gate", threshold=0.8)
    two.set("yard", threshold=0.7)
    assert {"gate", "yard"} <= json.loads(path.read_text())["cameras"].keys()


def test_a_threshold_for_another_bundle_does_not_hold_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Alarms(path)
    begun(first, bundle_id=ONE)
    first.set("gate", threshold=0.8, min_duration_s=6.4)
    second = Alarms(path)
    for _ in range(2):
        begun(second, bundle_id=OTHER, calibrated=0.5)
    assert second.of("gate") == AlarmNow(0.5, "bundle", 6.4, 0.0, None, 0, on_page=True)
    assert caplog.text.count("was for another bundle") == 1
    # The bundle is back.
    begun(second, bundle_id=ONE)
    assert second.of("gate").threshold == 0.8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": 2, "cameras": {}}',
        b'{"format": 1, "cameras": {"gate": {"threshold": 7}}}',
        b'{"format": 1, "cameras": {"gate": {"threshold": NaN}}}',
        b'{"format": 1, "cameras": {"gate": {"threshold": 0.5, "budget_per_day": 2}}}',
        b'{"format": 1, "cameras": {"gate": {"cooldown_s": -1}}}',
        b'{"format": 1, "cameras": {"gate": {"treshold": 0.5}}}',
        b'{"format": 1, "cameras": {"gate": {}}, "cameras": {}}',
        b'{"format": 1, "cameras": {}}' + b" " * 2**20,
    ],
)
def test_a_damaged_file_costs_the_pages_settings_alone(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    alarms = Alarms(path)
    alarms.configure({"gate": AlarmWish(threshold=0.7)})
    assert begun(alarms).alarm == Alarm(0.7)
    (told,) = [record.message for record in caplog.records]
    assert "alarms.json" in told
    assert "do not hold" in told
    assert path.with_name("alarms.json.damaged").read_bytes() == content
    alarms.set("gate", threshold=0.9)
    assert Alarms(path).of("gate").threshold == 0.9


def test_a_file_that_is_damaged_meanwhile_costs_nothing(path: Path) -> None:
    alarms = Alarms(path)
    alarms.set("gate", threshold=0.8)
    path.write_text("{")
    alarms.set("yard", threshold=0.7)
    assert json.loads(path.read_text())["cameras"].keys() == {"gate", "yard"}


def test_what_cannot_be_written_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    alarms = Alarms(tmp_path / "file" / "alarms.json")
    stream = begun(alarms)
    with pytest.raises(OutputFailed):
        alarms.set("gate", threshold=0.9)
    assert alarms.of("gate").threshold == 0.65
    assert stream.alarm == Alarm(0.65)


def test_a_run_that_keeps_nothing_says_how_to_set_alarms() -> None:
    with pytest.raises(UsageError, match=r"site: \{\}"):
        Alarms().set("gate", threshold=0.9)
    assert Alarms().reset("gate").threshold == 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 1.1}, "a threshold is a score from 0 to 1, got 1.1"),
        ({"threshold": math.nan}, "a threshold"),
        ({"budget_per_day": 0.0}, "a budget is a number of events a day from 0.05"),
        ({"min_duration_s": -1.0}, "least duration"),
        ({"cooldown_s": math.inf}, "a cooldown"),
        ({"threshold": 0.5, "budget_per_day": 2.0}, "exclude each other"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(path: Path, values: dict[str, float], words: str) -> None:
    alarms = Alarms(path)
    with pytest.raises(UsageError, match=words):
        alarms.set("gate", **values)
    assert not path.exists()
    assert not alarms.of("gate").on_page


# ---- budgets


def test_a_budget_says_how_much_is_missing_and_then_sets_the_threshold(path: Path) -> None:
    alarms = Alarms(path)
    stream = begun(alarms)
    alarms.configure({"gate": AlarmWish(budget_per_day=20.0)})
    assert alarms.of("gate") == AlarmNow(0.65, "bundle", 0.0, 0.0, 20.0, LEAST_SEGMENTS, on_page=False)
    live(alarms, "gate", LEAST_SEGMENTS - 1)
    assert alarms.of("gate").missing_segments == 1
    assert stream.alarm == Alarm(0.65)
    alarms.located("gate", LEAST_SEGMENTS - 1, 0.1)
    now = alarms.of("gate")
    assert (now.by, now.missing_segments) == ("budget", 0)
    assert now.threshold < 0.65
    assert stream.alarm == now.alarm


def test_a_budget_that_is_set_later_is_in_force_at_once_where_enough_was_seen(path: Path) -> None:
    alarms = Alarms(path)
    begun(alarms)
    live(alarms, "gate", LEAST_SEGMENTS)
    assert alarms.set("gate", budget_per_day=20.0).by == "budget"
    # Another definition of an event is counted anew.
    assert alarms.set("gate", budget_per_day=20.0, min_duration_s=10.0).missing_segments == LEAST_SEGMENTS


def test_a_budget_lives_through_a_restart_and_a_camera_that_comes_back() -> None:
    alarms, after = Alarms(), Alarms()
    for one in (alarms, after):
        begun(one)
        one.configure({"gate": AlarmWish(budget_per_day=20.0)})
    live(alarms, "gate", LEAST_SEGMENTS)
    after.restore("gate", alarms.arrays("gate"))
    assert after.of("gate") == alarms.of("gate")
    alarms.end("gate")
    assert begun(alarms).alarm == after.of("gate").alarm
    # Another bundle's scores are none of these.
    begun(alarms, bundle_id=OTHER)
    assert alarms.of("gate").missing_segments == LEAST_SEGMENTS


def test_other_scores_are_counted_anew() -> None:
    alarms = Alarms()
    stream = begun(alarms)
    alarms.configure({"gate": AlarmWish(budget_per_day=20.0)})
    live(alarms, "gate", LEAST_SEGMENTS)
    alarms.restart("gate")
    assert alarms.of("gate").missing_segments == LEAST_SEGMENTS
    assert stream.alarm == Alarm(0.65)


def test_real_events_are_taken_out_of_the_count() -> None:
    alarms = Alarms()
    begun(alarms)
    alarms.located("gate", 0, 0.9)
    # Of yesterday, before anything was counted.
    alarms.discount("gate", 0.9, 86_400.0)
    assert alarms.arrays("gate")["parts"].any()
    alarms.discount("gate", 0.9, 3.0)
    assert not alarms.arrays("gate")["parts"].any()


def test_the_smallest_budget_comes_into_force_before_it_is_forgotten() -> None:
    alarms = Alarms(step_s=0.2)
    alarms.configure({"gate": AlarmWish(budget_per_day=0.05)})
    assert alarms.of("gate").missing_segments <= budget.PART * (budget.PARTS - 1)


# ---- the configuration, again


def test_a_configuration_that_is_read_again_holds_from_the_next_segment(path: Path) -> None:
    alarms = Alarms(path)
    stream = begun(alarms)
    alarms.configure({"gate": AlarmWish(threshold=0.7)})
    alarms.configure({"gate": AlarmWish(threshold=0.75, cooldown_s=5.0)})
    assert stream.alarm == Alarm(0.75, 0.0, 5.0)
    alarms.configure({}, AlarmWish(min_duration_s=7.0))
    assert stream.alarm == Alarm(0.65, 7.0)
    assert alarms.of("added later").min_duration_s == 7.0


def test_before_a_camera_is_watched_its_locators_threshold_is_known() -> None:
    alarms = Alarms(calibrated=0.6)
    alarms.configure({"gate": AlarmWish(), "yard": AlarmWish()}, None, {"gate": 0.4})
    assert (alarms.of("gate").threshold, alarms.of("yard").threshold) == (0.4, 0.6)


def test_any_thread_may_ask_and_set(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    alarms = Alarms(path)
    stream = begun(alarms)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for place in range(20):
                assert 0 <= alarms.set("gate", threshold=place / 20).threshold <= 1
                alarms.of("gate")
                alarms.discount("gate", 0.1, 0.0)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    live(alarms, "gate", 2000)
    for thread in threads:
        thread.join()
    assert not failed
    assert stream.alarm == alarms.of("gate").alarm == Alarms(path).of("gate").alarm
