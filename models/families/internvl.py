"""The InternVL family (transformers' InternVLForConditionalGeneration): its vision tower and its markup."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import PixelSpec
from models.layout import FrameMarkup
from models.normalisation import IMAGENET, Normalisation, read_normalisation
from models.transformers_mllm import Checkpoint, TransformersMllm


class InternVLVision(nn.Module):
    """uint8 RGB frames to visual tokens: patch embedding, vision tower, pixel shuffle, projector.

    Scaling and mean/std are folded into the patch embedding.
    """

    def __init__(self, model: Any, normalisation: Normalisation) -> None:
        super().__init__()
        self.model = model.model
        self.patches = normalisation.folded(model.model.vision_tower.embeddings.patch_embeddings.projection)
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (n, 1, S, S, 3) to (n, T, D)."""
        pixels = frames.squeeze(1).permute(0, 3, 1, 2).to(self.patches.weight.dtype)
        tower = self.model.vision_tower
        patches = self.patches(pixels).flatten(2).transpose(1, 2)  # (n, P, W)
        hidden = torch.cat([tower.embeddings.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        if tower.embeddings.position_embeddings is not None:
            hidden = hidden + tower.embeddings.position_embeddings
        for layer in tower.encoder.layer:
            hidden = layer(hidden)
        hidden = tower.layernorm(hidden)
        hidden = hidden[:, 1:]  # without the class token
        side = int(hidden.shape[1] ** 0.5)
        grid = hidden.reshape(-1, side, side, hidden.shape[2])
        grid = self.model.pixel_shuffle(grid, scale_factor=self.model.config.downsample_ratio)
        tokens: Tensor = self.model.multi_modal_projector(grid.flatten(1, 2))
        return tokens


class InternVL(TransformersMllm):
    """One loaded InternVL checkpoint. Frames are squares, one group each, written as `Frame1: <img>…</img>`."""

    frames_per_group = 1

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
        self.pixels = PixelSpec(size=int(size))
        self.vision = InternVLVision(checkpoint.model, self._normalisation)
        self.tokens_per_frame = round(size // patch * config.downsample_ratio) ** 2
        self.visual_id = int(config.image_token_id)
        self.markup = FrameMarkup(
            start=_special(tokenizer, "start_image_token", "<img>"),
            context=str(tokenizer.convert_ids_to_tokens(self.visual_id)),
            end=_special(tokenizer, "end_image_token", "</img>"),
        )

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (n, T, D) of uint8 (n, S, S, 3) by the plain transformers path; see TransformersMllm."""
        config = self._model.config
        outputs = self._model.model.get_image_features(
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
