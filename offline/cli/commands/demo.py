"""`hh-offline demo`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH, QUIET, SEED


@click.command()
@click.argument("folder", type=PATH)
@click.option("--videos", type=click.IntRange(min=4), default=56, show_default=True, help="How many clips to make.")
@SEED
@QUIET
def demo(folder: Path, videos: int, seed: int, quiet: bool) -> None:
    """The whole story on the built-in model and generated scenes: data, build, evaluate, run.

    FOLDER gets the clips, the bundle, its report and the records of a run, and cameras.yaml with three cameras that
    play clips in a loop: `hh-edge run --config FOLDER/cameras.yaml` shows them on a page. What is there already from
    an earlier, interrupted demo is used again.

    \b
    Example:
      hh-offline demo demo/
    """
    from offline.console import Console
    from offline.recipes.demo import run_demo

    tell(run_demo(folder, videos=videos, seed=seed, console=Console(quiet)))
