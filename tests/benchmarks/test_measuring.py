from __future__ import annotations

import pytest
import torch

from benchmarks.measuring import counted_flops, in_turn, median_ratio, timed


def test_works_take_turns_round_by_round() -> None:
    seen: list[str] = []
    taken = in_turn({"ours": lambda: seen.append("ours"), "theirs": lambda: seen.append("theirs")}, 3)
    assert seen == ["ours", "theirs"] * 3
    assert {name: len(seconds) for name, seconds in taken.items()} == {"ours": 3, "theirs": 3}


def test_a_ratio_is_that_of_the_rounds_not_of_the_medians() -> None:
    # Rounds that were slow for both say the same as the others.
    assert median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


def test_what_fails_is_not_timed() -> None:
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 / 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_attention_are_counted_on_a_cpu(dtype: torch.dtype) -> None:
    heads, rows, width = 4, 96, 32
    x = torch.ones(1, heads, rows, width, dtype=dtype)
    product = torch.nn.Linear(width, width, bias=False, dtype=dtype)

    @torch.inference_mode()
    def work() -> None:
        torch.nn.functional.scaled_dot_product_attention(x, product(x), x, is_causal=True)

    of_product, of_attention = 2 * heads * rows * width**2, 4 * heads * rows**2 * width
    assert counted_flops(work) == of_product + of_attention
