"""`hh-offline evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import (
    LOCATOR,
    MANIFEST_ANYWHERE,
    PATH,
    PROVIDER,
    QUIET,
    SKIP,
    STRIDE_OF_BUNDLE,
    VISUAL,
    Place,
    by_executor,
    with_execution,
)


@click.command()
@click.option("--bundle", type=PATH, help="Judge this bundle, by running it on the videos.")
@click.option("--scores", type=PATH, help="Judge stored scores (scores.json) of any system.")
@MANIFEST_ANYWHERE
@click.option("--split", type=click.Choice(["calibration", "validation", "test"]), default="test", show_default=True)
@LOCATOR
@STRIDE_OF_BUNDLE
@PROVIDER
@click.option("--threshold", type=float, help="With --scores: an operating point to report beside the best F1.")
@click.option("--save-scores", type=PATH, help="With --bundle: write the raw scores there as scores.json.")
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Baselines beside the result: trivial ones, and with --bundle the visual tokens alone.",
)
@VISUAL
@click.option(
    "--cache",
    type=Place(),
    help="Where what the bundle says of videos is kept, and what baselines are measured on, such as BUNDLE.cache.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.option("--each-video", is_flag=True, help="One line per video.")
@by_executor
@SKIP
@QUIET
def evaluate(as_json: bool, each_video: bool, quiet: bool, **options: Any) -> None:
    """Frame-level AUC, AP (trapezoid and step) and F1, events, delays and false alarms, with intervals.

    Beside them what to read them against, on the same frames: mean frame difference, brightness change and a
    logistic regression on both (the video files are decoded for that); what segments of this length allow at
    best; and, of a bundle, the visual tokens alone, fitted on the calibration split as the scorer is, with a
    sentence that says what the language model adds to them.

    \b
    Example:
      hh-offline evaluate --bundle bundle --manifest data.csv --split test
      hh-offline evaluate --scores scores.json --manifest data.csv --json
    """
    from offline.console import Console
    from offline.evaluation.table import evaluation_text
    from offline.recipes.evaluate import EvaluateOptions
    from offline.recipes.evaluate import evaluate as run_evaluate

    result = run_evaluate(EvaluateOptions(**with_execution(options)), Console(quiet))
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    else:
        tell(evaluation_text(result, each_video=each_video))
