"""transformers' own processors, as oracles of what a family's sequence and pixels are.

Those of videos need torchvision's Python; torchvision_path makes it importable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision_path import FOLDER

from edge_runtime.stream.segments import SegmentSpec, sample_indices


def use_torchvision() -> None:
    """Skip the test where transformers cannot have found torchvision; see torchvision_path."""
    if not FOLDER:
        pytest.skip("TORCHVISION_FOLDER is not set: pip install --no-deps --target FOLDER torchvision")


def metadata(segment: SegmentSpec) -> Any:
    """A segment as the processors are told of a video from which frames were taken."""
    from transformers.video_utils import VideoMetadata

    return VideoMetadata(
        total_num_frames=segment.frames,
        fps=segment.fps,
        duration=segment.frames / segment.fps,
        frames_indices=sample_indices(segment.frames, segment.sampled).tolist(),
    )


def processed(processor: Any, frames: NDArray[np.uint8], question: str, segment: SegmentSpec) -> dict[str, Any]:
    """What a processor makes of one segment's frames, uint8 (F, H, W, 3) RGB, and a question."""
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question.strip()}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    begun = processor.tokenizer.bos_token is not None and text.startswith(processor.tokenizer.bos_token)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    inputs: dict[str, Any] = dict(
        processor(
            text=[text],
            videos=[video],
            video_metadata=[metadata(segment)],
            do_sample_frames=False,
            add_special_tokens=not begun,
            return_tensors="pt",
        )
    )
    return inputs
