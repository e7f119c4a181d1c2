"""The InternVL family (transformers' InternVLForConditionalGeneration). Knows its config and its modules.

Geometry is read from the config and from the weights, never assumed: a head may be wider than width / heads,
keys and values may be grouped, the decoder may be Qwen2, Qwen3 or Llama.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import PixelSpec
from models.capture import capture_heads, stack_heads
from models.decoder import Decoder
from models.family import Answer, Geometry, Mllm, SourceModel
from models.files import read_json
from models.generate import likeliest_answer
from models.layout import FrameMarkup, TokenLayout, build_layout
from models.prompts import Prompt

# What the InternVL checkpoints were trained with, where a folder holds no preprocessor config.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Decoders that are nothing but their projections, norms and rotary positions: others scale or gate in between.
_DECODERS = ("qwen2", "qwen3", "llama")


class InternVLVision(nn.Module):
    """uint8 RGB frames to visual tokens: patch embedding, vision tower, pixel shuffle, projector.

    Scaling and mean/std are folded into the patch embedding. That is exact: the patches do not overlap and are
    not padded, so w·(x/255 − mean)/std + b is another convolution of x.
    """

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model.model
        old = model.model.vision_tower.embeddings.patch_embeddings.projection
        weight = old.weight.detach().double()
        scale = torch.tensor(std, dtype=torch.float64).reshape(1, 3, 1, 1)
        shift = torch.tensor(mean, dtype=torch.float64).reshape(1, 3, 1, 1)
        self.patches = nn.Conv2d(3, old.out_channels, old.kernel_size, old.stride)
        with torch.no_grad():
            self.patches.weight.copy_(weight / (255.0 * scale))
            bias = torch.zeros(old.out_channels) if old.bias is None else old.bias.detach()
            self.patches.bias.copy_(bias.double() - (weight * shift / scale).sum(dim=(1, 2, 3)))  # type: ignore[union-attr]
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: uint8 (n, 1, S, S, 3). Returns (n, T, D)."""
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


