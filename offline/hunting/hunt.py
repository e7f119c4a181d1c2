"""The hunt: from the features of all heads to the few expert heads, and the prompt that suits them best.

How well a head separates is `offline.hunting.saliency`'s business.

**Depth.** A hunt in layers 0 to N is the hunt in a model that ends at layer N: its metrics are normalised over
those layers alone, and its arrays, its `layers` and its file hold those layers alone. What the unhunted layers
do can then not move the ranking of the others, and nothing is reported for heads that were not candidates.
`Hunt.up_to` gives it from an existing hunt without computing a metric again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import FeatureError, UsageError
from edge_runtime.files import write_atomic
from edge_runtime.strict_json import parse_json
from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating
from offline.console import Progress
from offline.extraction.features import FeatureSet
from offline.hunting.deployment_noise import DeploymentNoise
from offline.hunting.saliency import Saliency, check_labels, combine, robust_saliency, saliency


@dataclass(frozen=True, slots=True)
class Selection:
    """How the experts are chosen.

    Attributes:
        top_k: How many there are.
        penalty: λ of RSS: how much instability over the prompts costs.
        max_layer: Hunt in layers 0 to this one, inclusive (see the module); None for all.
        prompt: Take this one, instead of the one under which the experts' mean score is highest (ties: the first).
        noise: What the deployment adds to each head, which metrics are computed with; None for nothing. Metrics that
            are at hand are not computed again.
    """

    top_k: int = 5
    penalty: float = 0.5
    max_layer: int | None = None
    prompt: str | None = None
    noise: DeploymentNoise | None = field(default=None, compare=False, repr=False)


_SELECTION = Selection()


@dataclass(frozen=True, slots=True)
class Expert(HeadRef):
    """A head that the hunt selected, with the robust saliency score that it was selected for."""

    rss: float

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is a new class, which the zero-argument form does not find.
        HeadRef.__post_init__(self)
        if not math.isfinite(self.rss):
            raise ValueError(f"layer {self.layer}, head {self.head}: rss is {self.rss}, expected a finite number")

    @property
    def ref(self) -> HeadRef:
        """The head without its score."""
        return HeadRef(self.layer, self.head)


@dataclass(frozen=True, slots=True, eq=False)
class Hunt:
    """What a hunt found, and all it was decided by. L counts the layers that were hunted.

    Attributes:
        prompts: The M prompts' names.
        head_dim: Width of a head.
        penalty: λ of RSS.
        saliency: Raw metrics, (M, L, H) each.
        score: S(k, m), (M, L, H), in [0, 1].
        rss: (L, H).
        experts: In rank order.
        prompt: The one to bake into the bundle.
    """

    prompts: tuple[str, ...]
    head_dim: int
    penalty: float
    saliency: Saliency
    score: Float64Array
    rss: Float64Array
    experts: tuple[Expert, ...]
    prompt: str

    def __post_init__(self) -> None:
        shape = self.saliency.lda.shape
        if self.score.shape != shape or self.rss.shape != shape[1:] or len(self.prompts) != shape[0]:
            raise FeatureError(
                f"a hunt whose parts disagree: saliency {shape}, score {self.score.shape}, "
                f"rss {self.rss.shape}, {len(self.prompts)} prompts"
            )
        if not (np.isfinite(self.score).all() and np.isfinite(self.rss).all()):
            raise FeatureError("a hunt with scores that are not finite")
        if len(set(self.prompts)) != len(self.prompts) or self.prompt not in self.prompts:
            raise FeatureError(f"prompt {self.prompt!r} is not one of {list(self.prompts)}, each named once")
        refs = [expert.ref for expert in self.experts]
        if not refs or len(set(refs)) != len(refs):
            raise FeatureError(f"experts {refs}: expected at least one, none of them twice")
        for expert in self.experts:
            if expert.layer >= self.layers or expert.head >= self.heads:
                raise FeatureError(
                    f"expert layer {expert.layer}, head {expert.head} is outside {self.layers} x {self.heads}"
                )
            if expert.rss != self.rss[expert.layer, expert.head]:
                raise FeatureError(
                    f"expert layer {expert.layer}, head {expert.head} has rss {expert.rss}, "
                    f"the map says {self.rss[expert.layer, expert.head]}"
                )

    @property
    def layers(self) -> int:
        """Layers that were hunted, from layer 0 up."""
        return int(self.rss.shape[0])

    @property
    def heads(self) -> int:
        """Heads per layer."""
        return int(self.rss.shape[1])

    @property
    def depth(self) -> int:
        """The deepest expert's layer; no layer above it needs to run."""
        return max(expert.layer for expert in self.experts)

    def up_to(self, max_layer: int) -> Hunt:
        """Hunt in layers 0 to `max_layer` inclusive, for as many experts, from the metrics at hand.

        The prompt is chosen anew.

        Raises:
            UsageError: There are too few heads, or no such layer.
        """
        return self.again(Selection(len(self.experts), self.penalty, max_layer))

    def choosing(self, heads: Sequence[HeadRef]) -> Hunt:
        """Take these heads as the experts, in this order; the prompt follows from them, as ever.

        Raises:
            FeatureError: There are none, one of them twice, or one outside the hunted ones.
        """
        layers, columns = self.rss.shape
        for head in heads:
            if head.layer >= layers or head.head >= columns:
                raise FeatureError(
                    f"layer {head.layer}, head {head.head} is outside {layers} x {columns} hunted heads"
                )
        experts = tuple(Expert(head.layer, head.head, float(self.rss[head.layer, head.head])) for head in heads)
        if not experts:
            raise FeatureError("no head was chosen; at least one expert is needed")
        return replace(self, experts=experts, prompt=_best_prompt(self.score, self.prompts, experts))

    def again(self, selection: Selection) -> Hunt:
        """Choose otherwise, from the metrics at hand.

        Raises:
            UsageError: The selection is out of range.
        """
        return select(self.saliency, self.prompts, self.head_dim, selection)


