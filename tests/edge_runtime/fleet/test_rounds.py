"""Rounds: edges come apart, and one that fails goes on."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from edge_runtime.errors import Conflict, SourceUnavailable, UsageError, one_line
from edge_runtime.fleet.rounds import parse_duration, rounds


class Enough(Exception):
    """Ends what never ends."""


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("1.5h", 5400), ("1d", 86_400)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "0.5s", "31d", "1e3s", "10 m", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s"):
        parse_duration(text)


def test_edges_that_start_together_come_one_by_one_and_failures_do_not_hurry_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def arrivals(seed: int) -> list[float]:
        now, found, chance = 0.0, [], random.Random(seed)

        def wait(seconds: float) -> None:
            nonlocal now
            now += seconds
            if now > 7 * 3600:
                raise Enough

        def once() -> None:
            found.append(now)
            raise SourceUnavailable("the bucket is gone")

        with pytest.raises(Enough):
            rounds(once, 3600, wait=wait, chance=chance.random)
        return found

    edges = [arrivals(seed) for seed in range(1000)]
    assert all(0 <= times[0] <= 60 for times in edges)
    assert all(1800 <= later - before <= 5400 for times in edges for before, later in pairwise(times))
    # In the fifth hour they are spread over it: no minute has more than three times its share.
    minutes = [int(time // 60) for times in edges for time in times if 4 * 3600 <= time < 5 * 3600]
    assert max(minutes.count(minute) for minute in set(minutes)) < 3 * len(minutes) / 60
    assert "the bucket is gone" in caplog.text


@pytest.mark.parametrize(
    "trouble", [Conflict("another hh-edge pull is at work"), MemoryError(), OSError("no descriptors are left")]
)
def test_trouble_that_passes_does_not_end_it(trouble: Exception, caplog: pytest.LogCaptureFixture) -> None:
    done = 0

    def once() -> None:
        nonlocal done
        done += 1
        raise Enough if done == 3 else trouble

    with pytest.raises(Enough):
        rounds(once, 10, wait=lambda _: None)
    assert [record.message for record in caplog.records] == [one_line(trouble)] * 2


def test_what_can_never_be_done_ends_it() -> None:
    def once() -> None:
        raise UsageError("no key")

    with pytest.raises(UsageError):
        rounds(once, 10, wait=lambda _: None)
