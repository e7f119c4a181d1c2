"""`hh-offline hunt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.errors import UsageError
from offline.cli.options import CHANCE, MAX_LAYER, PATH, PENALTY, PROMPT, QUIET, SEED, TOP_K


@click.command()
@click.option("--features", type=PATH, required=True, help="What `extract` made: a folder or a .npz file.")
@click.option("--output", type=PATH, required=True, help="The hunt.json to write.")
@TOP_K
@PENALTY
@MAX_LAYER
@PROMPT
@CHANCE
@click.option(
    "--stability",
    "draws",
    type=click.IntRange(min=2),
    metavar="DRAWS",
    help="Hunt in so many halves of the videos (50, say), and tell how often each head comes up.",
)
@click.option(
    "--select",
    type=click.Choice(["rss", "stable"]),
    default="rss",
    show_default=True,
    help="Which heads become the experts: those of the highest RSS, or those that come up most often in halves of "
    "the videos (with --stability). The prompt is the one that suits them best. Chance is that of the same choice, "
    "which five folds repeat: --no-chance spares their time.",
)
@SEED
@QUIET
def hunt(
    features: Path,
    output: Path,
    chance: bool,
    draws: int | None,
    select: str,
    seed: int,
    quiet: bool,
    **selection: Any,
) -> None:
    """Find the expert heads: saliency of every head, stability over the prompts, the top K.

    It says whether the heads know anything of the labels, and whether the hunted ones beat random ones.

    \b
    Example:
      hh-offline hunt --features features/ --output hunt.json --max-layer 17
    """
    from offline.calibration.scorer import fit_scorer
    from offline.console import Console
    from offline.extraction.features import read_features
    from offline.hunting import chance as by_chance
    from offline.hunting import stability as over_draws
    from offline.hunting.against_random import Comparison
    from offline.hunting.hunt import Selection, by_rss, write_hunt

    if select == "stable" and (draws is None or selection["prompt"] is not None):
        raise UsageError(
            "--select stable needs --stability DRAWS, and chooses the prompt itself; "
            "give --stability 50, and leave --prompt out"
        )
    found, console, choice = read_features(features), Console(quiet), Selection(**selection)
    choose = over_draws.by_frequency(draws, seed) if select == "stable" and draws is not None else by_rss
    with console.bar("Hunting", "head") as progress:
        result = by_rss(found, choice, progress)
    # What is asked for beside the hunt takes longer, and must not lose it.
    if select == "rss":
        write_hunt(result, output)
    beside: dict[str, Any] = {}
    stable = None
    if draws is not None:
        with console.bar("Hunting in halves", "head") as progress:
            stable = over_draws.stability(found, choice, draws, seed, progress)
        beside[over_draws.KEY] = stable.to_dict()
        if select == "stable":
            result = stable.most_frequent(result)
            beside["select"] = select
        write_hunt(result, output, beside)
    if chance:
        trials = by_chance.Trials(comparison=Comparison(seed=seed))
        with console.bar("Hunted against chance", "head") as progress:
            known = by_chance.chance(found, result, choice, fit_scorer, trials, progress, choose)
        write_hunt(result, output, beside | {by_chance.KEY: known.to_dict()})
    for rank, expert in enumerate(result.experts, 1):
        often = "" if stable is None else f"  in {100 * stable.of(expert):3.0f} % of {stable.draws} halves"
        tell(f"{rank}. layer {expert.layer:3d}  head {expert.head:3d}  rss {expert.rss:.4f}{often}")
    tell(f"prompt {result.prompt}")
    if stable is not None:
        tell(
            f"two halves of the videos have {100 * stable.overlap:.0f} % of their top {stable.top_k} heads in "
            f"common; random heads would have {100 * stable.overlap_by_chance:.0f} %"
        )
    if chance:
        for sentence in known.sentences:
            click.echo(sentence, err=True)
