"""Tiny InternVL checkpoints of odd geometries, written by transformers' own save_pretrained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.utils import logging as transformers_logging

from models.reference.architecture import build_tokenizer, write_preprocessor

TEXT = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}


@dataclass(frozen=True)
class Shape:
    """What a checkpoint looks like inside. 32 pixels in patches of 8 give 4 tokens a frame."""

    family: str = "qwen2"
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    width: int = 32
    head_dim: int | None = None
    tied: bool = False
    text: dict[str, Any] = field(default_factory=dict)
    vision: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """A whole checkpoint folder: config, weights, tokenizer, template, normalisation."""
    tokenizer = build_tokenizer([])
    text = text_sizes(tokenizer, shape)
    vision = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": (32, 32),
        "patch_size": (8, 8),
        "attention_bias": True,
        "layer_scale_init_value": 1.0,
        "use_mean_pooling": False,
    }
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**(vision | shape.vision)),
        text_config=TEXT[shape.family](**(text | shape.text)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=shape.tied,
        architectures=["InternVLForConditionalGeneration"],
    )
    write_seeded(folder, InternVLForConditionalGeneration, config, tokenizer, seed)
    write_preprocessor(folder)
    return folder


def text_sizes(tokenizer: Any, shape: Any) -> dict[str, Any]:
    """What a decoder's config says of a shape, one of here or of another family, for a tokenizer."""
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.width,
        "intermediate_size": 48,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    if shape.head_dim is not None:
        sizes["head_dim"] = shape.head_dim
    return sizes


def write_seeded(
    folder: Path,
    model_class: Any,
    config: Any,
    tokenizer: Any,
    seed: int = 0,
    neutral: tuple[str, ...] = ("embed_tokens", "position"),
) -> None:
    """Config, weights and tokenizer of a model by save_pretrained.

    Every parameter is away from its neutral value: a norm, scale or bias that is left out must show.

    Args:
        folder: Made where it is missing.
        model_class: transformers' own.
        config: Of the model.
        tokenizer: Written beside it.
        seed: Equal seeds give equal weights.
        neutral: Tables, by a part of their names, that keep their own spread.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and not any(part in name for part in neutral):
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
            else:
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter) * 0.3)
    transformers_logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
