"""LLaVA-OneVision (LlavaOnevisionForConditionalGeneration): a SigLIP tower, pooled frames in one run of tokens."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.normalisation import CLIP, stated_interpolation, stated_normalisation, video_processor_config
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.vision import Block, VisionTower


class _Embed(nn.Module):
    """Pixels to patch embeddings; scaling and mean/std are folded into the convolution."""

    def __init__(self, embeddings: Any, patches: nn.Conv2d) -> None:
        super().__init__()
        self.patches = patches
        self.table = embeddings.position_embedding

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 (n, 1, S, S, 3) to (n, P, W)."""
        patches = self.patches(frames.squeeze(1).permute(0, 3, 1, 2).float()).flatten(2).transpose(1, 2)
        return (patches.to(self.table.weight.dtype) + self.table.weight,)


class _Project(nn.Module):
    """Projector, then bilinear pooling of each frame's grid to half its side, rounded up."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.projector = model.multi_modal_projector
        # A method of the whole model, which must not become a part of this module.
        self._pool = functools.partial(type(model).apply_pooling, SimpleNamespace(config=model.config))

    def forward(self, hidden: Tensor) -> tuple[Tensor]:
        """(n, P, W) to tokens (n, T, D)."""
        return (self._pool(self.projector(hidden)),)


class LlavaOnevision(TransformersMllm):
    """One loaded LLaVA-OneVision checkpoint. Frames are squares, one group each, with nothing between them.

    Behind the last frame stands one more token that shows nothing: the learned `image_newline`.
    """

    frames_per_group = 1
    ids_behind = 1

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse what would not be exported exactly; see TransformersMllm."""
        super().check_config(config)
        vision = config.vision_config
        if vision.model_type != "siglip_vision_model":
            raise CheckpointError(
                f"a {vision.model_type!r} vision tower (vision_config.model_type) is not supported; "
                "supported: siglip_vision_model"
            )
        if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "full":
            raise CheckpointError(
                f"vision_feature_layer {config.vision_feature_layer} with vision_feature_select_strategy "
                f"{config.vision_feature_select_strategy!r} is not supported; supported: -1 with 'full'"
            )
        if not isinstance(vision.image_size, int) or not isinstance(vision.patch_size, int):
            raise CheckpointError(
                f"the vision tower takes {vision.image_size} pixels in patches of {vision.patch_size}; "
                "only squares, given by their side, are supported"
            )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config, inner = checkpoint.model.config, checkpoint.model.model
        size = int(config.vision_config.image_size)
        side = size // int(config.vision_config.patch_size)
        path, document = video_processor_config(checkpoint.folder)
        self._normalisation = stated_normalisation(path, document, CLIP)
        self.pixels = PixelSpec(size=size, interpolation=stated_interpolation(path, document))
        tower = inner.vision_tower
        convolution = tower.embeddings.patch_embedding
        with checkpoint.weights.held(convolution):
            patches = self._normalisation.folded(convolution)
        # The projector takes what the last layer gives: neither the tower's last norm nor its head is run.
        blocks = [Block(layer, attention_mask=None) for layer in tower.encoder.layers]
        self.vision = VisionTower([_Embed(tower.embeddings, patches), *blocks, _Project(inner)])
        self.vision_grid = side**2, int(config.vision_config.hidden_size)
        self.tokens_per_frame = ((side + 1) // 2) ** 2
        self.visual_id = int(config.video_token_id)

    def write_video(self, segment: SegmentSpec) -> str:
        """One run of the video token, with one more for the newline; see TransformersMllm."""
        token = str(self._tokenizer.convert_ids_to_tokens(self.visual_id))
        return token * (segment.sampled * self.tokens_per_frame + self.ids_behind)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Embeddings (1, len(ids), D) of constant text, in which the video token is the newline; see Mllm."""
        found = super().embed(ids)
        places = [place for place, one in enumerate(ids) if one == self.visual_id]
        if places:
            name = self.weights.name_of(self._model.model.image_newline)
            found[0, places] = self.weights.read(name).to(found)
        return found

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (n, T, D) of uint8 (n, S, S, 3) by the plain transformers path; see TransformersMllm."""
        video = self.plain.model.get_video_features(**self.plain_pixels(frames[None]), return_dict=True)
        tokens: Tensor = video.pooler_output[0, : -self.ids_behind]
        return tokens.reshape(len(frames), self.tokens_per_frame, -1)

    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`pixel_values_videos` (b, F, 3, S, S); see TransformersMllm."""
        pixels = self._normalisation.apply(frames.reshape(-1, *frames.shape[2:]), self.device)
        return {"pixel_values_videos": pixels.reshape(*frames.shape[:2], *pixels.shape[1:])}
