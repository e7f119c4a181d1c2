"""`hh-offline build`."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.cli.options import ProviderName
from edge_runtime.inference.precisions import PRECISIONS
from offline.cli.options import (
    CACHE,
    CHANCE,
    MANIFEST,
    MAX_LAYER,
    MODEL,
    OVERWRITE,
    PATH,
    PENALTY,
    PROMPT,
    PROMPTS,
    QUIET,
    SAMPLED,
    SCORER,
    SEED,
    SEGMENT_FRAMES,
    SKIP,
    STRIDE,
    TOP_K,
    UNIT,
    of_the_model,
    with_model,
    with_prompts,
)


@click.command()
@MODEL
@MANIFEST
@click.option("--output", type=PATH, required=True, help="The bundle's folder.")
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    default="fp32",
    show_default=True,
    help="Of the graphs. int8 leaves in bfloat16 what it does not bear; what a precision costs is measured and told.",
)
@click.option(
    "--provider",
    type=ProviderName(),
    help="What runs the graphs while scorer and locator are fitted [default: openvino for bf16 and int8, else cpu].",
)
@click.option("--force", is_flag=True, help="Take a precision that changes the validation AUC by more than -0.005.")
@PROMPTS
@PROMPT
@TOP_K
@PENALTY
@MAX_LAYER
@UNIT
@CACHE
@SEGMENT_FRAMES
@SAMPLED
@STRIDE
@of_the_model
@SCORER
@SEED
@SKIP
@OVERWRITE
@CHANCE
@click.option(
    "--depth-curve/--no-depth-curve", default=True, show_default=True, help="AUC against depth, in the report."
)
@click.option(
    "--deployment-noise/--no-deployment-noise",
    default=True,
    show_default=True,
    help="Measure what --precision does to every head, and count it in the hunt: a head that is rounding once it is "
    "deployed is not chosen. fp32 does nothing.",
)
@click.option(
    "--frames-curve/--no-frames-curve",
    default=False,
    show_default=True,
    help="AUC against sampled frames, in the report: features are extracted again with half of them, and fewer.",
)
@click.option(
    "--reuse-unchanged",
    type=float,
    metavar="LEVELS",
    help="Measure what `hh-edge run --reuse-unchanged LEVELS` (4, say) does to the scores and the AUC of the "
    "validation videos, for the report and the manifest. It does not switch it on.",
)
@QUIET
def build(**options: Any) -> None:
    """Everything from labelled videos to a bundle and a report.

    Killed and started again, it goes on where it was. The bundle appears whole or not at all.

    \b
    Example:
      hh-offline build --model OpenGVLab/InternVL3-1B-hf --manifest data.csv --output bundle --max-layer 17
    """
    from offline.console import Console
    from offline.recipes.build import BuildOptions
    from offline.recipes.build import build as run_build

    quiet = options.pop("quiet")
    built = run_build(BuildOptions(**with_model(with_prompts(options))), Console(quiet))
    validation = built.bundle.manifest.validation
    tell(f"bundle {built.bundle.path}")
    tell(f"report {built.bundle.path / 'report.html'}")
    if validation.auc is not None:
        tell(f"validation: AUC {validation.auc:.4f}, AP {validation.ap:.4f}, F1 {validation.f1:.4f}")
