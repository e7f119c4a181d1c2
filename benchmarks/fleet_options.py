"""Numbers that the commands of the fleet take: none that a quotient has no answer for."""

from __future__ import annotations

import math
from typing import Any

import click


class Amount(click.FloatRange):
    """A finite number, within bounds; `nan` is in every range of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the number that a text says."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be reckoned with.", param, ctx)
        return number


_LARGEST = 1e9
#: None or more.
AMOUNT = Amount(0, _LARGEST)
#: More than none.
SOME = Amount(1e-6, _LARGEST)
#: A share of a whole.
SHARE = Amount(0.01, 1)
