"""The model whose heads are read, and the segments that it is shown."""

from __future__ import annotations

from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.loading import REFERENCE, load
from models.reference import is_trained
from offline.console import Console
from offline.data.dataset import Dataset
from offline.data.segments import median_rate

SAMPLED, FRAMES, DEFAULT_FPS = 16, 48, 30.0


def load_model(name: str, device: str, console: Console) -> Mllm:
    """Load a model, and say so where it is the reference model without training.

    Args:
        name: A Hugging Face id, a folder, or `reference`.
        device: `auto`, `cpu` or `cuda`.
        console: Told of an untrained reference model.

    Raises:
        CheckpointError: The model cannot be used.
    """
    if name == REFERENCE and not is_trained():
        console.say(
            "note: the built-in reference model is untrained here; what is hunted in it proves the plumbing only"
        )
    return load(name, device)


def segment_spec(dataset: Dataset, console: Console, skip_unreadable: bool = False) -> SegmentSpec:
    """Choose 48 frames a segment, 16 of them sampled, at the median rate of the calibration videos.

    Raises:
        SourceUnavailable: A calibration video cannot be opened, and `skip_unreadable` is not set.
    """
    fps = median_rate(dataset.split("calibration"), skip_unreadable)
    if fps is None:
        console.say(f"No calibration video states its frame rate; the bundle assumes {DEFAULT_FPS} frames a second")
    return SegmentSpec(frames=FRAMES, sampled=SAMPLED, fps=DEFAULT_FPS if fps is None else fps)
