"""When a camera is asked again, and how long an attempt may take."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.records import CameraReason
from edge_runtime.video.backoff import Backoff

WAITS_S = (1, 2, 3)
WHOLE_S = 5.0


def test_waits_stay_short_however_often_a_camera_was_down() -> None:
    backoff = Backoff(WAITS_S, lambda: 0.0)
    assert [backoff.after("refused", 0.0) for _ in range(100)] == [1, 2, *[3] * 98]


def test_a_camera_that_is_back_is_asked_within_four_seconds_whenever_that_is() -> None:
    # A fake clock: what the longest wait leaves of the ten seconds until a first score.
    backoff = Backoff(WAITS_S, lambda: 0.999)
    attempts_s = list(itertools.accumulate(backoff.after("timeout", 0.0) for _ in range(200)))
    for back_s in range(1, 500, 7):
        assert min(attempt for attempt in attempts_s if attempt >= back_s) - back_s < 4


@pytest.mark.parametrize(("known", "within_s"), [(True, 4.0), (False, 5.3)])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_camera_whose_attempts_hang_is_asked_soon_after_it_is_back(
    chance: float, known: bool, within_s: float
) -> None:
    """Whenever that is: what an attempt that hangs and the wait behind it leave of the ten seconds."""
    backoff = Backoff(WAITS_S, lambda: chance)
    if known:
        backoff.opened(0.8)
    seconds = backoff.after("ended", 60.0)
    longest: list[float] = []
    for _ in range(100):
        took_s = backoff.limit_s(WHOLE_S)
        wait_s = backoff.after("timeout", 0.0, took_s)
        assert wait_s > 0.2
        longest.append(took_s + wait_s)
        seconds += took_s + wait_s
    # Every sixth attempt has the whole limit, for a camera that is slower than it was.
    assert sum(one > within_s for one in longest) <= (len(longest) // 6 if known else 0)
    assert max(longest) <= WHOLE_S + 0.26


def test_an_attempt_has_the_time_that_the_camera_needs() -> None:
    backoff = Backoff(WAITS_S)
    assert backoff.limit_s(WHOLE_S) == WHOLE_S
    backoff.opened(0.4)
    assert backoff.limit_s(WHOLE_S) == 2.5
    assert backoff.limit_s(0.5) == 0.5
    backoff.opened(1.2)
    assert backoff.limit_s(WHOLE_S) == pytest.approx(3.6)
    backoff.opened(4.0)
    assert backoff.limit_s(WHOLE_S) == WHOLE_S
    backoff.opened(0.4)
    limits = []
    for _ in range(13):
        limits.append(backoff.limit_s(WHOLE_S))
        backoff.after("timeout", 0.0, limits[-1])
    assert limits == [*[2.5] * 6, WHOLE_S, *[2.5] * 5, WHOLE_S]


def test_the_waits_start_over_after_a_good_connection_only() -> None:
    backoff = Backoff(WAITS_S, lambda: 0.0)
    assert [backoff.after("ended", good_s) for good_s in (0, 0, 0, 2.5, 3.5, 0.5, 2.5)] == [1, 2, 3, 3, 1, 2, 1]


def test_a_password_that_was_never_right_is_tried_every_quarter_of_an_hour() -> None:
    now_s = 0.0
    backoff = Backoff(WAITS_S, lambda: 0.0, lambda: now_s)
    for _ in range(10):
        wait_s = backoff.after("unauthorized", 0.0)
        assert wait_s == 900
        now_s += wait_s
    assert backoff.after("refused", 0.0) == 1


def test_a_password_that_was_right_is_tried_three_times_more_at_once() -> None:
    now_s = 0.0
    backoff = Backoff(WAITS_S, lambda: 0.0, lambda: now_s)
    backoff.opened(0.4)
    waits_s = []
    for _ in range(7):
        waits_s.append(backoff.after("unauthorized", 0.0))
        now_s += waits_s[-1]
    # The fifth comes when the first is half an hour old, and then one each quarter of an hour.
    assert waits_s == [3, 4, 30, 1800 - 37, 900, 900, 900]


@given(
    st.lists(st.sampled_from(["opened", "unauthorized", "ended", "timeout", "hung"]), max_size=200),
    st.floats(0, 0.999),
    st.floats(0, 30),
)
def test_never_are_five_logins_refused_within_half_an_hour(told: list[str], chance: float, good_s: float) -> None:
    now_s = 0.0
    backoff = Backoff(WAITS_S, lambda: chance, lambda: now_s)
    refused_s: list[float] = []
    for one in told:
        reason: CameraReason = "ended"
        if one == "opened":
            backoff.opened(0.3)
            now_s += good_s
        elif one == "unauthorized":
            refused_s.append(now_s)
            reason = "unauthorized"
        now_s += backoff.after(reason, good_s if one == "opened" else 0.0)
    assert all(fifth - first >= 1800 - 1e-6 for first, fifth in zip(refused_s, refused_s[4:], strict=False))


@pytest.mark.parametrize("reason", ["refused", "unauthorized", "hung", None])
def test_forty_cameras_are_not_asked_at_once(reason: CameraReason | None) -> None:
    waits = [Backoff(WAITS_S).after(reason, 0.0) for _ in range(40)]
    assert len({round(wait, 2) for wait in waits}) > 10
    assert min(waits) >= 1
    assert max(waits) <= 1.25 * 900
