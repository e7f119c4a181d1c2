"""A family that InternVL is not: frames without any text between them, positions along three axes, DeepStack.

Its vision tower is one convolution; its decoder is transformers' own of Qwen3-VL. `ToyForConditionalGeneration` works
out positions and additions from `input_ids` in a way of its own, so that it can be the adapter's oracle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from checkpoints import write_seeded
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.families.registry import Family
from models.layout import TokenLayout
from models.normalisation import Normalisation, read_normalisation
from models.reference.architecture import build_tokenizer
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.vision import VisionTower

SIZE, PATCH = 16, 8
SIDE = SIZE // PATCH
# Qwen3-VL adds after its lowest layers, one after the other.
ADDITIONS_AFTER = (0, 1)

TOY = Family(
    name="Toy",
    adapter="toy_family:Toy",
    model="toy_family:ToyForConditionalGeneration",
    decoders=("qwen3_vl_text",),
)


class ToyConfig(PreTrainedConfig):
    model_type = "toy"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": Qwen3VLTextConfig}

    def __init__(self, text_config: Any = None, image_token_id: int = 0, **values: Any) -> None:
        self.text_config = Qwen3VLTextConfig(**text_config) if isinstance(text_config, dict) else text_config
        self.image_token_id = image_token_id
        super().__init__(**values)


class ToyModel(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.visual = nn.Conv2d(3, config.text_config.hidden_size * (1 + len(ADDITIONS_AFTER)), PATCH, PATCH)
        self.language_model = Qwen3VLTextModel(config.text_config)


class ToyForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    config_class = ToyConfig
    _supports_sdpa = True

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.model = ToyModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.model.language_model.embed_tokens

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Any:
        """input_ids (b, s), all alike; pixel_values (b·F, 3, S, S)."""
        width = self.config.text_config.hidden_size
        wide = self.model.visual(pixel_values).flatten(2).transpose(1, 2).reshape(-1, width * 3)
        mask = input_ids == self.config.image_token_id
        hidden = self.get_input_embeddings()(input_ids).clone()
        hidden[mask] = wide[:, :width]
        axes, start, number = [], 0, 0
        for token in input_ids[0].tolist():
            if token == self.config.image_token_id:
                frame, place = divmod(number, SIDE * SIDE)
                axes.append((start + frame, start + place // SIDE, start + place % SIDE))
                number += 1
            else:
                if number:
                    start, number = max(map(max, axes)) + 1, 0
                axes.append((start, start, start))
                start += 1
        return self.model.language_model(
            inputs_embeds=hidden,
            position_ids=torch.tensor(axes).T[:, None].expand(-1, len(input_ids), -1),
            visual_pos_masks=mask,
            deepstack_visual_embeds=[wide[:, width : 2 * width], wide[:, 2 * width :]],
            use_cache=False,
        )


class ToyPatches(nn.Module):
    def __init__(self, model: Any, normalisation: Normalisation) -> None:
        super().__init__()
        self.patches = normalisation.folded(model.model.visual)

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 (n, 1, S, S, 3) to (n, T, 3·D)."""
        return (self.patches(frames.squeeze(1).permute(0, 3, 1, 2).float()).flatten(2).transpose(1, 2),)


class Toy(TransformersMllm):
    frames_per_group = 1
    tokens_per_frame = SIDE * SIDE
    additions_after = ADDITIONS_AFTER
    pixels = PixelSpec(size=SIZE)
    vision_grid = SIDE * SIDE, 96

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.visual_id = checkpoint.model.config.image_token_id
        self._normalisation = read_normalisation(checkpoint.folder, Normalisation((0.5,) * 3, (0.25,) * 3))
        with checkpoint.weights.held(checkpoint.model.model.visual):
            self.vision = VisionTower([ToyPatches(checkpoint.model, self._normalisation)])

    def write_video(self, segment: SegmentSpec) -> str:
        return "<IMG_CONTEXT>" * (segment.sampled * self.tokens_per_frame)

    def positions(self, layout: TokenLayout) -> Tensor:
        """Text counts along all three axes at once; frames along time, rows and columns from where they begin."""
        frames, head = len(layout.before), len(layout.before[0])
        grid = torch.cartesian_prod(torch.arange(frames), torch.arange(SIDE), torch.arange(SIDE)).T + head
        tail = torch.arange(len(layout.after)) + int(grid.max()) + 1
        return torch.cat([torch.arange(head).expand(3, -1), grid, tail.expand(3, -1)], dim=1)[:, None]

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        pixels = self._normalisation.apply(frames, self.device)
        return self.plain.model.visual(pixels).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        return {"pixel_values": self._normalisation.apply(frames.reshape(-1, *frames.shape[2:]), self.device)}


def write_toy(folder: Path, layers: int = 4) -> Path:
    """A whole checkpoint folder of seeded weights."""
    tokenizer = build_tokenizer([])
    text = Qwen3VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 2, 2]},
        pad_token_id=tokenizer.pad_token_id,
    )
    visual_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    config = ToyConfig(text_config=text, image_token_id=visual_id, architectures=["ToyForConditionalGeneration"])
    write_seeded(folder, ToyForConditionalGeneration, config, tokenizer)
    document = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    return folder
