"""A model's graphs as a build would write them, kept in the work folder for the next measurement of the same ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.commanding import say
from benchmarks.full_size import checkpoint
from benchmarks.measuring import device_of
from benchmarks.processes import room
from edge_runtime.bundle.manifest import GrowingSpec, Precision
from edge_runtime.inference.engine import Engine, GraphFiles
from edge_runtime.inference.engines import builder, open_graphs
from edge_runtime.stream.segments import SegmentSpec
from export.deploy import Deployment, deploy, growing_spec
from export.publish import GROWING, LANGUAGE, VISION
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.transformers_mllm import TransformersMllm

PROMPT = PROMPTS[0]
# int8 is tried on the difference between segments: one has none.
_SAMPLES = 2
# What was written, and that all of it was: written last.
_FACTS = "deployed.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which graphs.

    Attributes:
        model: A checkpoint's folder, `reference`, or a geometry's name.
        frames: Sampled frames of a segment.
        depth: Layers that run; None for all.
        precision: Of the graphs.
        provider: What runs them; None for what a build would take.
    """

    model: str
    frames: int
    depth: int | None
    precision: Precision
    provider: str | None = None

    @property
    def runs_on(self) -> str:
        """The provider."""
        return self.provider or builder(self.precision)

    @property
    def segment(self) -> SegmentSpec:
        """How segments are sampled."""
        return SegmentSpec(frames=48, sampled=self.frames, fps=30)


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """Both graphs, opened.

    Attributes:
        engine: What runs them.
        open_growing: Opens them with the decoder's growing form.
        growing: What a manifest would say of it.
        depth: Layers that run.
        precisions: Of vision and language.
        kept: How many layers of each stayed at a higher precision.
        parity: Their largest difference from the model in float32, as a share of the features' scale.
        size: Bytes of their files.
    """

    engine: Engine
    open_growing: Callable[[], Engine]
    growing: GrowingSpec
    depth: int
    precisions: tuple[str, str]
    kept: tuple[int, int]
    parity: float
    size: int


def open_model(asked: Asked, work: Path, dtype: str) -> TransformersMllm:
    """The model on the device where it competes with the provider; its checkpoint is written where it is not yet."""
    mllm = load(checkpoint(asked.model, work), device_of(asked.runs_on), dtype)
    assert isinstance(mllm, TransformersMllm)
    return mllm


def open_deployed(asked: Asked, mllm: TransformersMllm, work: Path, threads: int | None = None) -> Graphs:
    """The graphs, written where they are not yet. Takes the model's weights out of memory."""
    depth = asked.depth or mllm.geometry.layers
    name = f"{asked.frames}-frames-{depth}-layers-{asked.precision}-{asked.runs_on.replace(':', '-')}"
    folder = room(asked.model, work) / "graphs" / f"{name}-{mllm.fingerprint[:8]}"
    if not (folder / _FACTS).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(asked, mllm, depth, folder)
    mllm.weights.release()
    facts = json.loads((folder / _FACTS).read_text())
    vision, language = facts["precisions"]
    files = GraphFiles(folder / VISION, folder / LANGUAGE, mllm.frames_per_group, (vision, language))
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != _FACTS)
    growing = growing_spec(folder, language, facts["ends"])
    ahead = replace(files, language=folder / GROWING, growing=growing)
    return Graphs(
        open_graphs(files, asked.runs_on, threads),
        partial(open_graphs, ahead, asked.runs_on, threads),
        growing,
        depth,
        (vision, language),
        tuple(facts["kept"]),
        facts["parity"],
        size,
    )


def some_segments(mllm: TransformersMllm, sampled: int) -> NDArray[np.uint8]:
    """Segments of smooth noise that moves: neither all alike nor without any structure.

    Returns:
        uint8 (2, F, H, W, 3).
    """
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_SAMPLES, sampled, 8, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 8 // side for side in (mllm.pixels.height, mllm.pixels.width))
    return np.ascontiguousarray(coarse[:, :, rows][:, :, :, columns])


def _write(asked: Asked, mllm: TransformersMllm, depth: int, folder: Path) -> None:
    say(f"Writing the graphs of {Path(asked.model).name} in {asked.precision} for {asked.runs_on}")
    samples = some_segments(mllm, asked.frames)
    job = Deployment(mllm, PROMPT, _experts(depth), asked.segment, samples, folder, asked.runs_on)
    deployed = deploy(job, asked.precision, say)
    deployed.graphs.close()
    facts: dict[str, Any] = {
        "precisions": [deployed.vision.precision, deployed.language.precision],
        "kept": [len(deployed.vision.kept), len(deployed.language.kept)],
        "parity": deployed.parity.relative,
        "ends": deployed.ends,
    }
    (folder / _FACTS).write_text(json.dumps(facts))


def _experts(depth: int) -> list[HeadRef]:
    """Three in the deepest layer that runs, and two below."""
    last = depth - 1
    return [HeadRef(last, 0), HeadRef(last, 2), HeadRef(last, 1), HeadRef(last // 2, 1), HeadRef(last // 3, 0)]
