"""Several prompts for the price of one: the frames run once, each prompt's question on their key/value cache.

Attention is causal and the frames come before the question, so the cache up to the last frame is the same for all
prompts: exact, and about M times cheaper than M passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the sequence, ready for the decoder.

    Attributes:
        embeddings: (b, s, D).
        positions: (1, s), or (axes, 1, s).
        arguments: What else the family's own decoder takes with it.
    """

    embeddings: Tensor
    positions: Tensor
    arguments: Mapping[str, Any] = field(default_factory=dict)


def last_states(language: Any, prefix: Stretch, suffixes: Sequence[Stretch]) -> Iterator[Tensor]:
    """Run the prefix once and every suffix behind it.

    Args:
        language: transformers' decoder.
        prefix: Everything up to the last visual token.
        suffixes: What stands behind it, one a prompt.

    Yields:
        The decoder's normed output at the last position (b, D), suffix after suffix.
    """
    cache = language(
        inputs_embeds=prefix.embeddings, position_ids=prefix.positions, use_cache=True, **prefix.arguments
    ).past_key_values
    for suffix in suffixes:
        yield language(
            inputs_embeds=suffix.embeddings,
            position_ids=suffix.positions,
            past_key_values=cache,
            use_cache=True,
            **suffix.arguments,
        ).last_hidden_state[:, -1]
        cache.crop(-suffix.embeddings.shape[1])
