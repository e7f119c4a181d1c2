"""The graphs of a model at a precision, written, opened where they will run, and compared with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import GrowingSpec, Precision
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import Engine, FloatArray, GraphFiles
from edge_runtime.inference.engines import open_graphs
from edge_runtime.inference.growing import GrowingSequence
from edge_runtime.inference.precisions import PRECISIONS, parity_tolerance
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_growing, export_language, export_vision
from export.parity import Parity, centred_cosine, expert_features, measure_parity, require_parity, require_same
from export.precision.int8 import Range
from export.precision.observe import linear_layers, observe_noise, observe_ranges
from export.precision.rounding import Rounded, Rounding
from export.precision.search import Noise, limits, search
from export.publish import GROWING, LANGUAGE, VISION
from export.torch_onnx import tensor_specs
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """What is deployed, where it is written and what it is tried on.

    Attributes:
        mllm: The model.
        prompt: Baked into the language graph.
        experts: In rank order.
        segment: How segments are sampled.
        samples: Real segments, uint8 (B, F, H, W, 3).
        folder: Where the graphs go.
        provider: What runs them; a name of the table of providers.
    """

    mllm: Mllm
    prompt: Prompt
    experts: Sequence[HeadRef]
    segment: SegmentSpec
    samples: NDArray[np.uint8]
    folder: Path
    provider: str


@dataclass(frozen=True, slots=True, eq=False)
class Deployed:
    """The graphs.

    Attributes:
        graphs: Opened.
        vision: What became of the tower.
        language: What became of the decoder.
        ends: Where each group of frames ends in the sequence, for the decoder's growing form.
        parity: How far they are from the model in float32.
    """

    graphs: Engine
    vision: Rounded
    language: Rounded
    ends: list[int]
    parity: Parity


def deploy(job: Deployment, precision: Precision, say: Callable[[str], None]) -> Deployed:
    """Write the graphs and compare them with the model, and the decoder's growing form with its plain one.

    Args:
        job: Of what, where.
        precision: fp32, bf16, fp16, or int8 as far as the model bears it.
        say: Told of every step that takes long.

    Raises:
        ParityError: The graphs do not give what the model gives.
        CheckpointError: A weight cannot be read.
        HeadHuntError: Of the engine, where it cannot run the graphs.
    """
    writer = _Writer(job)
    if precision == "int8":
        wanted, graphs = _searched(job, writer, say)
    else:
        wanted = _model_features(job)
        graphs = writer.write(Rounding(precision))
    rounded, engine = graphs
    vision, language = rounded
    parity = measure_parity(
        wanted, engine, job.samples, parity_tolerance([precision, vision.precision, language.precision])
    )
    require_parity(parity)
    plain = engine.features(job.samples[:1])
    # One decoder at a time: two could be more than the memory.
    engine.close()
    ends = writer.write_growing(rounded, plain)
    return Deployed(writer.open(rounded), vision, language, ends, parity)


def features_of_both(
    job: Deployment, precision: Precision, say: Callable[[str], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of the model in float32 and of its graphs, which need not agree.

    In int8 as many products are rounded as the search for a bundle tries at first: what it gives back later depends
    on the experts, who are not known where heads are compared.

    Args:
        job: Of which heads, where; what is written there is of no further use.
        precision: Of the graphs.
        say: Told of every step that takes long.

    Returns:
        float32 (B, K·d) each, in the experts' order; those of the graphs may have values that are not finite.

    Raises:
        CheckpointError: A weight cannot be read.
        HeadHuntError: Of the engine, where it cannot run the graphs.
    """
    rounding = Rounding(precision)
    if precision == "int8":
        wanted, ranges, noise = _watched(job, say)
        rounding = Rounding(precision, ranges, noise.kept(*next(limits())))
    else:
        wanted = _model_features(job)
    _, engine = _Writer(job).write(rounding)
    try:
        found = [engine.language(engine.tokens(one[None]))[0] for one in job.samples]
    finally:
        engine.close()
    return wanted, np.stack(found)


def growing_spec(folder: Path, precision: Precision, ends: list[int]) -> GrowingSpec:
    """What a manifest says of the `growing.onnx` in a folder; the layers that were kept aside.

    Args:
        folder: Where it is.
        precision: Of the decoder.
        ends: As of `Deployed`.
    """
    inputs, outputs = tensor_specs(folder / GROWING)
    return GrowingSpec(file=GROWING, precision=precision, inputs=inputs, outputs=outputs, ends=ends)


