"""A trouble that repeats is told when it begins, and its sum once a minute."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger("edge_runtime.test_repeats")


def more(count: int, seconds: int) -> str:
    return f"{count} more in {seconds} s"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@given(steps=st.lists(st.floats(0, 200), max_size=60))
def test_every_one_is_counted_and_no_two_lines_lie_within_a_minute(steps: list[float]) -> None:
    now, said = 1000.0, []
    handler = Lines()
    log.addHandler(handler)
    try:
        trouble = RepeatedTrouble(log, logging.WARNING, more, monotonic=lambda: now)
        for step in steps:
            now += step
            trouble.happened("trouble")
            said += [now] * (len(handler.lines) - len(said))
        trouble.sum_up(at_once=True)
    finally:
        log.removeHandler(handler)
    told = sum(1 if line == "trouble" else int(line.split()[0]) for line in handler.lines)
    assert told == len(steps)
    assert all(after - before >= 60 for before, after in itertools.pairwise(said))


def test_the_sum_comes_without_another_one(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    trouble = RepeatedTrouble(log, logging.ERROR, more, monotonic=lambda: now)
    for _ in range(3):
        trouble.happened("it broke")
    trouble.sum_up()
    assert caplog.messages == ["it broke"]
    now = 61.0
    trouble.sum_up()
    trouble.sum_up()
    assert caplog.messages == ["it broke", "2 more in 61 s"]
