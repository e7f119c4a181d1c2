"""Latency and lost segments against cameras, drawn from the table that `benchmarks.fleet` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_ROW = re.compile(
    r" *(?P<cameras>\d+)  (?P<name>real|simulated) +(?P<median>\d+|nan) ms +(?P<most>\d+|nan) +(?P<last>\d+|nan)"
    r" +(?P<lost>[\d.]+) % +(?P<busy>\d+) %"
)
_COLOURS = ("#12507a", "#3a86a8", "#8fc1d4")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        cameras: How many.
        name: `real` or `simulated`.
        latencies_ms: Median, 95 % and 99 %.
        lost: Percent of the segments.
        busy: Percent of the time.
    """

    cameras: int
    name: str
    latencies_ms: tuple[float, float, float]
    lost: float
    busy: float


def read_rows(lines: Iterable[str]) -> list[Row]:
    """The rows of a table, whatever else stands around it."""
    found = [one for line in lines if (one := _ROW.match(line)) is not None]
    return [
        Row(
            int(one["cameras"]),
            one["name"],
            (float(one["median"]), float(one["most"]), float(one["last"])),
            float(one["lost"]),
            float(one["busy"]),
        )
        for one in found
    ]


def draw(rows: Sequence[Row], output: Path) -> None:
    """Draw rows, in the format that the file's ending names; lines are simulated, points are real."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    late, lost = figure.subplots(1, 2)
    for place, (share, colour) in enumerate(zip(("half", "95 %", "99 %"), _COLOURS, strict=True)):
        _series(late, rows, [one.latencies_ms[place] for one in rows], colour, f"{share} of the segments within")
    late.set(yscale="log", ylabel="ms from a segment's end to its score")
    late.legend(frameon=False, fontsize=9)
    _series(lost, rows, [one.lost for one in rows], "#b4452c", "lost")
    _series(lost, rows, [one.busy for one in rows], "#777777", "busiest stage at work")
    lost.set(ylabel="percent", ylim=(-2, 102))
    lost.legend(frameon=False, fontsize=9)
    for axes in (late, lost):
        axes.set_xlabel("cameras; lines simulated, points real")
        axes.set_xlim(left=0)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=120, facecolor="white", metadata={"Date": None} if output.suffix == ".svg" else None)


def _series(axes: Axes, rows: Sequence[Row], values: Sequence[float], colour: str, label: str) -> None:
    for name, style in (("simulated", "-"), ("real", "o")):
        at = sorted((row.cameras, value) for row, value in zip(rows, values, strict=True) if row.name == name)
        axes.plot([x for x, _ in at], [y for _, y in at], style, color=colour, label=label, markersize=5)
        if at:
            label = "_hidden"


@click.command("picture")
@click.argument("table", type=click.File())
@click.argument("output", type=click.Path(path_type=Path))
def picture(table: Iterable[str], output: Path) -> None:
    """Draw what `check` or `simulate` printed: latency and lost segments against cameras.

    \b
    Example:
      python -m benchmarks.fleet simulate --service service.json --cameras 40 --cameras 80 | tee fleet.txt
      python -m benchmarks.fleet picture fleet.txt fleet.png
    """
    if not (rows := read_rows(table)):
        raise click.ClickException("there is no row of `check` or `simulate` in it")
    draw(rows, output)
