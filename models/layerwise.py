"""A decoder one layer at a time: one sequence of frames, and several questions behind it.

Attention is causal and the frames come before the question, so what a layer makes of the frames is the same for every
question: it is computed once, and each question attends to it. Exact, and about M times cheaper than M passes.

Every layer is transformers' own. What is between two layers is one dictionary of tensors, which can be put aside:
so all sequences can go through one layer before the next layer's weights are read. It holds `frames` (1, P, D),
`question0` … (1, s_m, D), and `addition3` (1, n·T, D) for what is still to be added after layer 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.capture import capture_heads
from models.decoder import Rotation, interleave, split_visual
from models.states import State


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """What M questions about the same number of frames have in common, and what is each one's own.

    Attributes:
        before: n runs of embedded text (1, s_i, D), run i directly before the visual tokens of group i.
        questions: M runs (1, s_m, D) behind the last visual token.
        rotation: Of everything up to the last visual token.
        rotations: Of each question.
        visual: Positions of the visual tokens among `frames`, int64 (n·T,).
        additions_after: Layers after which something is added to the visual tokens.
    """

    before: Sequence[Tensor]
    questions: Sequence[Tensor]
    rotation: Rotation
    rotations: Sequence[Rotation]
    visual: Tensor
    additions_after: Sequence[int]

    def enter(self, tokens: Tensor) -> State:
        """Write visual tokens (n, T, D·(1 + additions)) into the sequence."""
        width = self.questions[0].shape[-1]
        visual, additions = split_visual(tokens[None], width, self.additions_after)
        state = {"frames": torch.cat(interleave(self.before, visual), dim=1)}
        state |= {f"question{number}": question for number, question in enumerate(self.questions)}
        return state | {f"addition{layer}": one.flatten(1, 2) for layer, one in additions.items()}


def run_layer(layer: Any, number: int, state: State, sequences: Sequences) -> tuple[State, Tensor]:
    """Run one decoder layer over the frames once and over every question behind them.

    Args:
        layer: transformers' own, with its weights.
        number: Which one it is, from 0.
        state: What the layer below gave.
        sequences: What the state belongs to.

    Returns:
        What the layer gives, and its head features under every question, (M, H·d_h).
    """
    done = dict(state)
    past = _Past()
    with capture_heads(layer.self_attn.o_proj) as caught:
        hidden = _forward(layer, state["frames"], sequences.rotation, None, past)
        if (addition := done.pop(f"addition{number}", None)) is not None:
            hidden = hidden.index_add(1, sequences.visual, addition)
        done["frames"] = hidden
        past.closed = True
        for place, rotation in enumerate(sequences.rotations):
            question = state[f"question{place}"]
            done[f"question{place}"] = _forward(layer, question, rotation, _mask(question, past), past)
    return done, torch.cat(caught[1:])  # the first pass was that of the frames


def _forward(layer: Any, hidden: Tensor, rotation: Rotation, mask: Tensor | None, past: _Past) -> Tensor:
    output: Tensor = layer(
        hidden, attention_mask=mask, position_embeddings=rotation, past_key_values=past, use_cache=True
    )
    return output


def _mask(question: Tensor, past: _Past) -> Tensor:
    """Every frame, and the question up to here: (1, 1, s, P + s). Plain causal would mean the first frames only."""
    length = question.shape[1]
    return torch.ones(length, past.length + length, dtype=torch.bool, device=question.device).tril(past.length)[
        None, None
    ]


class _Past:
    """The keys and values of the frames in one layer, as transformers' attention asks for them.

    The first pass leaves its own here; once it is `closed`, others see them and leave nothing.
    """

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self.closed = False

    @property
    def length(self) -> int:
        """How many positions are kept."""
        return 0 if self._keys is None else self._keys.shape[-2]

    def update(self, keys: Tensor, values: Tensor, *_layer: Any, **_more: Any) -> tuple[Tensor, Tensor]:
        """Give what attention is to see: what is kept and (b, heads, s, d_h) behind it."""
        if not self.closed:
            self._keys, self._values = keys, values
            return keys, values
        assert self._keys is not None
        assert self._values is not None
        return torch.cat([self._keys, keys], dim=-2), torch.cat([self._values, values], dim=-2)
