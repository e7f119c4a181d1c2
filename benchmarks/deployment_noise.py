"""What int8 leaves of the heads that a hunt finds in a trained language model, with and without counting its noise.

    hh-offline scenes --output scenes --videos 200 --seconds 5 10 --seed 7
    PYTHONPATH=.:tests/support python -m benchmarks.deployment_noise scenes/data.csv --videos 12

SmolLM2-135M-Instruct as an InternVL checkpoint; see tests/support/smollm.py for where it comes from. Its tower
is small and random, or with --sighted the reference model's (benchmarks/sighted_shell.py). All heads are
exported once, in 8 bits as far as the search for a bundle tries at first, and both the model and the graphs see
every segment. So any choice of heads can be judged in float32 and as deployed, with a scorer that is fitted on
the calibration segments' features of the same kind, and no search gives anything back. Beside events, which an
untaught language model hardly tells, segments are labelled by what their pictures are like.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from smollm import smollm_checkpoints

from benchmarks.sighted_shell import write_sighted
from edge_runtime.bundle.manifest import Precision
from edge_runtime.inference.engine import GraphFiles
from edge_runtime.inference.engines import builder, open_graphs
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.stream.segments import SegmentSpec
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
@click.option("--keep", type=click.Path(path_type=Path), help="A .npz: of features that are there already, or to be.")
def main(
    manifest: Path,
    precision: Precision,
    sampled: int,
    videos: int | None,
    sighted: bool,
    keep: Path | None,
) -> None:
    """Print the AUC of hunted heads in float32 and as deployed."""
    if keep is not None and keep.is_file():
        features = Features.read(keep)
    else:
        features = _measure(manifest, precision, sampled, videos, sighted)
        if keep is not None:
            features.write(keep)
    known = features.calibration
    click.echo(f"{known} calibration and {len(features.exact) - known} validation segments")
    noise = features.noise
    quantiles = ", ".join(f"{value:.1%}" for value in np.quantile(noise.share, (0.0, 0.25, 0.5, 0.75, 1.0)))
    click.echo(
        f"{precision} moves {int((noise.share > NOTABLE).sum())} of {noise.share.size} heads by more than "
        f"{NOTABLE:.0%} of their spread; least, quartiles, most: {quantiles}"
    )
    for name, labels in features.truths.items():
        _judge(name, features, labels, precision)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What both gave for every head.

    Attributes:
        exact: The model's in float32, (N, L, H, d), segments of calibration videos first.
        deployed: The graphs'.
        truths: Labels by what they say, bool (N,) each.
        calibration: How many segments are to calibrate with.
    """

    exact: NDArray[np.float32]
    deployed: NDArray[np.float32]
    truths: Mapping[str, NDArray[np.bool_]]
    calibration: int

    @property
    def noise(self) -> DeploymentNoise:
        """As a build would measure it."""
        at = np.linspace(0, self.calibration - 1, NOISE_SEGMENTS).round().astype(int)
        return DeploymentNoise.of(self.exact[at], self.deployed[at])

    def write(self, path: Path) -> None:
        """Keep them."""
        truths = {f"truth {name}": labels for name, labels in self.truths.items()}
        np.savez_compressed(path, exact=self.exact, deployed=self.deployed, calibration=self.calibration, **truths)

    @classmethod
    def read(cls, path: Path) -> Features:
        """Read what `write` wrote."""
        with np.load(path) as data:
            truths = {name.removeprefix("truth "): data[name] for name in data.files if name.startswith("truth ")}
            return cls(data["exact"], data["deployed"], truths, int(data["calibration"]))


def truths_of(frames: NDArray[np.uint8], events: NDArray[np.bool_], known: int) -> dict[str, NDArray[np.bool_]]:
    """Label segments by their events, and by what their pictures are like.

    A language model that never learned to read a tower's tokens hardly tells events, but what pictures are like
    reaches its heads; whether 8 bits keep that is the same question.

    Args:
        frames: uint8 (N, F, H, W, 3).
        events: bool (N,).
        known: How many are to calibrate with; above their median is True.
    """
    values = frames.astype(np.float32)
    of_pictures = {
        "brightness": values.mean(axis=(1, 2, 3, 4)),
        "contrast": values.std(axis=(1, 2, 3, 4)),
        "red minus blue": (values[..., 0] - values[..., 2]).mean(axis=(1, 2, 3)),
        "motion": np.abs(np.diff(values, axis=1)).mean(axis=(1, 2, 3, 4)),
    }
    return {"events": events} | {name: value > np.median(value[:known]) for name, value in of_pictures.items()}


