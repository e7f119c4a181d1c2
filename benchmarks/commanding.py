"""What the commands have in common: their options, and how they hand over what they measured."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring import machine, versions
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import PROVIDERS

Figures = dict[str, Any]

PATH = click.Path(path_type=Path)
BUNDLE = click.option(
    "--bundle",
    "path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="[default: one of the built-in model is built into --work]",
)
# How the campaign hands the folder down, so that it stands in no command line.
WORK_VARIABLE = "HEADHUNT_BENCHMARKS"
WORK = click.option(
    "--work",
    type=PATH,
    envvar=WORK_VARIABLE,
    default=Path(tempfile.gettempdir()) / "headhunt-benchmarks",
    help="Where checkpoints, graphs and clips lie, to be used again [default: in the folder for temporary files].",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, with machine and versions.")
THREADS = click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
MODEL = click.option(
    "--model",
    default="internvl3-1b",
    show_default=True,
    help="A checkpoint's folder, `reference`, or a geometry of `full-size`, which is then written into --work.",
)
FRAMES = click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True, help="Sampled frames.")
DEPTH = click.option("--depth", type=click.IntRange(min=1), help="Layers that run [default: all].")
PRECISION = click.option("--precision", type=click.Choice(list(PRECISIONS)), default="bf16", show_default=True)
PROVIDER = click.option("--provider", type=click.Choice(list(PROVIDERS)), help="[default: what a build would take]")


def rounds(default: int) -> Callable[[Any], Any]:
    """`--rounds`, with a command's own default."""
    return click.option("--rounds", type=click.IntRange(min=1), default=default, show_default=True)


def hand_over(figures: Figures, text: str, as_json: bool) -> None:
    """Print what was measured, for a person or for the campaign."""
    if as_json:
        click.echo(json.dumps({"machine": machine(), "versions": versions(), "figures": figures}))
    else:
        click.echo(text)


def say(text: str) -> None:
    """Tell of a step on stderr; stdout belongs to the result."""
    click.echo(text, err=True)
