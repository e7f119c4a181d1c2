"""`hh-offline extract`."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import (
    MANIFEST_ANYWHERE,
    MODEL,
    PROMPTS,
    QUIET,
    SAMPLED,
    SEGMENT_FRAMES,
    SKIP,
    UNIT,
    Place,
    by_executor,
    of_the_model,
    with_execution,
    with_model,
    with_prompts,
)


@click.command()
@MODEL
@MANIFEST_ANYWHERE
@click.option("--output", type=Place(), required=True, help="Folder of the feature store, or a .npz file.")
@PROMPTS
@UNIT
@click.option("--validation", is_flag=True, help="Extract the validation split too.")
@SEGMENT_FRAMES
@SAMPLED
@of_the_model
@by_executor
@SKIP
@QUIET
def extract(**options: Any) -> None:
    """Features of every head under every prompt. Killed and started again, it goes on where it was.

    \b
    Example:
      hh-offline extract --model reference --manifest data.csv --output features/
    """
    from offline.console import Console
    from offline.recipes.extract import ExtractOptions, extract_features

    quiet = options.pop("quiet")
    tell(extract_features(ExtractOptions(**with_execution(with_model(with_prompts(options)))), Console(quiet)))
