"""A trained model to the checkpoint that is shipped, in Hugging Face's format."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from models.reference.architecture import write_preprocessor


def write_checkpoint(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write config, fp16 weights, tokenizer, chat template and preprocessor config.

    Args:
        folder: Where to, made where it is missing.
        model: The transformers model; stays as it is.
        tokenizer: Its tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = copy.deepcopy(model).to(torch.float16)
    # How attention was computed in training is nobody's business who loads it.
    for config in (shipped.config, shipped.config.text_config, shipped.config.vision_config):
        config._attn_implementation = None
    shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessor(folder)
    # safetensors makes its file readable by its owner alone.
    (folder / "model.safetensors").chmod(0o644)
