"""Falling behind is told once, with what the machine can do, and so is catching up."""

from __future__ import annotations

import logging

import pytest

from edge_runtime.watch.pace import Pace


@pytest.mark.parametrize(("undecoded", "way_out"), [(False, "a longer --stride"), (True, "their smaller streams")])
def test_a_minute_of_drops_is_told_once_with_the_cameras_that_the_machine_feeds(
    caplog: pytest.LogCaptureFixture, undecoded: bool, way_out: str
) -> None:
    now = [0.0]
    pace = Pace(2.0, lambda: now[0])
    with caplog.at_level(logging.INFO):
        for _ in range(120):
            # Three segments a second are scored, twenty cameras give ten, the rest is dropped.
            pace.dropped(undecoded)
            pace.scored(3, 20)
            now[0] += 1.0
        assert len(caplog.messages) == 1
        assert "20 cameras, and this machine feeds 6.1 of them" in caplog.messages[0]
        assert way_out in caplog.messages[0]
        for _ in range(30):
            pace.scored(3, 6)
            now[0] += 1.0
        assert caplog.messages[1:] == ["decoding and scoring keep up again"]


def test_a_short_burst_of_drops_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    pace = Pace(2.0, lambda: now[0])
    with caplog.at_level(logging.INFO):
        for second in range(600):
            if second % 100 < 5:
                pace.dropped()
            pace.scored(3, 6)
            now[0] += 1.0
    assert caplog.messages == []
