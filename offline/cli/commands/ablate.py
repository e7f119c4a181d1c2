"""`hh-offline ablate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import (
    MANIFEST_ANYWHERE,
    MODEL,
    PATH,
    PENALTY,
    PROMPTS,
    QUIET,
    SAMPLED,
    SEED,
    SEGMENT_FRAMES,
    SKIP,
    TOP_K,
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
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@PROMPTS
@TOP_K
@PENALTY
@click.option(
    "--draws", type=click.IntRange(min=1), default=20, show_default=True, help="How often random heads are drawn."
)
@click.option(
    "--kinds-unseen", help="Kinds of anomaly, separated by commas: every row's AUC on them alone, in a column."
)
@UNIT
@click.option("--cache", type=Place(), help="Where features are kept for the next try, or a build's cache.")
@click.option("--json", "json_path", type=PATH, help="Write everything to this JSON file.")
@SEGMENT_FRAMES
@SAMPLED
@of_the_model
@by_executor
@SEED
@SKIP
@QUIET
def ablate(json_path: Path | None, kinds_unseen: str | None, quiet: bool, **options: Any) -> None:
    """The paper's ablation table, and more: each row changes one thing of the method.

    All heads of the last layer, random heads, one prompt, other scorers, no smoothing, fixed thresholds; single
    metrics, no stability penalty, the best layer, the visual tokens alone, the model's own answer in words,
    trivial baselines, and what the segments allow at best. Rows are fitted on the calibration split, calibrated
    on the validation split and judged on --split. A sentence below says what the language model adds to the
    visual tokens.

    \b
    Example:
      hh-offline ablate --model reference --manifest data.csv --cache features/ --json ablation.json
    """
    from edge_runtime.files import write_atomic
    from offline.ablation.ablate import AblateOptions
    from offline.ablation.ablate import ablate as run_ablate
    from offline.console import Console

    unseen = () if kinds_unseen is None else tuple(kind.strip() for kind in kinds_unseen.split(","))
    result = run_ablate(
        AblateOptions(unseen=unseen, **with_execution(with_model(with_prompts(options)))), Console(quiet)
    )
    if json_path is not None:
        text = json.dumps(result.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomic(json_path, (text + "\n").encode())
    tell(result.to_text())
