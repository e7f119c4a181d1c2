"""`hh-offline`: parses, calls one function, prints, returns its exit code. Heavy imports wait for their command."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any, cast

import click

from edge_runtime._version import __version__
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import UsageError
from edge_runtime.inference.precisions import exported_precisions
from edge_runtime.inference.providers import provider_choices

EXISTING = click.Path(path_type=Path)
PROVIDERS = click.Choice(provider_choices())
MODEL = click.option(
    "--model",
    required=True,
    help="A Hugging Face id, a folder in that format, or `reference`, the small model that is built in.",
)
MANIFEST = click.option("--manifest", type=EXISTING, required=True, help="data.csv: path,label,split,events,frames.")
PROMPTS_OPTION = click.option(
    "--prompts", type=EXISTING, help="JSON object of names and texts, instead of the five that are built in."
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
    type=EXISTING,
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hh-offline")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug logs.")
def cli(debug: bool) -> None:
    """From labelled clips to a bundle that a camera box can run.

    \b
    Example:
      hh-offline demo demo/
      hh-offline build --model OpenGVLab/InternVL3-1B-hf --manifest data.csv --output bundle
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )


@cli.command()
@click.argument("folder", type=EXISTING)
@click.option("--videos", type=click.IntRange(min=4), default=56, show_default=True, help="How many clips to make.")
@SEED
@QUIET
def demo(folder: Path, videos: int, seed: int, quiet: bool) -> None:
    """The whole story on the built-in model and generated scenes: data, build, evaluate, run.

    FOLDER gets the clips, the bundle, its report and the records of a run. What is there already from an
    earlier, interrupted demo is used again.

    \b
    Example:
      hh-offline demo demo/
    """
    from offline.console import Console
    from offline.recipes.demo import run_demo

    click.echo(run_demo(folder, videos=videos, seed=seed, console=Console(quiet)))


@cli.command()
@click.option("--output", type=EXISTING, required=True, help="Folder for the clips and data.csv.")
@click.option(
    "--videos", type=click.IntRange(min=6), default=56, show_default=True, help="How many, over all splits."
)
@click.option(
    "--seconds", type=(float, float), default=(8.0, 20.0), show_default=True, help="Shortest and longest video."
)
@click.option(
    "--event-seconds", type=(float, float), default=(3.0, 6.0), show_default=True, help="Shortest and longest event."
)
@click.option("--background", type=EXISTING, help="Real footage to put the actors into.")
@SEED
@QUIET
def scenes(
    output: Path,
    videos: int,
    seconds: tuple[float, float],
    event_seconds: tuple[float, float],
    background: Path | None,
    seed: int,
    quiet: bool,
) -> None:
    """Make labelled street scenes: MP4 clips in three splits, and their data.csv.

    \b
    Example:
      hh-offline scenes --output scenes/ --seed 1 --videos 100
      hh-offline scenes --output scenes/ --videos 200 --seconds 20 40 --event-seconds 4 16
    """
    from offline.console import Console
    from offline.scenes import SceneSet, generate

    with Console(quiet).bar("Making scenes", "clip") as progress:
        plan = SceneSet.of_videos(videos, seconds=seconds, event_seconds=event_seconds)
        path = generate(output, seed=seed, scenes=plan, background=background, progress=progress)
    click.echo(str(path))


