"""Tiny Qwen2.5-VL and Qwen3-VL checkpoints of odd geometries, written by transformers' own save_pretrained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checkpoints import write_seeded
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from models.reference.architecture import build_tokenizer

# 4 pixels a patch and 2 x 2 patches a token: 8 pixels a token's side.
SIDE = 8
MARKS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")

# Both families write a video alike; Qwen2.5-VL begins with a system message of its own.
_TEMPLATE = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
)


def write_qwen2_5_vl(folder: Path, layers: int = 3, text: dict[str, Any] | None = None) -> Path:
    """Windows of 2 x 2 tokens below and above one layer that sees all."""
    tokenizer = _tokenizer(_TEMPLATE.replace("SYSTEM", _SYSTEM))
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, layers, hidden_size=48) | (text or {}),
        vision_config={
            "depth": 3,
            "hidden_size": 24,
            "intermediate_size": 20,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 2 * SIDE,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 48,
            "tokens_per_second": 5,
        },
        **_ids(tokenizer),
        architectures=["Qwen2_5_VLForConditionalGeneration"],
    )
    size = {"min_pixels": 4 * SIDE**2, "max_pixels": 30 * SIDE**2}
    # As older checkpoints have it.
    _write_processor(folder / "preprocessor_config.json", size | {"image_processor_type": "Qwen2VLImageProcessor"})
    write_seeded(folder, Qwen2_5_VLForConditionalGeneration, config, tokenizer, neutral=("embed",))
    return folder


def write_qwen3_vl(folder: Path, layers: int = 3) -> Path:
    """Heads wider than their share, positions from a square of 5 x 5, additions from the first and the last layer."""
    tokenizer = _tokenizer(_TEMPLATE.replace("SYSTEM", ""))
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, layers, hidden_size=32, head_dim=12),
        vision_config={
            "depth": 3,
            "hidden_size": 24,
            "intermediate_size": 20,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 25,
            "deepstack_visual_indexes": [0, 2],
        },
        **_ids(tokenizer),
        architectures=["Qwen3VLForConditionalGeneration"],
    )
    size = {"shortest_edge": 60 * SIDE**2, "longest_edge": 200 * SIDE**2}
    video = {"size": size, "video_processor_type": "Qwen3VLVideoProcessor"}
    _write_processor(folder / "video_preprocessor_config.json", video)
    image = {"size": size, "image_processor_type": "Qwen2VLImageProcessor"}
    _write_processor(folder / "preprocessor_config.json", image)
    write_seeded(folder, Qwen3VLForConditionalGeneration, config, tokenizer, neutral=("embed",))
    return folder


def copied(folder: Path, target: Path, file: str = "preprocessor_config.json", **values: object) -> Path:
    """A checkpoint, with other values in one of its JSON files."""
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    path = target / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return target


def _tokenizer(template: str) -> Any:
    core = build_tokenizer(["< 0 . 1 seconds > You are a helpful assistant"]).backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<|im_end|>"
    )
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def _text(tokenizer: Any, layers: int, **sizes: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "intermediate_size": 40,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 3, 2]},
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        **sizes,
    }


def _ids(tokenizer: Any) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def _write_processor(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.25, 0.3],
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    path.write_text(json.dumps(common | document))
