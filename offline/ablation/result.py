"""What an ablation found: rows of figures, and how they are shown.

What is undefined or could not be computed is None, with the reason; nothing stands in for it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.heads import HeadRef
from offline.ablation.rows import RowGroup
from offline.evaluation.bootstrap import Interval
from offline.evaluation.table import UNDEFINED, aligned
from offline.report.content import Cell, Table

_MISSING = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its interval over videos (low, high), or its standard deviation over draws (spread)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high, self.spread):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self} is no figure; what is undefined is None")

    @classmethod
    def of(cls, value: float | None, interval: Interval | None) -> Figure:
        """Take a figure and its interval, where both are defined."""
        if value is None or interval is None:
            return cls(value)
        return cls(value, interval.low, interval.high)

    def text(self, sign: str = "") -> str:
        """Write `0.912 [0.850, 0.951]`, or `0.740 ± 0.052`; `sign` is "+" to write that of a positive value, too."""
        if self.value is None:
            return UNDEFINED
        shown = f"{self.value:{sign}.3f}"
        if self.spread is not None:
            return f"{shown} ± {self.spread:.3f}"
        return shown if self.low is None else f"{shown} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several that a row was made of; auc is on the judged split, where that was looked at."""

    name: str
    validation_auc: float | None
    auc: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; frame figures are of smoothed scores.

    Attributes:
        name: Of the row.
        group: The part of the table that it belongs to.
        how: What it does, in a sentence.
        reason: Why there are no figures.
        auc: Area under the ROC curve.
        ap: Area under the precision-recall curve, by trapezoids.
        f1: At the row's own threshold.
        difference: AUC minus that of the full method.
        unseen: AUC on the kinds of anomaly that are judged apart.
        raw_auc: AUC without smoothing.
        classes: AUC of each kind of anomaly against the normal videos.
        sigma: The locator's; None for a mean.
        threshold: The locator's; None for a mean.
        heads: Those that its scorer reads, in that order.
        chosen: The candidate that was best on the validation videos.
        candidates: What the row was made of, where there are several.
    """

    name: str
    group: RowGroup
    how: str
    reason: str | None = None
    auc: Figure | None = None
    ap: Figure | None = None
    f1: Figure | None = None
    difference: Figure | None = None
    unseen: Figure | None = None
    raw_auc: float | None = None
    classes: Mapping[str, float | None] = field(default_factory=dict)
    sigma: float | None = None
    threshold: float | None = None
    heads: tuple[HeadRef, ...] = ()
    chosen: str | None = None
    candidates: tuple[Candidate, ...] = ()

    def __post_init__(self) -> None:
        if (self.auc is None) != (self.ap is None) or (self.auc is None) != (self.f1 is None):
            raise ValueError(f"row {self.name!r} has some of its figures only")
        if self.auc is not None and self.reason is not None:
            raise ValueError(f"row {self.name!r} has figures and a reason for having none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """All rows, and what was run.

    Attributes:
        run: What was run, plain values for JSON.
        unseen: Kinds of anomaly that are judged apart.
        rows: The full method first.
        notes: To be read first.
    """

    run: Mapping[str, Any]
    unseen: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Row:
        """The row of that name. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON takes it: no NaN, None where undefined."""
        rows = [asdict(row) | {"candidates": [asdict(one) for one in row.candidates]} for row in self.rows]
        return {**self.run, "unseen_kinds": list(self.unseen), "notes": list(self.notes), "rows": rows}

    def table(self) -> Table:
        """Lay the rows out as a report shows them; the last column says what a row is, or why it has no figures."""
        columns = ["method", "AUC", "AUC minus full", "AP (trapezoid)", "F1"]
        if self.unseen:
            columns.append(f"AUC on {', '.join(self.unseen)}")
        return Table(
            (*columns, "what it is"),
            tuple(
                (*self._cells(row), row.how if row.reason is None else f"Not computed: {row.reason}.")
                for row in self.rows
            ),
        )

    def to_text(self) -> str:
        """Lay out a table for the terminal, what each row is, and the notes."""
        header = [*self.table().columns[:-1], "sigma", "threshold"]
        cells = []
        for row in self.rows:
            shown = [_MISSING if cell is None else str(cell) for cell in self._cells(row)]
            locator = [row.sigma, row.threshold]
            cells.append([*shown, *(_MISSING if value is None else f"{value:.2f}" for value in locator)])
        wide = max(len(row.name) for row in self.rows) + 2
        lines = [*aligned([header, *cells]), ""]
        for row in self.rows:
            text = row.how if row.reason is None else f"not computed: {row.reason}"
            if row.chosen is not None:
                text += f" (here {row.chosen})"
            lines += textwrap.wrap(text, 110, initial_indent=row.name.ljust(wide), subsequent_indent=" " * wide)
        return "\n".join([*lines, "", *self.notes])

    def _cells(self, row: Row) -> tuple[Cell, ...]:
        figures = [row.auc, row.ap, row.f1, *([row.unseen] if self.unseen else [])]
        auc, *rest = (None if figure is None else figure.text() for figure in figures)
        return (row.name, auc, None if row.difference is None else row.difference.text("+"), *rest)