@cli.command(name="import")
@click.argument("dataset")
@click.option("--annotations", type=EXISTING, required=True, help="The dataset's annotation file or folder.")
@click.option("--output", type=EXISTING, required=True, help="The data.csv to write.")
@click.option("--videos", type=EXISTING, help="Folder of the videos, searched with its subfolders.")
@click.option("--frame-counts", type=EXISTING, help="A file with the number of frames of each video.")
@click.option("--interval", type=click.Choice(["half-open", "inclusive"]), default="half-open", show_default=True)
@click.option("--split", type=click.Choice(["calibration", "validation", "test"]), help="Give all rows this split.")
@click.option("--calibration-fraction", type=float, help="Draw this fraction of each class, as split calibration.")
@SEED
def import_(
    dataset: str,
    annotations: Path,
    output: Path,
    videos: Path | None,
    frame_counts: Path | None,
    interval: str,
    split: str | None,
    calibration_fraction: float | None,
    seed: int,
) -> None:
    """Turn a public dataset's annotations into a data.csv.

    DATASET: ucf-crime, xd-violence, msad, shanghaitech, ubnormal, avenue or ped2.

    \b
    Example:
      hh-offline import ucf-crime --annotations Temporal_Anomaly_Annotation.txt --videos UCF/ --output data.csv
    """
    from offline.data.dataset import Split, write_dataset
    from offline.data.importers import IMPORTERS, Interval, import_dataset

    if dataset not in IMPORTERS:
        raise UsageError(f"unknown dataset {dataset!r}; choose from {', '.join(IMPORTERS)}")
    rows = import_dataset(
        dataset,
        annotations=annotations,
        videos=videos,
        frame_counts=frame_counts,
        interval=cast(Interval, interval),
        split=cast("Split | None", split),
        calibration_fraction=calibration_fraction,
        seed=seed,
        relative_to=output.parent,
    )
    write_dataset(rows, output)
    anomalous = sum(row.anomalous for row in rows)
    counts = [row.frames for row in rows if row.frames is not None]
    frames = f"{sum(counts):,} frames" if counts else "frame counts unknown"
    unknown = f" (in {len(counts)} videos, the others' counts are unknown)" if 0 < len(counts) < len(rows) else ""
    abnormal = sum(end - start for row in rows for start, end in row.events)
    untimed = sum(not row.timed for row in rows)
    click.echo(
        f"{output}: {len(rows)} videos ({anomalous} anomalous, {len(rows) - anomalous} normal), "
        f"{frames}{unknown}, {abnormal:,} frames abnormal"
        + (f"; when is unknown of {untimed} anomalous videos" if untimed else "")
    )


@cli.command()
@MODEL
@MANIFEST
@click.option("--output", type=EXISTING, required=True, help="Folder of the feature store, or a .npz file.")
@PROMPTS_OPTION
@UNIT
@click.option("--validation", is_flag=True, help="Extract the validation split too.")
@DEVICE
@SKIP
@QUIET
def extract(**options: Any) -> None:
    """Features of every head under every prompt. Killed and started again, it goes on where it was.

    \b
    Example:
      hh-offline extract --model reference --manifest data.csv --output features/
    """
    from offline.console import Console
    from offline.recipes.extract import extract_features

    quiet = options.pop("quiet")
    click.echo(extract_features(console=Console(quiet), **_with_prompts(options)))


@cli.command()
@click.option("--features", type=EXISTING, required=True, help="What `extract` made: a folder or a .npz file.")
@click.option("--output", type=EXISTING, required=True, help="The hunt.json to write.")
@TOP_K
@PENALTY
@MAX_LAYER
@PROMPT
@QUIET
def hunt(
    features: Path,
    output: Path,
    top_k: int,
    penalty: float,
    max_layer: int | None,
    prompt: str | None,
    quiet: bool,
) -> None:
    """Find the expert heads: saliency of every head, stability over the prompts, the top K.

    \b
    Example:
      hh-offline hunt --features features/ --output hunt.json --max-layer 17
    """
    from offline.console import Console
    from offline.extraction.extract import read_features
    from offline.hunting.hunt import hunt as run_hunt
    from offline.hunting.hunt import write_hunt

    found = read_features(features)
    with Console(quiet).bar("Hunting", "head") as progress:
        result = run_hunt(
            found.features,
            found.labels,
            found.prompts,
            top_k=top_k,
            penalty=penalty,
            max_layer=max_layer,
            prompt=prompt,
            videos=found.videos,
            progress=progress,
        )
    write_hunt(result, output)
    for rank, expert in enumerate(result.experts, 1):
        click.echo(f"{rank}. layer {expert.layer:3d}  head {expert.head:3d}  rss {expert.rss:.4f}")
    click.echo(f"prompt {result.prompt}")


