"""The truncated decoder over some positions of the sequence at a time, exact because attention is causal.

While a segment's frames come in, each can go through the decoder at once; what later positions need of it, its keys
and values, is handed out and given back. At the segment's end only the newest frame and the question are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edge_runtime.stream.segments import SegmentSpec
from export.language import Before, KeysValues, TruncatedLanguage
from models.decoder import split_visual
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt

# An id that no text has: what stands for visual tokens in a family may stand in its texts too.
_VISUAL = -1


class GrowingLanguage(TruncatedLanguage):
    """The same decoder with the same weights, by the same names, run piece by piece.

    A state holds what later positions need of earlier ones, C floats a position: the keys and values of every layer,
    the deepest one's those of its experts alone.

    Args:
        mllm: As of `TruncatedLanguage`.
        prompt: As of `TruncatedLanguage`.
        experts: As of `TruncatedLanguage`.
        segment: As of `TruncatedLanguage`.

    Raises:
        UsageError: As of `TruncatedLanguage`.
    """

    visual: Tensor
    texts: Tensor
    text_at: Tensor

    def __init__(self, mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], segment: SegmentSpec) -> None:
        super().__init__(mllm, prompt, experts, segment)
        texts = torch.cat([*self.before, self.after], dim=1)[0]
        visual = torch.tensor(mllm.layout(prompt, segment).ids(_VISUAL)) == _VISUAL
        self.register_buffer("visual", visual, persistent=False)
        # Where in the texts a position's embedding is; of a visual one it is not asked for.
        self.register_buffer("text_at", ((~visual).cumsum(0) - 1).clamp(min=0), persistent=False)
        self.register_buffer("texts", texts, persistent=False)
        widths = [2 * self.geometry.kv_heads * self.geometry.head_dim] * self.deepest
        self.widths = [*widths, 2 * self.last.groups * self.geometry.head_dim]

    @property
    def state_width(self) -> int:
        """C."""
        return sum(self.widths)

    # Another signature than the whole decoder's: the graph takes more.
    def forward(self, tokens: Tensor, positions: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Run some positions. The batch and all lengths are dynamic.

        Args:
            tokens: (b, v, D·(1 + additions)): those of the v visual ones among the positions.
            positions: int64 (s,): p to p + s - 1.
            state: float32 (b, p, C): of all positions before, p = 0 for none.

        Returns:
            float32 (b, K·d_h), in the experts' order, as the last of the positions gives them; and float32 (b, s, C),
            what the state grows by.
        """
        visual, additions = split_visual(tokens, self.geometry.width, self.additions_after)
        seen = self.visual[positions]
        order = (seen.to(torch.int64).cumsum(0) - 1).clamp(min=0)
        shown = seen[None, :, None]
        cos, sin = self.cos[:, positions], self.sin[:, positions]
        mask = positions[:, None] >= torch.arange(state.shape[1] + positions.shape[0])[None]
        hidden = torch.where(shown, visual[:, order], self.texts[self.text_at[positions]][None])
        grown: list[KeysValues] = []
        found: dict[HeadRef, Tensor] = {}
        parts = torch.split(state, self.widths, dim=2)
        for number, layer in enumerate(self.layers):
            hidden, heads, own = layer(hidden, cos, sin, self._before(parts[number], mask))
            grown.append(own)
            found |= {ref: heads[:, ref.head] for ref in self.experts if ref.layer == number}
            if number in additions:
                hidden = hidden + torch.where(shown, additions[number][:, order], 0.0)
        last, own = self.last(hidden, cos, sin, self._before(parts[self.deepest], mask))
        pieces = [_by_position(half) for pair in [*grown, own] for half in pair]
        return self._in_order(found, last), torch.cat(pieces, dim=2)

    def _before(self, part: Tensor, mask: Tensor) -> Before:
        """One layer's part of a state, (b, p, 2·heads·d_h)."""
        keys, values = part.chunk(2, dim=2)
        shape = (*part.shape[:2], -1, self.geometry.head_dim)
        return Before(keys.reshape(shape).transpose(1, 2), values.reshape(shape).transpose(1, 2), mask)


def _by_position(heads: Tensor) -> Tensor:
    """(b, heads, s, d_h) to (b, s, heads·d_h)."""
    turned = heads.transpose(1, 2)
    return turned.reshape(*turned.shape[:2], -1)
