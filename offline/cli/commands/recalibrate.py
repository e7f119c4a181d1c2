"""`hh-offline recalibrate`."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.cli.options import ProviderName
from offline.cli.options import (
    CACHE,
    MANIFEST,
    OVERWRITE,
    PATH,
    QUIET,
    SCORER_OF_BUNDLE,
    SEED,
    SKIP,
    STRIDE_OF_BUNDLE,
    UNIT,
)


@click.command()
@click.argument("bundle", type=PATH)
@MANIFEST
@click.option("--output", type=PATH, required=True, help="The new bundle's folder.")
@UNIT
@STRIDE_OF_BUNDLE
@CACHE
@click.option(
    "--provider",
    type=ProviderName(),
    help="What runs the graphs [default: what the bundle was fitted on].",
)
@click.option(
    "--feedback",
    type=PATH,
    metavar="STORE",
    help="Fit on what operators marked, too: <bundle>.site/features-….sqlite of hh-edge run and hh-edge feedback.",
)
@SCORER_OF_BUNDLE
@SEED
@SKIP
@OVERWRITE
@QUIET
def recalibrate(**options: Any) -> None:
    """A new scorer and locator for one site, on the same graphs.

    \b
    Example:
      hh-offline recalibrate bundle --manifest site.csv --output bundle-gate
    """
    from offline.console import Console
    from offline.recipes.recalibrate import RecalibrateOptions
    from offline.recipes.recalibrate import recalibrate as run_recalibrate

    quiet = options.pop("quiet")
    bundle, _ = run_recalibrate(RecalibrateOptions(**options), Console(quiet))
    tell(f"bundle {bundle.path}")
