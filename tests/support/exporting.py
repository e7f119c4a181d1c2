"""Both graphs of a model, for tests that need a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_language, export_vision
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt


def export_graphs(mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], segment: SegmentSpec, folder: Path) -> None:
    """Write both in float32 into an existing folder."""
    export_vision(mllm, folder)
    export_language(mllm, prompt, experts, segment, folder)
