"""Times that are none are refused; milliseconds that are pushed as seconds are noticed, slow cameras are not."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segmenting import SPEC, feed

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.segmenter import segmenter_for
from edge_runtime.stream.timestamps import LATEST_S, Timestamps, check_seconds


@given(st.floats(-LATEST_S, LATEST_S) | st.integers(-(10**11), 10**11))
def test_a_time_is_returned_as_it_is(seconds):
    assert check_seconds(seconds) == seconds
    assert type(check_seconds(seconds)) is float


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "finite number of seconds, got nan"),
        (None, "finite number of seconds, got None"),
        ("12.5", "finite number of seconds, got '12.5'"),
        (True, "finite number of seconds, got True"),
        (np.False_, "finite number of seconds"),
        pytest.param(10**5000, "seconds, got an integer of 16610 bits", id="huge"),
        (["x" * 1000], r"got \['x+\.\.\.$"),
        (1e300, r"within 1e\+11 s of zero, got 1e\+300 s; push seconds \(not milliseconds or nanoseconds\)"),
        (-1.76e12, "within"),
    ],
)
def test_what_is_no_time_is_refused_in_one_short_line(value, words):
    with pytest.raises(InvalidFrame, match=words) as refused:
        check_seconds(value)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


def test_the_latest_time_still_tells_the_shortest_segments_apart():
    shortest_s = 1 / 1000
    times = [LATEST_S - i * shortest_s for i in range(100)]
    assert times == sorted(set(times), reverse=True)


def warned(caplog, steps, took_s, duration_s=1.6):
    """How often frames that are told to come after `steps`, and really come after `took_s` each, cause a warning."""
    caplog.clear()
    now_s = [0.0]
    timestamps = Timestamps(duration_s, lambda: now_s[0])
    previous = None
    seconds = 50.0
    for step in [0, *steps]:
        seconds += step
        previous = timestamps.check(seconds, previous)
        now_s[0] += took_s
    return sum(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("fps", [1, 5, 12.5, 15, 24, 25, 29.97, 30, 50, 60, 100])
def test_a_live_camera_in_milliseconds_is_noticed_once(caplog, fps):
    assert warned(caplog, [1000 / fps] * 200, 1 / fps) == 1
    assert "push seconds, not milliseconds: divide by 1000" in caplog.text


def test_milliseconds_are_noticed_after_the_burst_of_a_connection_that_opens(caplog):
    assert warned(caplog, [0.5] * 30 + [40.0] * 20, 0.04) == 1


def test_milliseconds_of_a_file_are_noticed(caplog):
    assert warned(caplog, [1000 / 30] * 20, 0.0001) == 1


def test_the_warning_holds_the_values(caplog):
    warned(caplog, [40.0] * 20, 0.04)
    assert (
        "the last 16 frames lie 40.0 s apart, longer than a segment of 1.6 s, but all came within 0.6 s"
        in caplog.text
    )


@pytest.mark.parametrize("step_s", [0.033, 1, 2, 5.5, 10, 30, 60, 300, 900, 3600])
def test_a_slow_live_camera_is_fine(caplog, step_s):
    assert warned(caplog, [step_s] * 200, step_s) == 0


def test_a_slow_live_camera_whose_frames_come_late_and_bunched_is_fine(caplog):
    # Ten minutes of a frame in 10 s are held up by the network and come in a minute.
    assert warned(caplog, [10.0] * 60, 1.01) == 0


@pytest.mark.parametrize("fps", [1, 5, 25, 30, 120])
def test_seconds_are_fine_however_fast_they_come(caplog, fps):
    assert warned(caplog, [1 / fps] * 200, 1e-5) == 0


def test_long_segments_may_hold_frames_that_are_far_apart(caplog):
    assert warned(caplog, [33.0] * 200, 0.033, duration_s=60) == 0


def test_a_few_long_pauses_are_fine(caplog):
    assert warned(caplog, ([33.0] * 15 + [0.04]) * 20, 0.001) == 0


def test_days_between_frames_are_no_milliseconds(caplog):
    assert warned(caplog, [86_400.0] * 200, 0.001) == 0


@pytest.mark.parametrize("clock", ["frames", "time"])
@pytest.mark.parametrize(("unit", "warnings"), [(1, 0), (1000, 1)])
def test_both_segmenters_look_at_them(caplog, clock, unit, warnings):
    feed(segmenter_for(SPEC, clock), [i / 30 * unit for i in range(100)])
    assert len(caplog.records) == warnings
