"""What int8 leaves of the heads that a hunt finds in a trained language model, with and without counting its noise.

    hh-offline scenes --output scenes --videos 200 --seconds 5 10 --seed 7
    PYTHONPATH=.:tests/support python -m benchmarks.deployment_noise scenes/data.csv --videos 12

SmolLM2-135M-Instruct as an InternVL checkpoint; see tests/support/smollm.py for where it comes from. Its tower is
small and random, or with --sighted the reference model's (benchmarks/sighted_shell.py). All heads are exported
once, in 8 bits as far as the search for a bundle tries at first, and both the model and the graphs see every
segment. So any choice of heads can be judged in float32 and as deployed, with a scorer that is fitted on the
calibration segments' features of the same kind, and no search gives anything back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from smollm import smollm_checkpoints

from benchmarks.sighted_shell import write_sighted
from edge_runtime.bundle.manifest import Precision, SegmentSpec
from edge_runtime.inference.engine import GraphFiles
from edge_runtime.inference.engines import builder, open_graphs
from edge_runtime.inference.precisions import PRECISIONS
from export.deploy import Deployment, features_of_both
from export.publish import LANGUAGE, VISION
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.transformers_mllm import TransformersMllm
from offline.calibration.scorer import fit_scorer
from offline.console import Console
from offline.data.dataset import Video, read_dataset
from offline.data.segments import read_segments
from offline.data.units import unit_labels
from offline.extraction.extract import AllHeads
from offline.extraction.model import segment_spec
from offline.hunting.deployment_noise import NOTABLE, DeploymentNoise
from offline.hunting.hunt import Hunt, Selection, hunt
from offline.recipes.build import NOISE_SEGMENTS

DRAWS, TOP_K = 200, 5
#: Segments on which ranges are watched and products tried.
WATCHED = 16


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, exists=True))
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="int8", show_default=True)
@click.option("--sampled", default=8, show_default=True, help="Frames of a segment that the model sees.")
@click.option("--videos", type=int, help="The first so many normal and anomalous ones of a split; all without.")
@click.option("--sighted", is_flag=True, help="Behind the reference model's tower instead of a random one.")
@click.option("--keep", type=click.Path(path_type=Path), help="Write the features of both here, as .npz.")
def main(
    manifest: Path,
    precision: Precision,
    sampled: int,
    videos: int | None,
    sighted: bool,
    keep: Path | None,
) -> None:
    """Print the AUC of hunted heads in float32 and as deployed."""
    dataset = read_dataset(manifest)
    segment = segment_spec(dataset, Console(quiet=True), False, 48, sampled)
    parts = [_in_turn(dataset.split(split), videos) for split in ("calibration", "validation")]
    with tempfile.TemporaryDirectory() as folder:
        mllm = _sighted(Path(folder) / "shell", parts[0], segment) if sighted else _loaded(_random_shell())
        frames: list[NDArray[np.uint8]] = []
        truth: list[NDArray[np.bool_]] = []
        counts = []
        for part in parts:
            before = len(frames)
            for video in part:
                found = list(read_segments(video.path, mllm.pixels, segment))
                frames += [one.pixels for one in found]
                spans = np.array([(one.start_frame, one.end_frame) for one in found])
                truth.append(unit_labels(video, "segment", spans))
            counts.append(len(frames) - before)
        labels = np.concatenate(truth)
        geometry = mllm.geometry
        heads = [HeadRef(layer, head) for layer in range(geometry.layers) for head in range(geometry.heads)]
        began, work = time.perf_counter(), Path(folder) / "graphs"
        work.mkdir()
        exact = np.stack(AllHeads(mllm, PROMPTS[:1], segment).extract(frames))
        some = np.linspace(0, counts[0] - 1, min(WATCHED, counts[0])).round().astype(int)
        job = Deployment(
            mllm, PROMPTS[0], heads, segment, np.stack([frames[k] for k in some]), work, builder(precision)
        )
        features_of_both(job, precision, click.echo)
        engine = open_graphs(
            GraphFiles(work / VISION, work / LANGUAGE, precisions=(precision, precision)), job.provider
        )
        deployed = np.concatenate([engine.features(one[None]) for one in frames])
        engine.close()
    shape = (len(labels), geometry.layers, geometry.heads, geometry.head_dim)
    exact, deployed = exact.reshape(shape), deployed.reshape(shape)
    if keep is not None:
        np.savez_compressed(keep, exact=exact, deployed=deployed, labels=labels, counts=counts)
    click.echo(f"{counts[0]} calibration and {counts[1]} validation segments, {time.perf_counter() - began:.0f} s")
    _judge(exact, deployed, labels, counts[0], precision)


def _random_shell() -> Path:
    return smollm_checkpoints()["internvl"]


def _loaded(checkpoint: Path) -> TransformersMllm:
    mllm = load(str(checkpoint), "cpu", "float32")
    assert isinstance(mllm, TransformersMllm)
    return mllm


def _sighted(folder: Path, videos: Sequence[Video], segment: SegmentSpec) -> TransformersMllm:
    """The shell that sees, its tokens centred on the first segment of each video."""
    pixels = load("reference", "cpu", "float32").pixels
    firsts = [next(iter(read_segments(video.path, pixels, segment))).pixels for video in videos]
    write_sighted(folder, _random_shell(), np.concatenate(firsts))
    return _loaded(folder)


def _in_turn(videos: Sequence[Video], most: int | None) -> list[Video]:
    """Normal and anomalous videos in turn, so that the first segments are of both."""
    kinds = [[video for video in videos if video.anomalous is anomalous][:most] for anomalous in (False, True)]
    return [video for pair in zip_longest(*kinds) for video in pair if video is not None]


def _judge(
    exact: NDArray[np.float32],
    deployed: NDArray[np.float32],
    labels: NDArray[np.bool_],
    known: int,
    precision: str,
) -> None:
    looked_at = np.linspace(0, known - 1, NOISE_SEGMENTS).round().astype(int)
    noise = DeploymentNoise.of(exact[looked_at], deployed[looked_at])
    layers, heads = noise.share.shape
    quantiles = ", ".join(f"{value:.1%}" for value in np.quantile(noise.share, (0.0, 0.25, 0.5, 0.75, 1.0)))
    click.echo(
        f"{precision} moves {int((noise.share > NOTABLE).sum())} of {noise.share.size} heads by more than "
        f"{NOTABLE:.0%} of their spread; least, quartiles, most: {quantiles}"
    )

    def auc(features: NDArray[np.float32], experts: list[tuple[int, int]]) -> float:
        chosen = np.concatenate([features[:, layer, head] for layer, head in experts], axis=1)
        scorer = fit_scorer(chosen[:known], labels[:known], 0)
        return float(roc_auc_score(labels[known:], scorer.predict_proba(chosen[known:])[:, 1]))

    def show(name: str, found: Hunt) -> None:
        experts = [(expert.layer, expert.head) for expert in found.experts]
        shares = " ".join(f"{noise.share[head]:.0%}" for head in experts)
        click.echo(
            f"{name:22} AUC {auc(exact, experts):.3f} in float32, {auc(deployed, experts):.3f} in {precision};  "
            f"{' '.join(f'({layer},{head})' for layer, head in experts)}  noise {shares}"
        )

    selection = Selection(TOP_K)
    calibration, of_known = exact[:known, None], labels[:known]
    show("without the noise", hunt(calibration, of_known, ["one"], selection))
    show("with the noise", hunt(calibration, of_known, ["one"], replace(selection, noise=noise)))
    random = np.random.default_rng(0)
    drawn = [
        [divmod(int(k), heads) for k in random.choice(layers * heads, TOP_K, replace=False)] for _ in range(DRAWS)
    ]
    means = [np.mean([auc(features, experts) for experts in drawn]) for features in (exact, deployed)]
    click.echo(f"{f'{DRAWS} random draws':22} AUC {means[0]:.3f} in float32, {means[1]:.3f} in {precision}, mean")


if __name__ == "__main__":
    main()
