"""The InternVL family (transformers' InternVLForConditionalGeneration): its vision tower and its markup."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.layout import FrameMarkup
from models.normalisation import IMAGENET, read_normalisation, stated_interpolation, video_processor_config
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.vision import Block, VisionTower


class _Embed(nn.Module):
    """Pixels to patch embeddings; scaling and mean/std are folded into the convolution."""

    def __init__(self, embeddings: Any, patches: nn.Conv2d) -> None:
        super().__init__()
        self.patches = patches
        self.embeddings = embeddings

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 (n, 1, S, S, 3) to (n, 1 + P, W)."""
        patches = self.patches(frames.squeeze(1).permute(0, 3, 1, 2).float())
        patches = patches.flatten(2).transpose(1, 2).to(self.embeddings.cls_token.dtype)  # (n, P, W)
        hidden = torch.cat([self.embeddings.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        positions = self.embeddings.position_embeddings
        return (hidden if positions is None else hidden + positions,)


class _Project(nn.Module):
    """Pixel shuffle and projector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.norm = model.vision_tower.layernorm
        self.projector = model.multi_modal_projector
        # A method of the whole model, which must not become a part of this module.
        self._shuffle = functools.partial(type(model).pixel_shuffle, None, scale_factor=model.config.downsample_ratio)

    def forward(self, hidden: Tensor) -> tuple[Tensor]:
        """(n, 1 + P, W) to tokens (n, T, D)."""
        hidden = self.norm(hidden)[:, 1:]  # without the class token
        side = int(hidden.shape[1] ** 0.5)
        grid = self._shuffle(hidden.reshape(-1, side, side, hidden.shape[2]))
        return (self.projector(grid.flatten(1, 2)),)


class InternVL(TransformersMllm):
    """One loaded InternVL checkpoint. Frames are squares, one group each, written as `Frame1: <img>…</img>`."""

    frames_per_group = 1
    # OpenGVLab's `chat` puts it in front; the templates of the `-hf` checkpoints do not.
    system_message = (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    )

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse what would not be exported exactly; see TransformersMllm."""
        super().check_config(config)
        if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "default":
            raise CheckpointError(
                f"vision_feature_layer {config.vision_feature_layer} with "
                f"{config.vision_feature_select_strategy!r} is not supported; supported: -1 with 'default'"
            )
        height, width = config.vision_config.image_size
        patch = config.vision_config.patch_size
        if height != width or patch[0] != patch[1]:
            raise CheckpointError(
                f"the vision tower takes {height}x{width} pixels in patches of {patch[0]}x{patch[1]}; "
                "only squares are supported"
            )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config, tokenizer = checkpoint.model.config, checkpoint.tokenizer
        size, patch = config.vision_config.image_size[0], config.vision_config.patch_size[0]
        self._normalisation = read_normalisation(checkpoint.folder, IMAGENET)
        interpolation = stated_interpolation(*video_processor_config(checkpoint.folder))
        self.pixels = PixelSpec(size=int(size), interpolation=interpolation)
        tower = checkpoint.model.model.vision_tower
        convolution = tower.embeddings.patch_embeddings.projection
        with checkpoint.weights.held(convolution):
            patches = self._normalisation.folded(convolution)
        blocks = [Block(layer) for layer in tower.encoder.layer]
        self.vision = VisionTower([_Embed(tower.embeddings, patches), *blocks, _Project(checkpoint.model.model)])
        self.vision_grid = (size // patch) ** 2 + 1, int(config.vision_config.hidden_size)
        self.tokens_per_frame = round(size // patch * config.downsample_ratio) ** 2
        self.visual_id = int(config.image_token_id)
        self.markup = FrameMarkup(
            start=_special(tokenizer, "start_image_token", "<img>"),
            context=str(tokenizer.convert_ids_to_tokens(self.visual_id)),
            end=_special(tokenizer, "end_image_token", "</img>"),
        )

    def write_video(self, segment: SegmentSpec) -> str:
        """`Frame1: <img>…</img>`, a line a frame; see TransformersMllm."""
        return self.markup.write(segment.sampled, self.tokens_per_frame)

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (n, T, D) of uint8 (n, S, S, 3) by the plain transformers path; see TransformersMllm."""
        config, plain = self._model.config, self.plain
        outputs = plain.model.get_image_features(
            pixel_values=self._normalisation.apply(frames, self.device),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            return_dict=True,
        )
        tokens: Tensor = outputs.pooler_output
        return tokens

    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`pixel_values` (b·F, 3, S, S); see TransformersMllm."""
        return {"pixel_values": self._normalisation.apply(frames.reshape(-1, *frames.shape[2:]), self.device)}


def _special(tokenizer: Any, attribute: str, default: str) -> str:
    token = getattr(tokenizer, attribute, None)
    return str(token) if token is not None else default
