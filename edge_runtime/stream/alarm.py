"""When consecutive anomalous segments are told as an event: threshold, least duration, cooldown."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The longest duration or cooldown that makes sense, in seconds: a day.
LONGEST_S = 86_400.0
#: Three segments of 3.2 s last as long as 9.6 s, also where their times were rounded to milliseconds.
ROUNDING_S = 0.005


@dataclass(frozen=True, slots=True)
class Alarm:
    """What makes an event of anomalous segments.

    Attributes:
        threshold: A smoothed score above it is anomalous, 0 to 1.
        min_duration_s: An event is told once it has lasted so long, in seconds.
        cooldown_s: Anomalous segments that begin within so many seconds after an event's end are not told.

    Raises:
        ValueError: One of them is out of range.
    """

    threshold: float
    min_duration_s: float = 0.0
    cooldown_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"a threshold lies in 0..1, got {self.threshold}")
        for name in ("min_duration_s", "cooldown_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST_S):
                raise ValueError(f"{name} lies in 0..{LONGEST_S:g} seconds, got {seconds}")

    def lasts(self, start_s: float, end_s: float) -> bool:
        """Whether anomalous segments from one time to another are long enough to be told."""
        return self.min_duration_s == 0 or end_s - start_s >= self.min_duration_s - ROUNDING_S

    def quiet_again(self, ended_s: float, start_s: float) -> bool:
        """Whether what begins at `start_s` lies behind the cooldown of an event that ended at `ended_s`."""
        return self.cooldown_s == 0 or start_s - ended_s >= self.cooldown_s - ROUNDING_S

    def in_segments(self, step_s: float) -> tuple[int, int]:
        """Duration (1 or more) and cooldown in whole segments that follow each other every `step_s` seconds.

        Also where segments overlap: the bounds of a `Segment` are those of its step, and those of steps meet.
        """
        shortest = math.ceil((self.min_duration_s - ROUNDING_S) / step_s)
        cooldown = math.ceil((self.cooldown_s - ROUNDING_S) / step_s)
        return max(1, shortest), max(0, cooldown)
