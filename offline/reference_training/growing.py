"""A larger model that begins as a smaller one: more heads and layers which change nothing until they have learned.

What is new writes zeros into the residual stream, so that before its first step the larger model gives the smaller
one's answers (the idea of Net2Net, Chen et al. 2016, with zeros in place of copies, so that no two heads are alike).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import UsageError
from models.reference import is_trained, reference_checkpoint


@torch.no_grad()
def grow(name: str, model: Any, tokenizer: Any) -> None:
    """Give a model the weights of a smaller one that is built in; the rest of it stays as it is, but adds nothing.

    The smaller one's layers are spread over the depth in their order; its heads are the first of their layer.

    Args:
        name: The smaller model, one of SHAPES.
        model: A transformers InternVL model of the same width and sight, with freshly drawn weights; changed.
        tokenizer: The model's. Words are found by their ids, so it must be the smaller one's.

    Raises:
        UsageError: The smaller one is not trained here, or knows other words.
    """
    from transformers import AutoTokenizer, InternVLForConditionalGeneration

    folder = reference_checkpoint(name)
    if not is_trained(name):
        raise UsageError(f"no trained weights of {name!r} to begin with lie in {folder}; train it first")
    if AutoTokenizer.from_pretrained(folder).get_vocab() != tokenizer.get_vocab():
        raise UsageError(f"{folder}: its tokenizer knows other words than those asked today; train it anew first")
    small = InternVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    for part in ("vision_tower", "multi_modal_projector"):
        getattr(model.model, part).load_state_dict(getattr(small.model, part).state_dict())
    words, grown = small.model.language_model, model.model.language_model
    grown.embed_tokens.load_state_dict(words.embed_tokens.state_dict())
    grown.norm.load_state_dict(words.norm.state_dict())
    old = dict(zip(_spread(len(words.layers), len(grown.layers)), words.layers, strict=True))
    for number, layer in enumerate(grown.layers):
        layer.self_attn.o_proj.weight.zero_()
        if number not in old:
            layer.mlp.down_proj.weight.zero_()
            continue
        source = old[number]
        for part in ("mlp", "input_layernorm", "post_attention_layernorm"):
            getattr(layer, part).load_state_dict(getattr(source, part).state_dict())
        for projection in ("q_proj", "k_proj", "v_proj"):
            _copy_rows(getattr(source.self_attn, projection), getattr(layer.self_attn, projection))
        columns = source.self_attn.o_proj.weight.shape[1]
        layer.self_attn.o_proj.weight[:, :columns] = source.self_attn.o_proj.weight


def _spread(few: int, many: int) -> list[int]:
    """Where each of a few layers stands among many: at equal distances, the first at the bottom."""
    return [layer * many // few for layer in range(few)]


def _copy_rows(source: nn.Linear, target: nn.Linear) -> None:
    pairs: tuple[tuple[Tensor, Tensor], ...] = ((source.weight, target.weight), (source.bias, target.bias))
    for old, new in pairs:
        new[: len(old)] = old
