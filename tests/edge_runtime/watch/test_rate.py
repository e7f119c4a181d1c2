"""A rate is what came over the time it took, and 0 as soon as nothing comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.watch.rate import FrameRate


@given(st.floats(0.5, 60.0), st.floats(0.05, 1.0))
def test_a_camera_with_a_rate_of_its_own_is_told_it_every_so_often(fps: float, look_s: float) -> None:
    rate, told = FrameRate(10.0), []
    for look in range(round(100 / look_s)):
        now_s = look * look_s
        if (found := rate.look(int(now_s * fps), True, now_s)) is not None:
            told.append(found)
    # A frame more or less at either end.
    assert all(found == pytest.approx(fps, abs=2 / 10) for found in told)
    assert 8 <= len(told) <= 10


def test_a_camera_that_gives_nothing_is_told_once_and_counted_anew_when_it_returns() -> None:
    rate = FrameRate(10.0)
    assert rate.look(0, False, 0.0) == 0.0, "before its first frame"
    assert rate.look(0, False, 50.0) is None
    assert rate.look(1, True, 60.0) is None
    assert rate.look(101, True, 70.0) == 10.0
    assert rate.look(130, True, 73.0) is None
    assert rate.look(130, False, 74.0) == 0.0, "at once"
    assert rate.look(131, True, 100.0) is None
    assert rate.look(331, True, 110.0) == 20.0, "the outage does not count"
