"""Pulls again and again, at moments that differ from edge to edge."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable

from edge_runtime.errors import Conflict, HeadHuntError, UsageError, one_line

log = logging.getLogger(__name__)

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# A round is earlier or later by up to this share of it: edges that were switched on together come apart.
_JITTER = 0.5
# The first one waits too, but not for long.
_FIRST = 0.1
_FIRST_MOST_S = 60.0
_LEAST_S, _MOST_S = 1.0, 30 * 86_400.0


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `10m`, `6h` or `1d`.

    Raises:
        ValueError: It is none, shorter than a second, or longer than 30 days.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not _LEAST_S <= seconds <= _MOST_S:
        raise ValueError(f"{text!r} is no duration of 1s to 30d; write 30s, 10m, 6h or 1d")
    return seconds


def rounds(
    once: Callable[[], object],
    every_s: float,
    *,
    wait: Callable[[float], object] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> None:
    """Do something for ever. What fails is told in one line, and done again in the next round.

    Args:
        once: Done each time.
        every_s: From one round to the next, on average, in seconds.
        wait: Waits so many seconds.
        chance: Gives numbers in [0, 1).

    Raises:
        UsageError: What is asked for can never be done; a Conflict is none of these.
    """
    wait(chance() * min(_FIRST * every_s, _FIRST_MOST_S))
    while True:
        try:
            once()
        except Conflict as error:
            # Somebody else is at it, an operator or a timer.
            log.warning("%s", one_line(error))
        except UsageError:
            raise
        except (HeadHuntError, OSError, MemoryError) as error:
            log.error("%s", one_line(error))
        wait(every_s * (1 + _JITTER * (2 * chance() - 1)))