@cli.command()
@MODEL
@MANIFEST
@click.option("--output", type=EXISTING, required=True, help="The bundle's folder.")
@click.option("--precision", type=click.Choice(exported_precisions()), default="fp32", show_default=True)
@PROMPTS_OPTION
@PROMPT
@TOP_K
@PENALTY
@MAX_LAYER
@UNIT
@CACHE
@DEVICE
@SEED
@SKIP
@OVERWRITE
@click.option(
    "--depth-curve/--no-depth-curve", default=True, show_default=True, help="AUC against depth, in the report."
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
    built = run_build(BuildOptions(**_with_prompts(options)), Console(quiet))
    validation = built.bundle.manifest.validation
    click.echo(f"bundle {built.bundle.path}")
    click.echo(f"report {built.bundle.path / 'report.html'}")
    if validation.auc is not None:
        click.echo(f"validation: AUC {validation.auc:.4f}, AP {validation.ap:.4f}, F1 {validation.f1:.4f}")


@cli.command()
@click.option("--bundle", type=EXISTING, help="Judge this bundle, by running it on the videos.")
@click.option("--scores", type=EXISTING, help="Judge stored scores (scores.json) of any system.")
@MANIFEST
@click.option("--split", type=click.Choice(["calibration", "validation", "test"]), default="test", show_default=True)
@click.option("--locator", type=click.Choice(["full", "low_latency"]), default="full", show_default=True)
@click.option("--provider", type=PROVIDERS, default="auto", show_default=True, help="What runs the graphs.")
@click.option("--threshold", type=float, help="With --scores: an operating point to report beside the best F1.")
@click.option("--save-scores", type=EXISTING, help="With --bundle: write the raw scores there as scores.json.")
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Trivial baselines beside the result."
)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.option("--each-video", is_flag=True, help="One line per video.")
@SKIP
@QUIET
def evaluate(
    bundle: Path | None,
    scores: Path | None,
    manifest: Path,
    split: str,
    locator: str,
    provider: str,
    threshold: float | None,
    save_scores: Path | None,
    baselines: bool,
    as_json: bool,
    each_video: bool,
    skip_unreadable: bool,
    quiet: bool,
) -> None:
    """Frame-level AUC, AP (trapezoid and step) and F1, events, delays and false alarms, with intervals.

    Beside them what to read them against, on the same frames: mean frame difference, brightness change and a
    logistic regression on both (the video files are decoded for that), and what segments of this length allow at
    best.

    \b
    Example:
      hh-offline evaluate --bundle bundle --manifest data.csv --split test
      hh-offline evaluate --scores scores.json --manifest data.csv --json
    """
    from offline.console import Console
    from offline.data.dataset import Split, read_dataset
    from offline.recipes.evaluate import evaluate_bundle, evaluate_stored

    if (bundle is None) == (scores is None):
        raise UsageError("give one of --bundle and --scores")
    dataset = read_dataset(manifest)
    chosen = dataset.split(cast(Split, split))
    if not len(chosen):
        raise UsageError(f"{manifest}: split {split!r} is empty; choose another with --split")
    chosen.require_two_classes(cast(Split, split))
    if bundle is not None:
        chosen.require_files() if not skip_unreadable else None
        result = evaluate_bundle(
            bundle,
            chosen,
            Console(quiet),
            locator,
            provider,
            skip_unreadable,
            scores_output=save_scores,
            calibration=dataset.split("calibration") if baselines else None,
        )
    else:
        assert scores is not None
        result = evaluate_stored(scores, dataset, cast(Split, split), Console(quiet), threshold, baselines)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    else:
        click.echo(result.to_text(each_video=each_video))


@cli.command()
@click.option("--bundle", type=EXISTING, required=True, help="The bundle to show; it runs on the videos.")
@MANIFEST
@click.option("--output", type=EXISTING, required=True, help="The HTML file to write.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="What to judge by; the validation split is shown in any case.",
)
@click.option("--ablation", type=EXISTING, help="Show this table too, as `ablate --json` wrote it.")
@click.option(
    "--cache", type=EXISTING, help="Where the bundle's build kept what it found [default: BUNDLE.cache beside it]."
)
@click.option("--locator", type=click.Choice(["full", "low_latency"]), default="full", show_default=True)
@click.option("--provider", type=PROVIDERS, default="auto", show_default=True, help="What runs the graphs.")
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
    click.echo(f"report {chosen.output}")
    for sentence in shown.absent:
        click.echo(f"not in it: {sentence}")


@cli.command()
@click.argument("bundle", type=EXISTING)
@MANIFEST
@click.option("--output", type=EXISTING, required=True, help="The new bundle's folder.")
@UNIT
@CACHE
@click.option("--provider", type=PROVIDERS, default="cpu", show_default=True, help="What runs the graphs.")
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
    click.echo(f"bundle {bundle.path}")