#: A rule that chooses experts and prompt in a set of samples, counting heads on the way.
Choose = Callable[[FeatureSet, Selection, Progress | None], Hunt]


def hunt(
    features: Floating,
    labels: BoolArray,
    prompts: Sequence[str],
    selection: Selection = _SELECTION,
    *,
    videos: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Hunt:
    """Find the heads that separate the classes best and most alike under all prompts.

    All arguments are checked before the long computation.

    Args:
        features: (N, M, L, H, d), N videos (or segments), M prompts; layers that are not hunted are not looked at.
        labels: bool (N,), True is anomalous.
        prompts: M names.
        selection: How the experts are chosen.
        videos: N names for messages.
        progress: Counts heads.

    Raises:
        FeatureError: Features or labels cannot be hunted.
        UsageError: The selection is out of range.
    """
    _check_shapes(features, labels, prompts, videos)
    layers = _hunted_layers(features.shape[2], selection.max_layer)
    _check_selection(layers, features.shape[3], prompts, selection)
    hunted = features[:, :, :layers]
    _check_finite(hunted, prompts, videos)
    errors = None if selection.noise is None else selection.noise.errors[:, :layers]
    raw = saliency(hunted, labels, errors=errors, progress=progress)
    return select(raw, prompts, features.shape[4], replace(selection, max_layer=None))


def by_rss(features: FeatureSet, selection: Selection, progress: Progress | None = None) -> Hunt:
    """Choose experts and prompt by the paper's rule; see `hunt`."""
    return hunt(
        features.features,
        features.labels,
        features.prompts,
        selection,
        videos=features.videos,
        progress=progress,
    )


def select(raw: Saliency, prompts: Sequence[str], head_dim: int, selection: Selection = _SELECTION) -> Hunt:
    """Choose experts and prompt from raw metrics: the cheap half of `hunt`.

    RSS in descending order; ties go to the lower (layer, head).

    Raises:
        UsageError: The selection is out of range.
    """
    all_layers, heads = raw.lda.shape[1:]
    layers = _hunted_layers(all_layers, selection.max_layer)
    _check_selection(layers, heads, prompts, selection)
    raw = raw.up_to(layers - 1)
    score = combine(raw)
    rss = robust_saliency(score, selection.penalty)
    # A stable sort leaves equal scores in row order, which is (layer, head).
    ranked = np.argsort(-rss, axis=None, kind="stable")[: selection.top_k]
    experts = tuple(
        Expert(int(k) // heads, int(k) % heads, float(rss[int(k) // heads, int(k) % heads])) for k in ranked
    )
    return Hunt(
        prompts=tuple(prompts),
        head_dim=head_dim,
        penalty=selection.penalty,
        saliency=raw,
        score=score,
        rss=rss,
        experts=experts,
        prompt=_best_prompt(score, prompts, experts) if selection.prompt is None else selection.prompt,
    )


def write_hunt(found: Hunt, path: Path, beside: Mapping[str, Any] | None = None) -> None:
    """Write `hunt.json`, whole or not at all.

    Args:
        found: The hunt.
        path: The file.
        beside: Further keys with JSON values, which `read_hunt` does not look at.

    Raises:
        OutputFailed: It cannot be written; what was there before is then still there.
    """
    content = {
        "layers": found.layers,
        "heads": found.heads,
        "head_dim": found.head_dim,
        "prompts": list(found.prompts),
        "penalty": found.penalty,
        "saliency": {name: metric.tolist() for name, metric in found.saliency.items()},
        "score": found.score.tolist(),
        "rss": found.rss.tolist(),
        "experts": [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts],
    } | dict(beside or {})
    text = json.dumps(content, allow_nan=False, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode())


def read_hunt(path: Path, *, prompt: str | None = None) -> Hunt:
    """Read `hunt.json` and check that its parts agree.

    Args:
        path: The file.
        prompt: The chosen prompt, where it was named by hand: the file does not say it. Otherwise it follows from
            the scores and the experts, by the rule of `hunt`.

    Raises:
        FeatureError: It is no such file; the message names it.
        UsageError: There is no such prompt.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise FeatureError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FeatureError(f"{path}: is not JSON: {error}") from error
    try:
        found = _parse(content)
    except KeyError as error:
        raise FeatureError(f"{path}: key {error} is missing; run the hunt again") from error
    except (TypeError, ValueError, FeatureError) as error:
        raise FeatureError(f"{path}: {error}; run the hunt again") from error
    if prompt is None:
        return found
    return replace(found, prompt=_known_prompt(prompt, found.prompts))


def _parse(content: Any) -> Hunt:
    raw = Saliency(**{name: _array(content["saliency"][name]) for name in ("lda", "kl", "mmd", "nmi")})
    score = _array(content["score"])
    prompts = tuple(str(name) for name in content["prompts"])
    experts = tuple(Expert(int(e["layer"]), int(e["head"]), float(e["rss"])) for e in content["experts"])
    stated = (len(prompts), content["layers"], content["heads"])
    if stated != score.shape:
        raise FeatureError(f"score has shape {score.shape}, but prompts, layers and heads are {stated}")
    checked = Hunt(
        prompts=prompts,
        head_dim=int(content["head_dim"]),
        penalty=float(content["penalty"]),
        saliency=raw,
        score=score,
        rss=_array(content["rss"]),
        experts=experts,
        prompt=prompts[0],
    )
    return replace(checked, prompt=_best_prompt(score, prompts, experts))


def _array(nested: Any) -> Float64Array:
    return np.array(nested, dtype=np.float64)


def _best_prompt(score: Float64Array, prompts: Sequence[str], experts: Sequence[Expert]) -> str:
    """The prompt under which the experts' mean score is highest; of equals the first."""
    of_experts = score[:, [e.layer for e in experts], [e.head for e in experts]]
    return prompts[int(of_experts.mean(axis=1).argmax())]


def _known_prompt(prompt: str, prompts: Sequence[str]) -> str:
    if prompt not in prompts:
        raise UsageError(f"prompt {prompt!r} is unknown; the features have {', '.join(map(repr, prompts))}")
    return prompt


def _hunted_layers(layers: int, max_layer: int | None) -> int:
    if max_layer is None:
        return layers
    if not 0 <= max_layer < layers:
        raise UsageError(f"max_layer {max_layer} is out of range; the model's layers are 0 to {layers - 1}")
    return max_layer + 1


def _check_selection(layers: int, heads: int, prompts: Sequence[str], selection: Selection) -> None:
    top_k, penalty = selection.top_k, selection.penalty
    if top_k < 1:
        raise UsageError(f"top_k {top_k} is out of range; at least one expert is needed")
    if top_k > layers * heads:
        raise UsageError(
            f"{top_k} experts were asked for, but only {layers * heads} heads are hunted "
            f"({layers} layers x {heads}); ask for fewer or hunt deeper"
        )
    if not (math.isfinite(penalty) and penalty >= 0.0):
        raise UsageError(f"penalty {penalty} is out of range; expected a finite number >= 0")
    if selection.prompt is not None:
        _known_prompt(selection.prompt, prompts)


def _check_shapes(
    features: Floating, labels: BoolArray, prompts: Sequence[str], videos: Sequence[str] | None
) -> None:
    if features.ndim != 5 or 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        raise FeatureError(
            f"features are {features.dtype} {features.shape}; "
            f"expected floating point (videos, prompts, layers, heads, head_dim), none of them 0"
        )
    if len(prompts) != features.shape[1] or len(set(prompts)) != len(prompts):
        raise FeatureError(
            f"{len(prompts)} prompt names ({len(set(prompts))} different) "
            f"for features under {features.shape[1]} prompts"
        )
    if videos is not None and len(videos) != features.shape[0]:
        raise FeatureError(f"{len(videos)} video names for features of {features.shape[0]} videos")
    check_labels(labels, features.shape[0])


def _check_finite(features: Floating, prompts: Sequence[str], videos: Sequence[str] | None) -> None:
    # Video by video: a mask of all features at once would take a quarter of their memory again.
    for n, of_video in enumerate(features):
        bad = ~np.isfinite(of_video)
        if bad.any():
            m, layer, head, _ = (int(i) for i in np.argwhere(bad)[0])
            name = f"video {n}" if videos is None else f"video {videos[n]!r}"
            raise FeatureError(
                f"{name}, prompt {prompts[m]!r}, layer {layer}, head {head}: "
                f"{int(bad[m, layer, head].sum())} feature values are not finite; extract it again"
            )
