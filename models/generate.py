"""Answers in words by transformers' own generate."""

from __future__ import annotations

from typing import Any

import torch

from edge_runtime.errors import CheckpointError, UsageError
from models.family import Answer


@torch.inference_mode()
def likeliest_answer(model: Any, tokenizer: Any, inputs: dict[str, Any], max_tokens: int) -> Answer:
    """Take the likeliest token every time, until the model ends its answer or `max_tokens` are there.

    Args:
        model: The transformers model; its generation config is replaced.
        tokenizer: Its tokenizer.
        inputs: What the model's forward takes, with `input_ids` (1, n).
        max_tokens: The longest answer.

    Raises:
        UsageError: The model has too few positions for the inputs and the answer.
        CheckpointError: Nothing says which token ends an answer.
    """
    from transformers import GenerationConfig

    asked, positions = inputs["input_ids"].shape[1], int(model.config.text_config.max_position_embeddings)
    if asked + max_tokens > positions:
        raise UsageError(
            f"the frames and the question take {asked} of the model's {positions} positions and the answer up to "
            f"{max_tokens}; ask with fewer frames or for a shorter answer"
        )
    ends = _ends(model, tokenizer)
    settings = {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[0]}
    # What is not given here would be taken from the checkpoint, a repetition penalty for instance.
    model.generation_config = GenerationConfig(**settings)
    ids = model.generate(
        **inputs,
        attention_mask=torch.ones_like(inputs["input_ids"]),
        generation_config=GenerationConfig(**settings, max_new_tokens=max_tokens),
    )[0, asked:].tolist()
    cut = len(ids) == max_tokens and ids[-1] not in ends
    return Answer(str(tokenizer.decode(ids, skip_special_tokens=True)).strip(), cut)


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The ids that end an answer: the generation config's, and the tokenizer's own."""
    stated = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(stated if isinstance(stated, list) else [stated])} - {None}
    if not ids:
        raise CheckpointError("neither the tokenizer nor the generation config says which token ends an answer")
    return sorted(int(one) for one in ids)