class InternVL(Mllm):
    """One loaded InternVL checkpoint."""

    def __init__(self, folder: Path, model: Any, tokenizer: Any, source: SourceModel, fingerprint: str) -> None:
        config = model.config
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.source = source
        self.fingerprint = fingerprint
        text = config.text_config
        if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or []):
            raise CheckpointError("the decoder uses sliding windows, which cannot be exported; use another")
        if text.model_type not in _DECODERS:
            raise CheckpointError(
                f"text_config.model_type {text.model_type!r} is not supported; supported: {', '.join(_DECODERS)}"
            )
        if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "default":
            raise CheckpointError(
                f"vision_feature_layer {config.vision_feature_layer} with "
                f"{config.vision_feature_select_strategy!r} is not supported; supported: -1 with 'default'"
            )
        language = model.model.language_model
        attention = language.layers[0].self_attn
        self.geometry = Geometry(
            layers=len(language.layers),
            heads=int(text.num_attention_heads),
            kv_heads=int(text.num_key_value_heads),
            head_dim=int(attention.head_dim),
            width=int(text.hidden_size),
        )
        self.frames_per_group = 1
        height, width = config.vision_config.image_size
        patch = config.vision_config.patch_size
        if height != width or patch[0] != patch[1]:
            raise CheckpointError(
                f"the vision tower takes {height}x{width} pixels in patches of {patch[0]}x{patch[1]}; "
                "only squares are supported"
            )
        mean, std = _normalisation(folder)
        self.pixels = PixelSpec(size=int(height))
        self.vision = InternVLVision(model, mean, std)
        self.decoder = Decoder(list(language.layers), language.rotary_emb, self.geometry)
        self._mean, self._std = mean, std
        self.tokens_per_frame = round(height // patch[0] * config.downsample_ratio) ** 2
        self._context_id = int(config.image_token_id)
        self._markup = FrameMarkup(
            start=_special(tokenizer, "start_image_token", "<img>"),
            context=str(tokenizer.convert_ids_to_tokens(self._context_id)),
            end=_special(tokenizer, "end_image_token", "</img>"),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._model.parameters()).device  # type: ignore[no-any-return]

    def layout(self, prompt: Prompt, frames: int) -> TokenLayout:
        """The token sequence of `frames` frames and a prompt."""
        return build_layout(
            self._tokenizer, self._markup, self._context_id, frames, self.tokens_per_frame, prompt.text
        )

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text."""
        table = self._model.get_input_embeddings()
        return table(torch.tensor([list(ids)], device=self.device, dtype=torch.long))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens by the plain transformers path, from normalised pixels.

        frames: uint8 (n, S, S, 3) RGB. Returns (n, T, D).
        """
        pixels = _tensor(frames).to(self.device).permute(0, 3, 1, 2).to(torch.float32) / 255.0
        mean = torch.tensor(self._mean, device=self.device).reshape(1, 3, 1, 1)
        std = torch.tensor(self._std, device=self.device).reshape(1, 3, 1, 1)
        config = self._model.config
        outputs = self._model.model.get_image_features(
            pixel_values=(pixels - mean) / std,
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            return_dict=True,
        )
        tokens: Tensor = outputs.pooler_output
        return tokens

    @torch.inference_mode()
    def head_features(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Features of every head under every prompt, on one shared prefix.

        frames: uint8 (b, F, S, S, 3) RGB. Returns float32 (b, M, L, H, d_h).
        """
        projections = [layer.self_attn.o_proj for layer in self._model.model.language_model.layers]
        with capture_heads(projections, self.geometry.heads) as caught:
            # Each pass overwrites what was caught of the one before it.
            features = [stack_heads(caught) for _ in self._last_states(frames, prompts)]
        return torch.stack(features, dim=1).numpy()

    @torch.inference_mode()
    def first_token_logits(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Logits of the first answer token under every prompt, on one shared prefix.

        frames: uint8 (b, F, S, S, 3) RGB. Returns float32 (b, M, vocabulary).
        """
        logits = [self._model.lm_head(state) for state in self._last_states(frames, prompts)]
        return torch.stack(logits, dim=1).to("cpu", torch.float32).numpy()

    def _last_states(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> Iterator[Tensor]:
        """The decoder's normed output at the last position (b, D), prompt after prompt.

        Attention is causal and the frames come before the question, so the key/value cache up to the last frame
        is the same for all prompts: exact, and about M times cheaper than M passes.
        """
        batch, count = frames.shape[:2]
        layouts = [self.layout(prompt, count) for prompt in prompts]
        first = layouts[0]
        assert all(layout.before == first.before for layout in layouts)
        tokens = self.visual_tokens(frames.reshape(-1, *frames.shape[2:]))
        tokens = tokens.reshape(batch, count, self.tokens_per_frame, -1)
        pieces: list[Tensor] = []
        for index, run in enumerate(first.before):
            pieces += [self.embed(run).expand(batch, -1, -1), tokens[:, index]]
        language = self._model.model.language_model
        cache = language(inputs_embeds=torch.cat(pieces, dim=1), use_cache=True).past_key_values
        for layout in layouts:
            suffix = self.embed(layout.after).expand(batch, -1, -1)
            yield language(inputs_embeds=suffix, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
            cache.crop(-len(layout.after))

    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames, uint8 (F, S, S, 3) RGB; see Mllm."""
        return likeliest_answer(self._model, self._tokenizer, self.plain_inputs(frames[None], prompt), max_tokens)

    def plain_inputs(self, frames: NDArray[np.uint8], prompt: Prompt) -> dict[str, Tensor]:
        """`input_ids` and `pixel_values` as transformers' own forward and generate take them."""
        batch, count = frames.shape[:2]
        layout = self.layout(prompt, count)
        ids: list[int] = []
        for run in layout.before:
            ids += [*run, *[self._context_id] * self.tokens_per_frame]
        ids += layout.after
        pixels = _tensor(frames.reshape(-1, *frames.shape[2:])).to(self.device)
        mean = torch.tensor(self._mean, device=self.device).reshape(1, 3, 1, 1)
        std = torch.tensor(self._std, device=self.device).reshape(1, 3, 1, 1)
        return {
            "input_ids": torch.tensor([ids] * batch, device=self.device),
            "pixel_values": (pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0 - mean) / std,
        }

    def to(self, device: str) -> None:
        """Move the weights."""
        self._model.to(device)
        self.vision.to(device)

    @property
    def plain(self) -> Any:
        """The transformers model itself, for oracles and for generating text."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer itself."""
        return self._tokenizer


def _tensor(frames: NDArray[np.uint8]) -> Tensor:
    # torch warns of memory that nobody may write to, such as a mapped file's; it is copied only then.
    return torch.from_numpy(np.require(frames, requirements="W"))


def _special(tokenizer: Any, attribute: str, default: str) -> str:
    token = getattr(tokenizer, attribute, None)
    return str(token) if token is not None else default


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel from the folder's preprocessor config."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path := folder / name).is_file():
            document = read_json(path)
            document = document.get("image_processor", document)
            if isinstance(document, dict) and "image_mean" in document and "image_std" in document:
                return _channels(path, "image_mean", document), _channels(path, "image_std", document)
    return IMAGENET_MEAN, IMAGENET_STD


def _channels(path: Path, key: str, document: dict[str, Any]) -> tuple[float, ...]:
    value = document[key]
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(one, float | int) and isfinite(one) for one in value)
        or (key == "image_std" and min(value) <= 0)
    ):
        raise CheckpointError(f"{path}: {key} {value} is not one value for each of three channels")
    return tuple(map(float, value))
