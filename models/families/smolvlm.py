"""SmolVLM2 (transformers' SmolVLMForConditionalGeneration): a SigLIP tower, and frames with their times."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import MOST_PIXELS, PixelSpec
from edge_runtime.stream.segments import SegmentSpec, sample_indices
from models.normalisation import HALF, stated_interpolation, stated_normalisation, video_processor_config
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.vision import Block, VisionTower

# Stands for the 0 of a pixel. No format loses it, and no token shows it.
_ALMOST_NOTHING = 1e-6
# Of its processor: the longest side that it enlarges frames to.
_LARGEST = 4096


class _Embed(nn.Module):
    """Pixels to patch embeddings; scaling and mean/std are folded into the convolution."""

    def __init__(self, embeddings: Any, patches: nn.Conv2d, positions: Tensor) -> None:
        super().__init__()
        self.patches = patches
        self.table = embeddings.position_embedding
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 (n, 1, S, S, 3) to (n, P, W)."""
        patches = self.patches(frames.squeeze(1).permute(0, 3, 1, 2).float()).flatten(2).transpose(1, 2)
        return (patches.to(self.table.weight.dtype) + self.table(self.positions),)


class _Connect(nn.Module):
    """Norm, pixel shuffle and projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.norm = model.vision_model.post_layernorm
        self.connector = model.connector

    def forward(self, hidden: Tensor) -> tuple[Tensor]:
        """(n, P, W) to tokens (n, T, D)."""
        return (self.connector(self.norm(hidden)),)


class SmolVLM(TransformersMllm):
    """One loaded SmolVLM2 checkpoint. Frames are squares, one group each, each written behind its time."""

    frames_per_group = 1

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse what would not be exported exactly; see TransformersMllm."""
        super().check_config(config)
        vision = config.vision_config
        size, patch, scale = vision.image_size, vision.patch_size, config.scale_factor
        if not isinstance(size, int) or not isinstance(patch, int):
            raise CheckpointError(
                f"the vision tower takes {size} pixels in patches of {patch}; only squares are supported, given as "
                "one number each"
            )
        if not (side := size // patch) or side % scale:
            raise CheckpointError(
                f"{size} pixels in patches of {patch} give {side} patches a side; only multiples of scale_factor, "
                f"{scale}, are supported"
            )

    @classmethod
    def read_template(cls, checkpoint: Checkpoint) -> str:
        """The one that the processor takes for videos, whatever the folder's says."""
        from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

        return str(DEFAULT_CHAT_TEMPLATE)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config, inner = checkpoint.model.config, checkpoint.model.model
        size, patch = int(config.vision_config.image_size), int(config.vision_config.patch_size)
        path, document = video_processor_config(checkpoint.folder)
        self._normalisation = stated_normalisation(path, document, HALF)
        self.pixels = PixelSpec(
            size=size,
            interpolation=stated_interpolation(path, document, "lanczos"),
            longest_edge=_longest_edge(path, document),
        )
        embeddings = inner.vision_model.embeddings
        with checkpoint.weights.held(embeddings.patch_embedding):
            patches = self._normalisation.folded(embeddings.patch_embedding)
        blocks = [Block(layer, attention_mask=None) for layer in inner.vision_model.encoder.layers]
        embed = _Embed(embeddings, patches, _positions(embeddings, size))
        self.vision = VisionTower([embed, *blocks, _Connect(inner)])
        self.vision_grid = (size // patch) ** 2, int(config.vision_config.hidden_size)
        self.tokens_per_frame = int((size // patch) ** 2 / config.scale_factor**2)
        self.visual_id = int(config.image_token_id)

    @property
    def language(self) -> Any:
        """See TransformersMllm."""
        return self._model.model.text_model

    def write_video(self, segment: SegmentSpec) -> str:
        """An introduction with the number of frames and the length, then each frame behind its time."""
        from num2words import num2words
        from transformers.models.smolvlm.processing_smolvlm import (
            DEFAULT_MEDIA_OUTTRO,
            DEFAULT_VIDEO_INTRO,
            FRAME_TIMESTAMP_MESSAGE,
        )

        tokenizer = self._tokenizer
        around = getattr(tokenizer, "fake_image_token", "<fake_token_around_image>")
        opening = getattr(tokenizer, "global_image_token", "<global-img>")
        picture = around + opening + tokenizer.convert_ids_to_tokens(self.visual_id) * self.tokens_per_frame + around
        length = timedelta(seconds=int(segment.duration_s))
        text = DEFAULT_VIDEO_INTRO.format(frame_count=num2words(segment.sampled), video_duration=str(length))
        for index in sample_indices(segment.frames, segment.sampled).tolist():
            minutes, seconds = divmod(int(index / segment.fps), 60)
            text += FRAME_TIMESTAMP_MESSAGE.format(timestamp=f"{minutes:02d}:{seconds:02d}") + picture
        return str(text + DEFAULT_MEDIA_OUTTRO)

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (n, T, D) of uint8 (n, S, S, 3) by the plain transformers path; see TransformersMllm."""
        pixels = self.plain_pixels(frames[None])
        tokens = self.plain.model.get_image_features(**pixels, return_dict=True).pooler_output
        joined = torch.cat(tokens)
        return joined.reshape(len(frames), -1, joined.shape[-1])

    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`pixel_values` (b, F, 3, S, S); see TransformersMllm."""
        pixels = self._normalisation.apply(frames.reshape(-1, *frames.shape[2:]), self.device)
        # transformers takes a picture that is 0 everywhere for padding and drops it; then its tokens are missing and
        # the pass fails. Here nothing is padding: a covered camera's picture of the mean colour, black where that is
        # 0, is one to be scored as any other. (Under the usual mean of a half there is none: 127.5 is no pixel.)
        pixels[~pixels.flatten(1).any(dim=1), 0, 0, 0] = _ALMOST_NOTHING
        return {"pixel_values": pixels.reshape(*frames.shape[:2], *pixels.shape[1:])}


def _longest_edge(path: Path, document: dict[str, Any]) -> int:
    """To what its processor resizes frames, before it makes them squares."""
    sampling = document.get("video_sampling")
    # What holds for pictures goes before what is said of videos; both go before the processor's own default.
    of_videos = sampling.get("video_size") if isinstance(sampling, dict) else {"longest_edge": 4 * 364}
    size = document.get("size", of_videos)
    edge = size.get("longest_edge") if isinstance(size, dict) else None
    if not isinstance(edge, int) or not 1 <= edge <= MOST_PIXELS:
        raise CheckpointError(f"{path.name}: size {size} gives no longest_edge of 1 to {MOST_PIXELS} pixels")
    return min(edge, _LARGEST)


def _positions(embeddings: Any, size: int) -> Tensor:
    """Which row of the position table each patch of a whole square takes, (P,), by transformers' own arithmetic."""
    side, caught = size // embeddings.patch_size, []

    def look_up(ids: Tensor) -> Tensor:
        caught.append(ids)
        return torch.zeros(1, side * side, 1)

    stand_in = SimpleNamespace(
        patch_size=embeddings.patch_size,
        num_patches_per_side=embeddings.num_patches_per_side,
        patch_embedding=lambda _pixels: torch.zeros(1, 1, side, side),
        position_embedding=look_up,
    )
    whole = torch.ones(1, side, side, dtype=torch.bool)
    type(embeddings).forward(stand_in, pixel_values=torch.zeros(1, 3, size, size), patch_attention_mask=whole)
    return caught[0][0]
