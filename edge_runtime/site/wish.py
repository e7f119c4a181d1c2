"""What is wanted of a camera's alarms, as far as it was said, and what holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edge_runtime.errors import UsageError
from edge_runtime.stream.alarm import LONGEST_S, Alarm

#: Budgets that can be kept: four weeks are remembered at most, in which one event in twenty days can be counted.
LEAST_BUDGET, MOST_BUDGET = 0.05, 10_000.0

#: Who set a threshold.
By = Literal["bundle", "config", "page", "budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmWish:
    """What somebody wants of a camera's alarms; None leaves it to who comes next.

    Attributes:
        threshold: A smoothed score above it is anomalous, 0 to 1.
        budget_per_day: So many events in 24 hours of watching, instead of a threshold.
        min_duration_s: As of `Alarm`.
        cooldown_s: As of `Alarm`.

    Raises:
        UsageError: A value is out of range, or there are a threshold and a budget.
    """

    threshold: float | None = None
    budget_per_day: float | None = None
    min_duration_s: float | None = None
    cooldown_s: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.budget_per_day is not None:
            raise UsageError("a threshold and a budget exclude each other; leave one of them out")
        for name, low, high, what in (
            ("threshold", 0.0, 1.0, "a threshold is a score"),
            ("budget_per_day", LEAST_BUDGET, MOST_BUDGET, "a budget is a number of events a day"),
            ("min_duration_s", 0.0, LONGEST_S, "the least duration of an event is a number of seconds"),
            ("cooldown_s", 0.0, LONGEST_S, "a cooldown is a number of seconds"),
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{what} from {low:g} to {high:g}, got {value:g}")

    def over(self, other: AlarmWish) -> AlarmWish:
        """This, and what it leaves open as `other` wants it."""
        decides = other if self.threshold is None and self.budget_per_day is None else self
        return AlarmWish(
            threshold=decides.threshold,
            budget_per_day=decides.budget_per_day,
            min_duration_s=other.min_duration_s if self.min_duration_s is None else self.min_duration_s,
            cooldown_s=other.cooldown_s if self.cooldown_s is None else self.cooldown_s,
        )

    def alarm(self, threshold: float) -> Alarm:
        """What it comes to, with a threshold where it has none."""
        chosen = threshold if self.threshold is None else self.threshold
        return Alarm(chosen, self.min_duration_s or 0.0, self.cooldown_s or 0.0)

    def __str__(self) -> str:
        said = (
            (self.threshold, "above {:g}"),
            (self.budget_per_day, "{:g} a day"),
            (self.min_duration_s, "at least {:g} s"),
            (self.cooldown_s, "cooldown {:g} s"),
        )
        return ", ".join(text.format(value) for value, text in said if value is not None) or "as the bundle says"


@dataclass(frozen=True, slots=True)
class AlarmNow:
    """What holds for a camera.

    Attributes:
        threshold: A smoothed score above it is anomalous.
        by: Who set the threshold; `bundle` too where a budget is wanted that is not in force yet.
        min_duration_s: As of `Alarm`.
        cooldown_s: As of `Alarm`.
        budget_per_day: The budget that is wanted, where one is.
        missing_segments: How many more segments that budget needs until it is in force; 0 where it is, or none is.
        on_page: Whether something of it was set on the page, which `Alarms.reset` takes back.
    """

    threshold: float
    by: By
    min_duration_s: float
    cooldown_s: float
    budget_per_day: float | None
    missing_segments: int
    on_page: bool

    @property
    def alarm(self) -> Alarm:
        """The same, as a stream takes it."""
        return Alarm(self.threshold, self.min_duration_s, self.cooldown_s)
