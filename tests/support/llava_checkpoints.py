"""Tiny LLaVA-OneVision checkpoints of odd geometries, and the family's own processor for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints import write_seeded
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from models.reference.architecture import build_tokenizer

# As the family's own template does: what is shown before what is asked, whatever the order of the parts.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Those of pictures must not be taken for those of videos.
OF_PICTURES = {"image_mean": [0.3, 0.3, 0.3], "image_std": [0.9, 0.9, 0.9]}
OF_VIDEOS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


@dataclass(frozen=True)
class LlavaShape:
    """What a checkpoint looks like inside. 43 pixels in patches of 8 give 5 x 5 of them, pooled to 9 tokens."""

    size: int = 43
    patch: int = 8
    layers: int = 2
    vision: dict[str, Any] = field(default_factory=dict)

    @property
    def patches(self) -> int:
        """Patches of a frame."""
        return int((self.size // self.patch) ** 2)


def write_llava(folder: Path, shape: LlavaShape, seed: int = 0) -> Path:
    """A whole checkpoint folder: config, weights, tokenizer, template, processor settings."""
    tokenizer = build_tokenizer([])
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    vision = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": shape.size,
        "patch_size": shape.patch,
        "vision_use_head": False,
    }
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**(vision | shape.vision)),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=shape.layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        architectures=["LlavaOnevisionForConditionalGeneration"],
    )
    write_seeded(folder, LlavaOnevisionForConditionalGeneration, config, tokenizer, seed)
    side = {"size": {"height": shape.size, "width": shape.size}}
    (folder / "preprocessor_config.json").write_text(json.dumps(OF_PICTURES | side))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(OF_VIDEOS | side))
    return folder


def llava_processor(folder: Path, shape: LlavaShape) -> Any:
    """transformers' own processor of a checkpoint; call `use_torchvision` first."""
    from transformers import AutoTokenizer, LlavaOnevisionImageProcessor, LlavaOnevisionProcessor
    from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        video_processor=LlavaOnevisionVideoProcessor.from_pretrained(folder),
        num_image_tokens=shape.patches,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
