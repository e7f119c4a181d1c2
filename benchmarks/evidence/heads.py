"""All that the comparisons read of a data set: the features of all heads, visual tokens, the model's own answer.

Extracted once for every model and split, and kept as one file a piece in a folder. Alone it writes what a hunt reads:

    python -m benchmarks.evidence.heads reference scenes/data.csv cache features.npz
    hh-offline hunt --features features.npz --output hunt.json --stability 50
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.files import make_folder, write_atomic
from edge_runtime.stream.segments import SegmentSpec
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from offline.ablation.textual import TextualAnswer, yes_against_no
from offline.calibration.scorer import fit_scorer
from offline.data.dataset import read_dataset
from offline.extraction.features import FeatureSet, read_heads
from offline.extraction.visual import ModelTokens
from offline.hunting.hunt import Hunt, Selection, hunt
from offline.reference_training.measure import Segments, by_kind, cut_videos, features_of

Head = tuple[int, int]
NAMES = [prompt.name for prompt in PROMPTS]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One split of a data set, as a model sees it.

    Attributes:
        segments: Its segments; their pixels are left out.
        features: float32 (N, M, L, H, d).
        mean: Of the visual tokens of a segment, (N, D).
        spread: Their standard deviation, (N, D).
        answers: Probability of "yes" against "no" under every prompt, (N, M).
    """

    segments: Segments
    features: NDArray[np.float32]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    answers: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each segment overlaps an event, (N,)."""
        return self.segments.labels

    @property
    def videos(self) -> NDArray[np.str_]:
        """The name of each segment's video, (N,)."""
        names = np.array([video.name for video in self.segments.videos])
        return names[self.segments.video]

    @property
    def every(self) -> list[Head]:
        """All heads, layer after layer."""
        layers, heads = self.features.shape[2:4]
        return [(layer, head) for layer in range(layers) for head in range(heads)]

    def read(self, prompt: int, heads: Sequence[Head]) -> NDArray[np.float32]:
        """Features of some heads side by side, (N, K·d)."""
        return read_heads(self.features, prompt, [HeadRef(*head) for head in heads])


def read_splits(model: str, manifest: Path, cache: Path) -> tuple[Split, Split]:
    """Give the calibration and the test split of a data.csv, extracted where the cache does not hold them."""
    mllm = load(model, device="cpu")
    make_folder(cache)
    return tuple(_read(mllm, manifest, name, cache) for name in ("calibration", "test"))  # type: ignore[return-value]


def _read(mllm: Any, manifest: Path, name: str, cache: Path) -> Split:
    key = hashlib.sha256(f"{mllm.fingerprint} {NAMES} {name}".encode() + manifest.read_bytes()).hexdigest()[:16]
    path = cache / f"{mllm.source.name}-{manifest.parent.name}-{name}-{key}.npz"
    if not path.is_file():
        found = cut_videos(manifest, name, mllm)
        tokens = np.stack(ModelTokens(mllm).extract(iter(found.pixels)))
        asked = TextualAnswer(mllm, PROMPTS, SegmentSpec(sampled=found.pixels.shape[1]))
        said = np.stack(asked.extract(iter(found.pixels)))
        arrays = {
            "spans": found.spans,
            "video": found.video,
            "motion": found.motion,
            "features": features_of(mllm, found),
            "mean": tokens[:, 0],
            "spread": tokens[:, 1],
            "answers": np.stack([yes_against_no(said[:, m]) for m in range(len(PROMPTS))], axis=1),
        }
        write_atomic(path, lambda file: np.savez(file, **arrays))
    with np.load(path) as data:
        pieces = {one: data[one] for one in data.files}
    segments = Segments(
        videos=tuple(read_dataset(manifest).split(name)),  # type: ignore[arg-type]
        pixels=np.empty((len(pieces["video"]), 0), np.uint8),
        spans=pieces.pop("spans"),
        video=pieces.pop("video"),
        motion=pieces.pop("motion"),
    )
    return Split(segments=segments, **pieces)


def hunted(known: Split, count: int) -> tuple[Hunt, int]:
    """Hunt in the calibration split. Returns what was found, and the index of its prompt."""
    found = hunt(known.features, known.labels, NAMES, Selection(top_k=count))
    return found, NAMES.index(found.prompt)


def auc_of(test: Split, scores: NDArray[np.float64]) -> float:
    """Frame AUC of segment scores over all videos, not smoothed."""
    return by_kind(test.segments, scores)["all"]


def fitted_auc(
    known: NDArray[np.float32], labels: NDArray[np.bool_], unknown: NDArray[np.float32], test: Split
) -> float:
    """Frame AUC of the usual scorer, fitted on some features and judged on others."""
    return auc_of(test, fit_scorer(known, labels).predict_proba(unknown)[:, 1])


def main(model: str, manifest: Path, cache: Path, target: Path) -> None:
    """Write the features of the calibration split as `hh-offline hunt --features` takes them."""
    known, _ = read_splits(model, manifest, cache)
    FeatureSet(known.features, known.labels, tuple(NAMES), tuple(known.videos.tolist())).write(target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
