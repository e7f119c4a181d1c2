"""What a page is made of: headline figures, sections, figures, tables, videos."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from offline.report.content import Cell, Table

ONE_CLASS = "all scored frames are of one class"
# What was not used to choose anything comes first.
SPLIT_ORDER: dict[str, int] = {"test": 0, "validation": 1, "calibration": 2}


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure: what, how much, and what to know about it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with what one sees in it and what would be good."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Titled:
    """A table with its heading and its explanation."""

    title: str
    table: Table
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: Its name in an address.
        title: Its heading.
        lead: The sentences below it.
        figures: Charts.
        tables: Tables.
        remarks: Sentences on what is not there, and why.
        commands: Command lines to copy.
        groups: Videos.
        points: A list of sentences.
    """

    anchor: str
    title: str
    lead: str
    figures: tuple[Drawn, ...] = ()
    tables: tuple[Titled, ...] = ()
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One video: its score curve, its peaks, and how it came out (`good`: as it should)."""

    name: str
    outcome: str
    good: bool | None
    facts: str
    svg: Markup
    thumbnails: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Videos that one click shows."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The videos of one split."""

    title: str
    tally: str
    open: tuple[Card, ...]
    folds: tuple[Fold, ...]


def not_none(value: Cell) -> str:
    """Write a cell as text: floats with three digits, None as "not defined"."""
    if value is None:
        return "not defined"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no figure to report; what is not defined is None")
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 1000 else not_none(round(value))
