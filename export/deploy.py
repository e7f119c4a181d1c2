"""Both graphs of a model at a precision, written, opened where they will run, and compared with the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Precision
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_graphs
from edge_runtime.inference.precisions import parity_tolerance
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_language, export_vision
from export.parity import Parity, centred_cosine, expert_features, measure_parity, require_parity
from export.precision.observe import linear_layers, observe_noise, observe_ranges
from export.precision.rounding import Rounded, Rounding
from export.precision.search import Noise, search
from export.publish import LANGUAGE, VISION
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
        parity: How far they are from the model in float32.
    """

    graphs: Engine
    vision: Rounded
    language: Rounded
    parity: Parity


def deploy(job: Deployment, precision: Precision, say: Callable[[str], None]) -> Deployed:
    """Write both graphs and compare them with the model.

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
    (vision, language), engine = graphs
    parity = measure_parity(
        wanted, engine, job.samples, parity_tolerance([precision, vision.precision, language.precision])
    )
    require_parity(parity)
    return Deployed(engine, vision, language, parity)


# What one product bears hardly depends on the segment, and another pass over all would take as long as the first.
_FOR_NOISE = 1
_Graphs = tuple[tuple[Rounded, Rounded], Engine]


def _searched(job: Deployment, writer: _Writer, say: Callable[[str], None]) -> tuple[NDArray[np.float32], _Graphs]:
    """Graphs in int8 as far as the model bears it, and its own features."""
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
    last: list[_Graphs] = []

    def attempt(kept: frozenset[str]) -> float:
        while last:
            last.pop()[1].close()
        last.append(writer.write(Rounding("int8", ranges, kept)))
        engine = last[0][1]
        return centred_cosine(wanted, np.concatenate([engine.features(one[None]) for one in job.samples]))

    search(noise, attempt, say)
    return wanted, last[0]


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
        engine = open_graphs(
            job.folder / VISION,
            job.folder / LANGUAGE,
            job.provider,
            job.mllm.frames_per_group,
            (vision.precision, language.precision),
        )
        return (vision, language), engine

    def _once(self, name: str, rounding: Rounding, write: Callable[[Rounding], Rounded]) -> Rounded:
        known = self._known.get(name)
        if known is None or known[0] != rounding:
            self._known[name] = (rounding, write(rounding))
        return self._known[name][1]
