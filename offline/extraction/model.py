"""The model whose heads are read, and the segments that it is shown."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.files import format_bytes
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.loading import load
from models.precision import dtype_name
from models.reference import is_trained
from models.reference.architecture import SHAPES
from models.sweep import GIB, Demand, plan_sweep
from offline.console import Console, Progress
from offline.data.dataset import Dataset
from offline.data.segments import median_rate, median_size

SAMPLED, FRAMES, DEFAULT_FPS = 16, 48, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """How a model is loaded and run.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        dtype: What it computes in: `auto`, `float32`, `bfloat16` or `float16`.
        memory: GiB that it may take; None for most of what is free.
        stream_layers: Whether weights are read layer by layer; None where they do not fit otherwise.
        system_message: A text, `none`, `model`, or None for what the chat template does.
    """

    device: str = "auto"
    dtype: str = "auto"
    memory: float | None = None
    stream_layers: bool | None = None
    system_message: str | None = None

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else int(self.memory * GIB)


def load_model(name: str, use: ModelUse, console: Console) -> Mllm:
    """Open a model, and say so where it is the reference model without training.

    Args:
        name: A Hugging Face id, a folder, or `reference`.
        use: How it is to be run.
        console: Told of an untrained reference model.

    Raises:
        CheckpointError: The model cannot be used.
        UsageError: The device is not there, or lacks the number format.
    """
    if name in SHAPES and not is_trained(name):
        console.say(
            f"note: the built-in model {name} is untrained here; what is hunted in it proves the plumbing only"
        )
    with ExitStack() as stack:
        bar: list[Progress] = []

        def checked(done: int, total: int) -> None:
            # A small model is checked before a bar could be read.
            if total >= GIB and not bar:
                bar.append(stack.enter_context(console.bar("Checking the weights", "MiB")))
            for progress in bar:
                progress(done >> 20, total >> 20)

        return load(name, use.device, use.dtype, use.system_message, checked)


def fit_into_memory(mllm: Mllm, demand: Demand, use: ModelUse, spill: Path, console: Console) -> None:
    """Choose how units go through the model, before the long work begins.

    Args:
        mllm: The model.
        demand: What running it takes.
        use: What it may take.
        spill: A folder for hidden states that do not fit.
        console: Told where the model streams.

    Raises:
        UsageError: The memory does not suffice.
    """
    mllm.sweep = plan_sweep(demand, use.memory_bytes, use.stream_layers, spill)
    if mllm.sweep.streams:
        console.say(
            f"Weights are read layer by layer ({format_bytes(demand.whole)} in {dtype_name(mllm.dtype)}, "
            f"{format_bytes(demand.largest)} at a time), up to {mllm.sweep.units} units together"
        )


def choose_frame_size(mllm: Mllm, dataset: Dataset, segment: SegmentSpec, skip_unreadable: bool = False) -> None:
    """Show frames in the size that fits the calibration videos, where the model takes any.

    Raises:
        SourceUnavailable: A calibration video cannot be opened, and `skip_unreadable` is not set.
    """
    if mllm.takes_any_size:
        height, width = median_size(dataset.split("calibration"), skip_unreadable)
        mllm.use_pixels(mllm.pixels_for(height, width, segment))


def segment_spec(
    dataset: Dataset,
    console: Console,
    skip_unreadable: bool = False,
    frames: int = FRAMES,
    sampled: int = SAMPLED,
) -> SegmentSpec:
    """Choose the rate of segments: the median of the calibration videos.

    Raises:
        SourceUnavailable: A calibration video cannot be opened, and `skip_unreadable` is not set.
    """
    fps = median_rate(dataset.split("calibration"), skip_unreadable)
    if fps is None:
        console.say(f"No calibration video states its frame rate; the bundle assumes {DEFAULT_FPS} frames a second")
    return SegmentSpec(frames=frames, sampled=sampled, fps=DEFAULT_FPS if fps is None else fps)
