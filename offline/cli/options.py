"""Options that several commands have, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.options import ProviderName
from offline.calibration.scorer import SCORERS

PATH = click.Path(path_type=Path)
MODEL = click.option(
    "--model",
    required=True,
    help="A Hugging Face id, a folder in that format, or one of the small models that are built in: `reference`, "
    "`reference-large`.",
)
MANIFEST = click.option("--manifest", type=PATH, required=True, help="data.csv: path,label,split,events,frames.")
PROMPTS = click.option(
    "--prompts", type=PATH, help="JSON object of names and texts, instead of the five that are built in."
)
SEED = click.option("--seed", type=int, default=0, show_default=True)
DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="For the model."
)
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="What the model computes in; auto: the checkpoint's own where the device has it, else float32.",
)
MEMORY = click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="Memory that the model may take [default: most of what is free].",
)
STREAM = click.option(
    "--stream-layers/--no-stream-layers",
    default=None,
    help="Read weights layer by layer, many units together [default: where they do not fit into the memory].",
)
SYSTEM = click.option(
    "--system-message",
    metavar="TEXT|none|model",
    help="What stands before the frames; `model`: as in the makers' own code [default: what the template does].",
)
SEGMENT_FRAMES = click.option(
    "--segment-frames", type=click.IntRange(1, 100_000), default=48, show_default=True, help="Frames of a segment."
)
SAMPLED = click.option(
    "--sampled",
    type=click.IntRange(1, 100_000),
    default=16,
    show_default=True,
    help="How many of a segment's frames the model sees: fewer are faster.",
)
_STRIDE = (
    "Begin a segment every so many frames, a divisor of a segment's frames; a frame's score is the mean of the "
    "segments that cover it, and the locator counts strides"
)
STRIDE = click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="FRAMES",
    help=f"{_STRIDE} [default: segments do not overlap].",
)
STRIDE_OF_BUNDLE = click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="FRAMES",
    help=f"{_STRIDE} [default: the bundle's own].",
)
SKIP = click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Report videos that cannot be read and leave them out, instead of failing.",
)
VISUAL = click.option(
    "--visual/--no-visual",
    default=True,
    show_default=True,
    help="Among the baselines, a scorer on the visual tokens alone: what the language model adds to them. The "
    "bundle's vision graph runs over the calibration split for that, and once more over what is judged.",
)
UNIT = click.option(
    "--calibration-unit",
    "unit",
    type=click.Choice(["auto", "video", "segment"]),
    default="auto",
    show_default=True,
    help="What one calibration sample is; auto: a segment where events have times, else a whole video.",
)
EXECUTOR = click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who works on the videos: this process, or workers on a Ray cluster, each with the model (extra [ray]).",
)
RAY_ADDRESS = click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="With --executor ray: the cluster's head, as `ray start --head` prints it; `auto` for the one on this "
    "machine [default: one of this command's own].",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --executor ray: how many models at a time [default: one a GPU; without GPUs, one a machine].",
)
QUIET = click.option("--quiet", is_flag=True, help="No progress on stderr.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
CACHE = click.option(
    "--cache",
    type=PATH,
    help="Where features are kept for the next try [default: OUTPUT.cache beside the bundle].",
)
_SCORER = (
    "How the scorer is fitted: logistic regression on all features side by side; or log-odds (Gaussians) of "
    "each head by itself, weighed out of fold. Equally large and fast."
)
SCORER = click.option("--scorer", type=click.Choice(SCORERS), default="logistic", show_default=True, help=_SCORER)
SCORER_OF_BUNDLE = click.option("--scorer", type=click.Choice(SCORERS), help=f"{_SCORER} [default: the bundle's own]")
TOP_K = click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many experts.")
PENALTY = click.option(
    "--penalty", type=float, default=0.5, show_default=True, help="Lambda: how much instability over prompts costs."
)
MAX_LAYER = click.option(
    "--max-layer", type=click.IntRange(min=0), help="Hunt in layers 0 to N only: deeper layers then never run."
)
PROMPT = click.option("--prompt", help="Bake in the prompt of this name, instead of the best one.")
CHANCE = click.option(
    "--chance/--no-chance",
    default=True,
    show_default=True,
    help="Say whether the heads know anything (permuted labels) and whether the hunted ones beat random ones. It "
    "costs about five more hunts.",
)
LOCATOR = click.option("--locator", type=click.Choice(["full", "low_latency"]), default="full", show_default=True)
PROVIDER = click.option(
    "--provider",
    default="auto",
    show_default=True,
    type=ProviderName(),
    help="What runs the graphs.",
)


def of_the_model(command: Any) -> Any:
    """Give a command the options of ModelUse; `with_model` puts them together."""
    for option in (SYSTEM, STREAM, MEMORY, DTYPE, DEVICE):
        command = option(command)
    return command


class Place(click.Path):
    """A local path, or a URL that fsspec reaches."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the path that a value names."""
        from offline.data.places import place

        return place(value) if isinstance(value, str) and "://" in value else super().convert(value, param, ctx)


MANIFEST_ANYWHERE = click.option(
    "--manifest", type=Place(), required=True, help="data.csv: path,label,split,events,frames; also s3://…"
)
VIDEO_CACHE = click.option(
    "--video-cache",
    type=PATH,
    help="Folder for videos of s3:// and the like while they are read [default: in the user's cache].",
)
VIDEO_CACHE_GIB = click.option(
    "--video-cache-gib",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="What that folder may hold; the videos that were not used for longest make room.",
)


def by_executor(command: Any) -> Any:
    """Give a command the options of Execution and VideoCache; `with_execution` puts them together."""
    for option in (VIDEO_CACHE_GIB, VIDEO_CACHE, WORKERS, RAY_ADDRESS, EXECUTOR):
        command = option(command)
    return command


def with_execution(options: dict[str, Any]) -> dict[str, Any]:
    """Put who does the work into one value, `execution`, and where remote videos are kept into another."""
    from offline.data.video_cache import GIB, VideoCache
    from offline.extraction.executors import Execution

    names = ("executor", "ray_address", "workers")
    execution = Execution(**{name: options[name] for name in names})
    folder, limit = options.pop("video_cache"), options.pop("video_cache_gib")
    cache = VideoCache(None if folder is None else folder.absolute(), int(limit * GIB))
    rest = {name: value for name, value in options.items() if name not in names}
    return rest | {"execution": execution, "video_cache": cache}


def with_model(options: dict[str, Any]) -> dict[str, Any]:
    """Put how the model is run into one value, `use`."""
    from offline.extraction.model import ModelUse

    names = ("device", "dtype", "memory", "stream_layers", "system_message")
    use = ModelUse(**{name: options[name] for name in names})
    return {name: value for name, value in options.items() if name not in names} | {"use": use}


def with_prompts(options: dict[str, Any]) -> dict[str, Any]:
    """Read the --prompts file, where one is given."""
    from models.prompts import read_prompts

    path = options.pop("prompts", None)
    return options if path is None else options | {"prompts": read_prompts(path)}