# What one product bears hardly depends on the segment, and another pass over all would take as long as the first.
_FOR_NOISE = 1
_Graphs = tuple[tuple[Rounded, Rounded], Engine]


def _searched(job: Deployment, writer: _Writer, say: Callable[[str], None]) -> tuple[NDArray[np.float32], _Graphs]:
    """Graphs in int8 as far as the model bears it, and its own features."""
    wanted, ranges, noise = _watched(job, say)
    last: list[_Graphs] = []

    def attempt(kept: frozenset[str]) -> float:
        while last:
            last.pop()[1].close()
        last.append(writer.write(Rounding("int8", ranges, kept)))
        engine = last[0][1]
        return centred_cosine(wanted, np.concatenate([engine.features(one[None]) for one in job.samples]))

    search(noise, attempt, say)
    return wanted, last[0]


def _watched(job: Deployment, say: Callable[[str], None]) -> tuple[NDArray[np.float32], Mapping[str, Range], Noise]:
    """The model's own features, the ranges that its activations took, and what 8 bits cost each product."""
    say("Watching the ranges of activations")
    with observe_ranges(job.mllm) as ranges:
        wanted = _model_features(job)
    say("Measuring what 8 bits cost each product")
    with observe_noise(job.mllm, ranges) as measured:
        _model_features(replace(job, samples=job.samples[:_FOR_NOISE]))
    tower = linear_layers(job.mllm, job.mllm.vision.stages).keys()
    noise = Noise(
        {name: value for name, value in measured.items() if name in tower},
        {name: value for name, value in measured.items() if name not in tower},
    )
    return wanted, ranges, noise


def _model_features(job: Deployment) -> NDArray[np.float32]:
    return expert_features(job.mllm, job.prompt, job.experts, job.samples, job.segment)


class _Writer:
    """Writes both graphs into a folder, and only what a change of the rounding concerns."""

    def __init__(self, job: Deployment) -> None:
        self._job = job
        self._known: dict[str, tuple[Rounding, Rounded]] = {}

    def write(self, rounding: Rounding) -> _Graphs:
        """Both graphs, opened."""
        job = self._job
        tower = linear_layers(job.mllm, job.mllm.vision.stages).keys()
        vision = self._once(
            VISION,
            replace(rounding, kept=rounding.kept & tower),
            lambda one: export_vision(job.mllm, job.folder, one),
        )
        language = self._once(
            LANGUAGE,
            replace(rounding, kept=rounding.kept - tower),
            lambda one: export_language(job.mllm, job.prompt, job.experts, job.segment, job.folder, one),
        )
        return (vision, language), self.open((vision, language))

    def open(self, rounded: tuple[Rounded, Rounded], growing: GrowingSpec | None = None) -> Engine:
        """What is written; with the decoder's growing form where that is given."""
        job = self._job
        language = LANGUAGE if growing is None else growing.file
        precisions = (rounded[0].precision, rounded[1].precision)
        files = GraphFiles(job.folder / VISION, job.folder / language, job.mllm.frames_per_group, precisions, growing)
        return open_graphs(files, job.provider)

    def write_growing(self, rounded: tuple[Rounded, Rounded], wanted: FloatArray) -> list[int]:
        """Write the decoder's growing form beside the plain one, and let both see the first sample.

        Args:
            rounded: What became of the plain ones.
            wanted: float32 (1, K·d), what those give.

        Returns:
            Where each group of frames ends in the sequence.

        Raises:
            ParityError: The growing form gives something else.
        """
        job, (rounding, _) = self._job, self._known[LANGUAGE]
        ends = export_growing(job.mllm, job.prompt, job.experts, job.segment, job.folder, rounding)
        precision = rounded[1].precision
        spec = growing_spec(job.folder, precision, ends)
        engine = self.open(rounded, spec)
        try:
            group = job.mllm.frames_per_group
            sequence = GrowingSequence(FrameEncoder(group, len(ends)), spec, job.mllm.tokens_per_frame)
            frames = list(job.samples[0])
            for shown in range(group, len(frames), group):
                sequence.prepare(engine, frames[:shown])
            found = sequence.features(engine, job.samples[:1])
            require_same(wanted, found, PRECISIONS[precision].golden_tolerance)
        finally:
            engine.close()
        return ends

    def _once(self, name: str, rounding: Rounding, write: Callable[[Rounding], Rounded]) -> Rounded:
        known = self._known.get(name)
        if known is None or known[0] != rounding:
            self._known[name] = (rounding, write(rounding))
        return self._known[name][1]
