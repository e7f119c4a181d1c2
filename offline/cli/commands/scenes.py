"""`hh-offline scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH, QUIET, SEED


@click.command()
@click.option("--output", type=PATH, required=True, help="Folder for the clips and data.csv.")
@click.option(
    "--videos", type=click.IntRange(min=6), default=56, show_default=True, help="How many, over all splits."
)
@click.option(
    "--seconds", type=(float, float), default=(8.0, 20.0), show_default=True, help="Shortest and longest video."
)
@click.option(
    "--event-seconds", type=(float, float), default=(3.0, 6.0), show_default=True, help="Shortest and longest event."
)
@click.option("--background", type=PATH, help="Real footage to put the actors into.")
@SEED
@QUIET
def scenes(output: Path, videos: int, background: Path | None, seed: int, quiet: bool, **lengths: Any) -> None:
    """Make labelled street scenes: MP4 clips in three splits, and their data.csv.

    \b
    Example:
      hh-offline scenes --output scenes/ --seed 1 --videos 100
      hh-offline scenes --output scenes/ --videos 200 --seconds 20 40 --event-seconds 4 16
    """
    from offline.console import Console
    from offline.scenes import SceneSet, generate

    with Console(quiet).bar("Making scenes", "clip") as progress:
        plan = SceneSet.of_videos(videos, **lengths)
        path = generate(output, seed=seed, scenes=plan, background=background, progress=progress)
    tell(str(path))