def _measure(manifest: Path, precision: Precision, sampled: int, videos: int | None, sighted: bool) -> Features:
    dataset = read_dataset(manifest)
    segment = segment_spec(dataset, Console(quiet=True), False, 48, sampled)
    parts = [_in_turn(dataset.split(split).videos, videos) for split in ("calibration", "validation")]
    with tempfile.TemporaryDirectory() as folder:
        mllm = _sighted(Path(folder) / "shell", parts[0], segment) if sighted else _loaded(_random_shell())
        frames: list[NDArray[np.uint8]] = []
        events: list[NDArray[np.bool_]] = []
        counts = []
        for part in parts:
            before = len(frames)
            for video in part:
                found = list(read_segments(video.path, mllm.pixels, segment))
                frames += [one.pixels for one in found]
                spans = np.array([(one.start_frame, one.end_frame) for one in found])
                events.append(unit_labels(video, "segment", spans))
            counts.append(len(frames) - before)
        geometry = mllm.geometry
        heads = [HeadRef(layer, head) for layer in range(geometry.layers) for head in range(geometry.heads)]
        work = Path(folder) / "graphs"
        work.mkdir()
        click.echo("Features of the model in float32")
        exact = np.stack(AllHeads(mllm, PROMPTS[:1], segment).extract(frames))
        some = np.linspace(0, counts[0] - 1, min(WATCHED, counts[0])).round().astype(int)
        watched = np.stack([frames[k] for k in some])
        job = Deployment(mllm, PROMPTS[0], heads, segment, watched, work, builder(precision))
        features_of_both(job, precision, click.echo)
        files = GraphFiles(work / VISION, work / LANGUAGE, precisions=(precision, precision))
        engine = open_graphs(files, job.provider)
        deployed = np.concatenate([engine.features(one[None]) for one in frames])
        engine.close()
    shape = (len(frames), geometry.layers, geometry.heads, geometry.head_dim)
    truths = truths_of(np.stack(frames), np.concatenate(events), counts[0])
    return Features(exact.reshape(shape), deployed.reshape(shape), truths, counts[0])


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


def _judge(name: str, features: Features, labels: NDArray[np.bool_], precision: str) -> None:
    known, noise = features.calibration, features.noise
    layers, heads = noise.share.shape

    def auc(values: NDArray[np.float32], experts: list[tuple[int, int]]) -> float:
        chosen = np.concatenate([values[:, layer, head] for layer, head in experts], axis=1)
        scorer = fit_scorer(chosen[:known], labels[:known], 0)
        return float(roc_auc_score(labels[known:], scorer.predict_proba(chosen[known:])[:, 1]))

    def show(way: str, found: Hunt) -> None:
        experts = [(expert.layer, expert.head) for expert in found.experts]
        shares = " ".join(f"{noise.share[head]:.0%}" for head in experts)
        click.echo(
            f"{way:22} AUC {auc(features.exact, experts):.3f} in float32, "
            f"{auc(features.deployed, experts):.3f} in {precision};  "
            f"{' '.join(f'({layer},{head})' for layer, head in experts)}  noise {shares}"
        )

    click.echo(f"\n{name}")
    selection = Selection(TOP_K)
    calibration, of_known = features.exact[:known, None], labels[:known]
    show("without the noise", hunt(calibration, of_known, ["one"], selection))
    show("with the noise", hunt(calibration, of_known, ["one"], replace(selection, noise=noise)))
    random = np.random.default_rng(0)
    drawn = [
        [divmod(int(k), heads) for k in random.choice(layers * heads, TOP_K, replace=False)] for _ in range(DRAWS)
    ]
    means = [np.mean([auc(values, experts) for experts in drawn]) for values in (features.exact, features.deployed)]
    click.echo(f"{f'{DRAWS} random draws':22} AUC {means[0]:.3f} in float32, {means[1]:.3f} in {precision}, mean")


if __name__ == "__main__":
    main()
