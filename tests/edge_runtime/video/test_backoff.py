"""When a camera is asked again."""

from __future__ import annotations

import itertools

import pytest

from edge_runtime.video.backoff import Backoff

WAITS_S = (1, 2, 3)


def test_waits_stay_short_however_often_a_camera_was_down() -> None:
    backoff = Backoff(WAITS_S, lambda: 0.0)
    assert [backoff.after("refused", 0.0) for _ in range(100)] == [1, 2, *[3] * 98]


def test_a_camera_that_is_back_is_asked_within_four_seconds_whenever_that_is() -> None:
    # A fake clock: what the longest wait leaves of the ten seconds until a first score.
    backoff = Backoff(WAITS_S, lambda: 0.999)
    attempts_s = list(itertools.accumulate(backoff.after("timeout", 0.0) for _ in range(200)))
    for back_s in range(1, 500, 7):
        assert min(attempt for attempt in attempts_s if attempt >= back_s) - back_s < 4


def test_the_waits_start_over_after_a_good_connection_only() -> None:
    backoff = Backoff(WAITS_S, lambda: 0.0)
    assert [backoff.after("ended", good_s) for good_s in (0, 0, 0, 2.5, 3.5, 0.5, 2.5)] == [1, 2, 3, 3, 1, 2, 1]


def test_a_wrong_password_is_tried_every_quarter_of_an_hour() -> None:
    backoff = Backoff(WAITS_S, lambda: 0.0)
    assert [backoff.after("unauthorized", 0.0) for _ in range(5)] == [900] * 5
    assert backoff.after("refused", 0.0) == 1


@pytest.mark.parametrize("reason", ["refused", "unauthorized", "hung", None])
def test_forty_cameras_are_not_asked_at_once(reason: None) -> None:
    waits = [Backoff(WAITS_S).after(reason, 0.0) for _ in range(40)]
    assert len({round(wait, 2) for wait in waits}) > 10
    assert min(waits) >= 1
    assert max(waits) <= 1.25 * 900
