"""`hh-offline hunt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import MAX_LAYER, PATH, PENALTY, PROMPT, QUIET, TOP_K


@click.command()
@click.option("--features", type=PATH, required=True, help="What `extract` made: a folder or a .npz file.")
@click.option("--output", type=PATH, required=True, help="The hunt.json to write.")
@TOP_K
@PENALTY
@MAX_LAYER
@PROMPT
@QUIET
def hunt(features: Path, output: Path, quiet: bool, **selection: Any) -> None:
    """Find the expert heads: saliency of every head, stability over the prompts, the top K.

    \b
    Example:
      hh-offline hunt --features features/ --output hunt.json --max-layer 17
    """
    from offline.console import Console
    from offline.extraction.features import read_features
    from offline.hunting.hunt import Selection, write_hunt
    from offline.hunting.hunt import hunt as run_hunt

    found = read_features(features)
    with Console(quiet).bar("Hunting", "head") as progress:
        result = run_hunt(
            found.features,
            found.labels,
            found.prompts,
            Selection(**selection),
            videos=found.videos,
            progress=progress,
        )
    write_hunt(result, output)
    for rank, expert in enumerate(result.experts, 1):
        tell(f"{rank}. layer {expert.layer:3d}  head {expert.head:3d}  rss {expert.rss:.4f}")
    tell(f"prompt {result.prompt}")
