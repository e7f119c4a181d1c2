"""`hh-offline report`."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import LOCATOR, MANIFEST, PATH, PROVIDER, QUIET, SKIP, VISUAL


@click.command()
@click.option("--bundle", type=PATH, required=True, help="The bundle to show; it runs on the videos.")
@MANIFEST
@click.option("--output", type=PATH, required=True, help="The HTML file to write.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="What to judge by; the validation split is shown in any case.",
)
@click.option("--ablation", type=PATH, help="Show this table too, as `ablate --json` wrote it.")
@click.option(
    "--cache",
    type=PATH,
    help="Where the bundle's build kept what it found, and what the bundle says of videos is [default: BUNDLE.cache "
    "beside it].",
)
@LOCATOR
@PROVIDER
@VISUAL
@SKIP
@QUIET
def report(**options: Any) -> None:
    """One HTML file about a bundle: its heads, its figures, and every video with scores, events and pictures.

    \b
    Example:
      hh-offline report --bundle bundle --manifest data.csv --output report.html --ablation ablation.json
    """
    from offline.console import Console
    from offline.recipes.report import ReportOptions, report_bundle

    quiet = options.pop("quiet")
    chosen = ReportOptions(**options)
    shown = report_bundle(chosen, Console(quiet))
    tell(f"report {chosen.output}")
    for sentence in shown.absent:
        tell(f"not in it: {sentence}")