@cli.command()
@MODEL
@MANIFEST
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@PROMPTS_OPTION
@TOP_K
@PENALTY
@click.option(
    "--draws", type=click.IntRange(min=1), default=20, show_default=True, help="How often random heads are drawn."
)
@click.option(
    "--kinds-unseen", help="Kinds of anomaly, separated by commas: every row's AUC on them alone, in a column."
)
@UNIT
@click.option("--cache", type=EXISTING, help="Where features are kept for the next try, or a build's cache.")
@click.option("--json", "json_path", type=EXISTING, help="Write everything to this JSON file.")
@DEVICE
@SEED
@SKIP
@QUIET
def ablate(json_path: Path | None, kinds_unseen: str | None, quiet: bool, **options: Any) -> None:
    """The paper's ablation table, and more: each row changes one thing of the method.

    All heads of the last layer, random heads, one prompt, other scorers, no smoothing, fixed thresholds; single
    metrics, no stability penalty, the best layer, the model's own answer in words, trivial baselines, and what
    the segments allow at best. Rows are fitted on the calibration split, calibrated on the validation split and
    judged on --split.

    \b
    Example:
      hh-offline ablate --model reference --manifest data.csv --cache features/ --json ablation.json
    """
    from edge_runtime.files import write_atomic
    from offline.ablation.ablate import AblateOptions
    from offline.ablation.ablate import ablate as run_ablate
    from offline.console import Console

    unseen = () if kinds_unseen is None else tuple(kind.strip() for kind in kinds_unseen.split(","))
    result = run_ablate(AblateOptions(unseen=unseen, **_with_prompts(options)), Console(quiet))
    if json_path is not None:
        text = json.dumps(result.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomic(json_path, (text + "\n").encode())
    click.echo(result.to_text())


@cli.command()
@click.argument("records", type=EXISTING)
@click.option(
    "--model",
    required=True,
    help="A Hugging Face id, a folder in that format, or `reference`; with --endpoint, a model's name there.",
)
@click.option("--endpoint", help="Ask an OpenAI-compatible server, as http://host:8000/v1.")
@click.option(
    "--api-key-env", metavar="VARIABLE", help="Environment variable with the server's API key [default: send none]."
)
@click.option("--timeout", "timeout_s", type=float, default=120.0, show_default=True, help="For the server, seconds.")
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="[CAMERA=]PATH",
    help="The footage of a camera, as it was given to `hh-edge run --camera`. May be repeated.",
)
@click.option("--frames", type=int, default=16, show_default=True, help="How many pictures of an event are shown.")
@click.option("--question", default="What happens in this video?", show_default=True)
@click.option("--max-tokens", type=int, default=128, show_default=True, help="The longest answer.")
@click.option(
    "--output",
    type=EXISTING,
    help="Append to this file; what is described there is not asked again [default: stdout].",
)
@DEVICE
@QUIET
def explain(quiet: bool, **options: Any) -> None:
    """Events in words: each one's pictures go back to a whole model, which says what happens.

    RECORDS is what `hh-edge run` wrote. Every event that has ended gives one line of JSON: its record, and the
    description; other records are passed over. Killed and started again, it goes on where it was.

    \b
    Example:
      hh-offline explain events.jsonl --model OpenGVLab/InternVL3-1B-hf --video gate=gate.mp4 --output said.jsonl
      hh-offline explain events.jsonl --model qwen --endpoint http://localhost:8000/v1 --video gate.mp4
    """
    from offline.console import Console
    from offline.explain.explain import ExplainOptions
    from offline.explain.explain import explain as run_explain

    run_explain(ExplainOptions(**options), Console(quiet))


@cli.command()
@click.argument("bundle", type=EXISTING)
@click.option("--model", help="Where the source model is [default: the name in the bundle].")
@click.option("--manifest", type=EXISTING, help="Compare on these videos' segments [default: the golden ones].")
@DEVICE
def verify(bundle: Path, model: str | None, manifest: Path | None, device: str) -> None:
    """Parity of a bundle against its source model. Exit code 1 where they differ.

    \b
    Example:
      hh-offline verify bundle --model OpenGVLab/InternVL3-1B-hf --manifest data.csv
    """
    from export.parity import require_parity
    from offline.recipes.verify import verify as run_verify

    result = run_verify(bundle, model, manifest, device=device)
    parity = result.parity
    if not result.same_revision:
        click.echo("note: the model's weights are not those the bundle was made from", err=True)
    click.echo(
        f"{parity.segments} segments: largest difference {parity.max_abs:.3g}, {parity.relative:.3g} of the "
        f"features' scale (allowed {parity.tolerance:g}), smallest cosine {parity.min_cosine:.9f}"
    )
    require_parity(parity)


def _with_prompts(options: dict[str, Any]) -> dict[str, Any]:
    """The --prompts file as prompts, where one is given."""
    from models.prompts import read_prompts

    path = options.pop("prompts", None)
    return options if path is None else options | {"prompts": read_prompts(path)}


def main() -> None:
    """Entry point."""
    sys.exit(run_command(cli))
