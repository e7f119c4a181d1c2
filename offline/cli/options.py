"""Options that several commands have, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.inference.providers import provider_choices

PATH = click.Path(path_type=Path)
MODEL = click.option(
    "--model",
    required=True,
    help="A Hugging Face id, a folder in that format, or `reference`, the small model that is built in.",
)
MANIFEST = click.option("--manifest", type=PATH, required=True, help="data.csv: path,label,split,events,frames.")
PROMPTS = click.option(
    "--prompts", type=PATH, help="JSON object of names and texts, instead of the five that are built in."
)
SEED = click.option("--seed", type=int, default=0, show_default=True)
DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="For the model."
)
SKIP = click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Report videos that cannot be read and leave them out, instead of failing.",
)
UNIT = click.option(
    "--calibration-unit",
    "unit",
    type=click.Choice(["auto", "video", "segment"]),
    default="auto",
    show_default=True,
    help="What one calibration sample is; auto: a segment where events have times, else a whole video.",
)
QUIET = click.option("--quiet", is_flag=True, help="No progress on stderr.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
CACHE = click.option(
    "--cache",
    type=PATH,
    help="Where features are kept for the next try [default: OUTPUT.cache beside the bundle].",
)
TOP_K = click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many experts.")
PENALTY = click.option(
    "--penalty", type=float, default=0.5, show_default=True, help="Lambda: how much instability over prompts costs."
)
MAX_LAYER = click.option(
    "--max-layer", type=click.IntRange(min=0), help="Hunt in layers 0 to N only: deeper layers then never run."
)
PROMPT = click.option("--prompt", help="Bake in the prompt of this name, instead of the best one.")
LOCATOR = click.option("--locator", type=click.Choice(["full", "low_latency"]), default="full", show_default=True)
PROVIDER = click.option(
    "--provider",
    default="auto",
    show_default=True,
    type=click.Choice(provider_choices()),
    help="What runs the graphs.",
)


def with_prompts(options: dict[str, Any]) -> dict[str, Any]:
    """Read the --prompts file, where one is given."""
    from models.prompts import read_prompts

    path = options.pop("prompts", None)
    return options if path is None else options | {"prompts": read_prompts(path)}
