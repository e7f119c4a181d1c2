"""How well a reference model describes held-out scenes, and what a few-shot hunt makes of it.

Descriptions are judged on shards of the pool that no step was trained on. The hunt runs on videos that
`offline.scenes.generate` made: other seeds, H.264, all kinds, those among them that training never saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.prompts import PROMPTS
from offline.calibration.scorer import fit_scorer
from offline.data.dataset import Video, read_dataset
from offline.data.segments import read_segments
from offline.evaluation.baselines import measure
from offline.evaluation.metrics import frame_auc
from offline.hunting.hunt import Selection, hunt
from offline.reference_training.batches import IGNORED, Batch, Packer
from offline.reference_training.clips import ClipPool
from offline.reference_training.network import Trainee
from offline.reference_training.pool import UNSEEN
from offline.reference_training.precision import mixed_precision

Features = NDArray[np.float32]
RANDOM_DRAWS: Final = 20
EXPERTS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """All segments of some videos.

    Attributes:
        videos: The videos.
        pixels: uint8 (N, F, S, S, 3).
        spans: (N, 2), half-open frame ranges.
        video: (N,), index into `videos`.
        motion: (N,), mean frame difference.
    """

    videos: tuple[Video, ...]
    pixels: NDArray[np.uint8]
    spans: NDArray[np.int64]
    video: NDArray[np.int64]
    motion: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each segment overlaps an event, (N,)."""
        pairs = zip(self.video, self.spans, strict=True)
        return np.array([self.videos[v].overlaps(int(start), int(end)) for v, (start, end) in pairs])


def cut_videos(manifest: Path, split: str, mllm: Mllm) -> Segments:
    """Decode the segments of a split's videos, by the edge's own segmenter.

    Args:
        manifest: The `data.csv`.
        split: Name of the split.
        mllm: For its pixels; it computes nothing here.
    """
    videos = tuple(read_dataset(manifest).split(split))  # type: ignore[arg-type]
    spec = SegmentSpec(frames=48, sampled=16, fps=15.0)
    found = [(v, clip) for v, video in enumerate(videos) for clip in read_segments(video.path, mllm.pixels, spec)]
    motion = np.concatenate([measure(video.path, video.name).values[:, 0] for video in videos])
    return Segments(
        videos=videos,
        pixels=np.stack([clip.pixels for _, clip in found]),
        spans=np.array([(clip.start_frame, clip.end_frame) for _, clip in found]),
        video=np.array([v for v, _ in found]),
        motion=motion,
    )


def features_of(mllm: Mllm, segments: Segments) -> Features:
    """Compute the features of all heads under all prompts.

    Args:
        mllm: The model.
        segments: N segments.

    Returns:
        (N, M, L, H, d).
    """
    sampled = segments.pixels.shape[1]
    return mllm.head_features(iter(segments.pixels), PROMPTS, SegmentSpec(sampled=sampled))


def few_shot(mllm: Mllm, calibration: Segments, test: Segments, seed: int = 0) -> dict[str, dict[str, float]]:
    """Hunt on the calibration segments, and judge the experts on the test segments beside other choices.

    The others are random heads, the last layer, all heads, and the mean frame difference. Nothing is smoothed.

    Args:
        mllm: The model.
        calibration: What is hunted and fitted on.
        test: What is judged.
        seed: Of the fits and of the random heads.

    Returns:
        Frame AUC by method, then as `by_kind` gives it.
    """
    known, unknown = features_of(mllm, calibration), features_of(mllm, test)
    labels = calibration.labels
    names = [prompt.name for prompt in PROMPTS]
    found = hunt(known, labels, names, Selection(top_k=EXPERTS))
    m = names.index(found.prompt)
    layers, heads = known.shape[2:4]

    def scores(chosen: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        rows, columns = zip(*chosen, strict=True)
        take = [array[:, m][:, list(rows), list(columns)].reshape(len(array), -1) for array in (known, unknown)]
        probabilities: NDArray[np.float64] = fit_scorer(take[0], labels, seed).predict_proba(take[1])[:, 1]
        return probabilities

    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    result = {
        f"{EXPERTS} experts": by_kind(test, scores([(e.layer, e.head) for e in found.experts])),
        "last layer": by_kind(test, scores([(layers - 1, head) for head in range(heads)])),
        "all heads": by_kind(test, scores(every)),
        "mean frame difference": by_kind(test, test.motion),
    }
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RANDOM_DRAWS):
        chosen = [every[int(i)] for i in rng.choice(len(every), EXPERTS, replace=False)]
        draws.append(by_kind(test, scores(chosen)))
    result[f"{EXPERTS} random heads, mean"] = {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}
    result[f"{EXPERTS} random heads, spread"] = {
        key: float(np.std([draw[key] for draw in draws])) for key in draws[0]
    }
    experts = " ".join(f"({e.layer},{e.head})" for e in found.experts)
    return {f"{name} {experts}" if name.endswith("experts") else name: row for name, row in result.items()}


