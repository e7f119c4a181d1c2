"""One prefix for several suffixes: what full passes give, for the price of one and a bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from models.shared_prefix import Stretch, last_states

PREFIX, SUFFIXES = 9, (3, 1, 5)


@pytest.fixture(scope="module")
def language() -> Any:
    config = Qwen2Config(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2Model(config).eval()


@pytest.mark.parametrize("step", [1, 3])
def test_every_suffix_gives_what_one_full_pass_gives(step: int, language: Any) -> None:
    def positions(start: int, end: int) -> torch.Tensor:
        return torch.arange(start, end)[None] * step

    torch.manual_seed(1)
    prefix = torch.randn(2, PREFIX, 16)
    suffixes = [torch.randn(2, length, 16) for length in SUFFIXES]
    lengths: list[int] = []
    handle = language.layers[0].self_attn.q_proj.register_forward_pre_hook(
        lambda _module, inputs: lengths.append(inputs[0].shape[1])
    )
    with torch.inference_mode():
        found = list(
            last_states(
                language,
                Stretch(prefix, positions(0, PREFIX)),
                [Stretch(one, positions(PREFIX, PREFIX + one.shape[1])) for one in suffixes],
            )
        )
        handle.remove()
        assert lengths == [PREFIX, *SUFFIXES]
        mask = torch.ones(2, PREFIX + max(SUFFIXES), dtype=torch.long)
        for one, state in zip(suffixes, found, strict=True):
            whole = torch.cat([prefix, one], dim=1)
            # With a mask of ones transformers does not take gaps between positions for packed sequences.
            wanted = language(
                inputs_embeds=whole,
                position_ids=positions(0, whole.shape[1]),
                attention_mask=mask[:, : whole.shape[1]],
                use_cache=False,
            ).last_hidden_state[:, -1]
            torch.testing.assert_close(state, wanted, atol=1e-5, rtol=0)
