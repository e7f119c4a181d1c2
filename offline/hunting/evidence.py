"""What a hunt leaves behind for reports of its bundle: maps, curves and features.

A bundle holds what the edge needs, so the evidence stays in the build's cache, under names that follow from the
bundle's manifest: whoever has the bundle and the cache finds it. The hunt goes by graphs and experts, and serves
a recalibrated bundle too; the curves were judged on validation videos, and belong to one scorer and those figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import HeadHuntError
from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating
from offline.data.cache import Arrays, EntryStore, content_key
from offline.extraction.features import FeatureSet, read_heads
from offline.hunting.chance import Chance
from offline.hunting.deployment_noise import Survival
from offline.hunting.depth import DepthPoint
from offline.hunting.hunt import Hunt, Selection, select
from offline.hunting.saliency import Saliency
from offline.hunting.sampling import SamplingPoint

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Samples as the experts see them, and as all heads of the last layer do.

    Attributes:
        expert: (n, K·d).
        last_layer: (n, H·d).
        labels: bool (n,).
        videos: n names, repeated where a video gives several samples.
    """

    expert: Floating
    last_layer: Floating
    labels: BoolArray
    videos: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.videos)
        for name, features in (("expert", self.expert), ("last-layer", self.last_layer)):
            if features.ndim != 2 or features.shape[0] != n or features.shape[1] == 0:
                raise ValueError(f"{name} features have shape {features.shape}; expected ({n}, width)")
            if not np.isfinite(features).all():
                raise ValueError(f"{name} features to embed are not all finite")
        if self.labels.shape != (n,) or self.labels.dtype != np.bool_:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}; expected bool ({n},)")

    @classmethod
    def of(cls, found: Hunt, features: FeatureSet) -> Embedding:
        """Take from a hunt's features what its experts see, and all heads of the last layer."""
        prompt = found.prompts.index(found.prompt)
        return cls(
            expert=read_heads(features.features, prompt, found.experts),
            last_layer=features.features[:, prompt, -1].reshape(len(features.labels), -1),
            labels=features.labels,
            videos=features.videos,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What reports show of a hunt, as far as it is known.

    Attributes:
        hunt: The hunt.
        embedding: Of the calibration samples.
        depth: Accuracy against depth, on validation videos.
        learned: (fraction, samples, validation AUC) of the learning curve.
        sampling: Accuracy against sampled frames, on validation videos.
        chance: What the hunt owes to chance.
        survival: What the precision does to each head, where the hunt counted it.
    """

    hunt: Hunt | None = None
    embedding: Embedding | None = None
    depth: tuple[DepthPoint, ...] = ()
    learned: Sequence[tuple[float, int, float | None]] | None = None
    sampling: tuple[SamplingPoint, ...] = ()
    chance: Chance | None = None
    survival: Survival | None = None


def write_evidence(store: EntryStore, manifest: Manifest, evidence: Evidence) -> None:
    """Keep what there is in the store.

    Raises:
        OutputFailed: It cannot be written.
    """
    if evidence.hunt is not None and evidence.embedding is not None:
        found, embedding = evidence.hunt, evidence.embedding
        store.put(
            _hunt_key(manifest),
            {
                **{f"saliency_{name}": metric for name, metric in found.saliency.items()},
                "prompts": np.array(found.prompts),
                "prompt": np.array(found.prompt),
                "penalty": np.array(found.penalty),
                "expert": embedding.expert,
                "last_layer": embedding.last_layer,
                "labels": embedding.labels,
                "videos": np.array(embedding.videos),
                **({} if evidence.chance is None else {"chance": _text(evidence.chance)}),
                **_survival_entry(evidence.survival),
            },
        )
    if evidence.depth or evidence.learned or evidence.sampling:
        store.put(
            _curves_key(manifest),
            {
                "depth": _figures([(p.max_layer, p.auc, p.f1, p.cost) for p in evidence.depth], 4),
                "learned": _figures(evidence.learned or (), 3),
                "sampling": _figures([(p.sampled, p.auc, p.f1) for p in evidence.sampling], 3),
            },
        )


def read_evidence(store: EntryStore, manifest: Manifest) -> Evidence:
    """Read what the store has of a bundle's evidence; nothing where it has none, or none that fits the bundle."""
    hunted, drawn = store.get(_hunt_key(manifest)), store.get(_curves_key(manifest))
    try:
        found, embedding = (None, None) if hunted is None else _hunt(hunted, manifest)
        # Entries of earlier versions, and of builds that were told --no-chance, have none.
        chance = None if hunted is None or "chance" not in hunted else Chance.from_dict(_content(hunted["chance"]))
        survival = None if hunted is None else _survival(hunted)
        depth, learned, sampling = ((), None, ()) if drawn is None else _curves(drawn)
    except (KeyError, ValueError, IndexError, HeadHuntError):
        # Another layout, written by another version: a cache miss.
        return Evidence()
    return Evidence(found, embedding, depth, learned, sampling, chance, survival)


def _survival_entry(survival: Survival | None) -> Arrays:
    if survival is None:
        return {}
    return {
        "noise_precision": np.array(survival.precision),
        "noise_share": survival.share,
        "noise_without": np.array([[head.layer, head.head] for head in survival.without]),
        "noise_segments": np.array(survival.segments),
        "noise_prompt": np.array(survival.prompt),
    }


def _survival(entry: Arrays) -> Survival | None:
    """Entries of earlier versions have none, nor have those of a hunt that counted no noise."""
    if "noise_share" not in entry:
        return None
    without = tuple(HeadRef(int(layer), int(head)) for layer, head in entry["noise_without"])
    return Survival(
        str(entry["noise_precision"]),
        entry["noise_share"],
        without,
        int(entry["noise_segments"]),
        str(entry["noise_prompt"]),
    )


def _hunt(entry: Arrays, manifest: Manifest) -> tuple[Hunt, Embedding]:
    found = select(
        Saliency(**{name: entry[f"saliency_{name}"] for name in ("lda", "kl", "mmd", "nmi")}),
        tuple(str(name) for name in entry["prompts"]),
        manifest.geometry.head_dim,
        Selection(len(manifest.experts), float(entry["penalty"]), prompt=str(entry["prompt"])),
    )
    if [(e.layer, e.head) for e in found.experts] != [(e.layer, e.head) for e in manifest.experts]:
        raise ValueError("the hunt's experts are not those of the bundle")
    names = tuple(str(name) for name in entry["videos"])
    return found, Embedding(entry["expert"], entry["last_layer"], entry["labels"], names)


def _curves(
    entry: Arrays,
) -> tuple[tuple[DepthPoint, ...], list[tuple[float, int, float | None]], tuple[SamplingPoint, ...]]:
    depth = tuple(
        DepthPoint(int(layer), _known(auc), _known(f1), cost) for layer, auc, f1, cost in _rows(entry, "depth")
    )
    learned = [(fraction, int(samples), _known(auc)) for fraction, samples, auc in _rows(entry, "learned")]
    # Entries of earlier versions have none.
    rows = _rows(entry, "sampling") if "sampling" in entry else []
    return depth, learned, tuple(SamplingPoint(int(count), _known(auc), _known(f1)) for count, auc, f1 in rows)


def _rows(entry: Arrays, name: str) -> list[list[float]]:
    rows: list[list[float]] = entry[name].tolist()
    return rows


def _figures(rows: Sequence[Sequence[float | None]], columns: int) -> Float64Array:
    """Float (n, columns); what is undefined is NaN, in the file only."""
    return np.array([[np.nan if x is None else x for x in row] for row in rows], dtype=np.float64).reshape(
        -1, columns
    )


def _text(chance: Chance) -> NDArray[np.uint8]:
    """JSON as bytes: an entry holds arrays only."""
    return np.frombuffer(msgspec.json.encode(chance.to_dict()), dtype=np.uint8)


def _content(text: NDArray[np.uint8]) -> Any:
    return msgspec.json.decode(text.tobytes())


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _hunt_key(manifest: Manifest) -> str:
    return content_key(evidence="hunt", format=FORMAT, **_origin(manifest))


def _curves_key(manifest: Manifest) -> str:
    return content_key(
        evidence="curves",
        format=FORMAT,
        scorer=next(entry.sha256 for entry in manifest.files if entry.path == manifest.scorer.file),
        validation=msgspec.to_builtins(manifest.validation),
        **_origin(manifest),
    )


def _origin(manifest: Manifest) -> dict[str, Any]:
    graphs = [[e.path, e.sha256] for e in manifest.files if e.path.startswith(("vision.", "language."))]
    return {"graphs": sorted(graphs), "experts": [[e.layer, e.head, e.rss] for e in manifest.experts]}