def by_kind(test: Segments, scores: NDArray[np.float64]) -> dict[str, float]:
    """Compute frame AUC of segment scores, over all videos and by kind of anomaly.

    Args:
        test: The segments; videos' names end in their kind.
        scores: (N,), one a segment.

    Returns:
        Frame AUC by `all`, `seen kinds`, `unseen kinds` and each kind. A kind's videos are judged together with all
        normal ones. NaN where there is but one class.
    """
    labels: dict[str, list[NDArray[np.bool_]]] = defaultdict(list)
    values: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for v, video in enumerate(test.videos):
        mine = test.video == v
        spans = test.spans[mine]
        truth = np.zeros(int(spans[-1, 1]), np.bool_)
        for start, end in video.events:
            truth[start:end] = True
        kind = video.path.stem.split("_", 2)[2]
        labels[kind].append(truth)
        values[kind].append(np.repeat(scores[mine], spans[:, 1] - spans[:, 0]))
    kinds = sorted(set(labels) - {"normal"})
    groups = {"all": kinds, "seen kinds": [k for k in kinds if k not in UNSEEN], "unseen kinds": list(UNSEEN)}
    groups |= {kind: [kind] for kind in kinds}
    result = {}
    for name, members in groups.items():
        chosen = [kind for kind in ("normal", *members) if kind in labels]
        truth = np.concatenate([part for kind in chosen for part in labels[kind]])
        value = np.concatenate([part for kind in chosen for part in values[kind]])
        area = frame_auc(truth, value)
        result[name] = float("nan") if area is None else area
    return result


@torch.no_grad()
def describe_accuracy(net: Trainee, packer: Packer, pool: ClipPool, clips_asked: int = 128) -> dict[str, float]:
    """Measure the share of right answers by topic, greedily decoded.

    Args:
        net: The model.
        packer: Builds the batches.
        pool: Clips that were not trained on.
        clips_asked: How many of them are drawn, in batches of 16.

    Returns:
        Shares by topic, and for `yes/no` by subject, too. Half of `yes/no` is right by chance.
    """
    net.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    rng = np.random.default_rng(99)
    for _ in range(0, clips_asked, 16):
        numbers = rng.integers(0, len(pool), 16)
        batch = packer.pack(pool, numbers, rng)
        with mixed_precision():
            best = net.answers(batch)
        for topic, correct in judge(batch, best):
            right[topic].append(correct)
    return {topic: float(np.mean(answers)) for topic, answers in sorted(right.items())}


def judge(batch: Batch, best: torch.Tensor) -> list[tuple[str, bool]]:
    """Tell for every exchange of a batch whether it was answered right.

    An answer whose facts may come in any order (`describe`, `doing`) is right where its first word names one of them.
    Every other answer is right where each word is right given the words before it.

    Args:
        batch: What was asked.
        best: (B, S), the likeliest next token at each position.

    Returns:
        (topic, right) of every exchange; `yes/no` once more with its subject.
    """
    judged = []
    for (row, last), exchange, allowed in zip(batch.asked.tolist(), batch.exchanges, batch.allowed, strict=True):
        if allowed:
            judged.append((exchange.topic, int(best[row, last]) in allowed))
            continue
        end = last
        labels = batch.labels[row]
        while end < len(labels) and labels[end] != IGNORED:
            end += 1
        correct = bool((best[row, last:end] == labels[last:end]).all())
        judged.append((exchange.topic, correct))
        if exchange.topic == "yes/no":
            judged.append((f"yes/no {exchange.subject}", correct))
    return judged


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Lay figures out as lines of text, for the terminal.

    Args:
        rows: Figures by name of the row, then of the column; all rows have the same columns.
    """
    columns = list(next(iter(rows.values())))
    lines = ["  ".join(["".ljust(44), *(name[:12].rjust(12) for name in columns)])]
    lines += ["  ".join([name.ljust(44), *(f"{row[key]:12.3f}" for key in columns)]) for name, row in rows.items()]
    return "\n".join(lines)
