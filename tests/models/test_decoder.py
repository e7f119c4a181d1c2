"""What enters a decoder, and where: runs of text, visual tokens, additions, rotations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoints import Shape, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from oracle import seeing

from edge_runtime.errors import CheckpointError, UsageError
from models.decoder import Geometry, check_attention, interleave, split_visual
from models.loading import load
from models.prompts import PROMPTS


@given(lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4), batch=st.integers(1, 3), tokens=st.integers(1, 3))
def test_every_group_stands_behind_its_run(lengths: list[int], batch: int, tokens: int) -> None:
    runs = [torch.full((1, length, 2), -float(index + 1)) for index, length in enumerate(lengths)]
    visual = torch.arange(float(batch * len(lengths) * tokens * 2)).reshape(batch, len(lengths), tokens, 2)
    found = torch.cat(interleave(runs, visual), dim=1)
    for one in range(batch):
        wanted: list[list[float]] = []
        for index, length in enumerate(lengths):
            wanted += [[-float(index + 1)] * 2] * length + visual[one, index].tolist()
        assert found[one].tolist() == wanted


@given(layers=st.lists(st.integers(0, 9), max_size=3, unique=True))
def test_what_was_joined_is_split_again(layers: list[int]) -> None:
    parts = [torch.randn(2, 5, 4) for _ in range(1 + len(layers))]
    embeddings, additions = split_visual(torch.cat(parts, dim=-1), 4, layers)
    assert torch.equal(embeddings, parts[0])
    assert list(additions) == layers
    assert all(torch.equal(found, wanted) for found, wanted in zip(additions.values(), parts[1:], strict=True))


def test_tokens_without_additions_are_left_as_they_are() -> None:
    tokens = torch.randn(1, 3, 4)
    found, additions = split_visual(tokens, 4, ())
    assert found is tokens
    assert additions == {}


def test_tokens_of_another_width_than_the_additions_need_are_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        split_visual(torch.zeros(1, 3, 8), 4, (0, 1))


def test_rotations_are_transformers_own_and_may_become_constants_of_a_module(tmp_path: Path) -> None:
    mllm = load(str(write_checkpoint(tmp_path, Shape(layers=1, head_dim=10))), "cpu")
    layout = mllm.layout(PROMPTS[0], seeing(2))
    positions = mllm.positions(layout)
    assert positions.tolist() == [list(range(layout.length))]
    cos, sin = mllm.decoder.rotation(positions * 3)
    assert cos.shape == sin.shape == (1, layout.length, 10)
    frequencies = 1e4 ** (-torch.arange(0, 10, 2) / 10)
    angles = 3 * positions[0, :, None] * frequencies.repeat(2)
    torch.testing.assert_close(cos[0], angles.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(sin[0], angles.sin(), atol=1e-4, rtol=0)
    assert not cos.is_inference()
    assert not sin.is_inference()


@pytest.mark.parametrize("kinds", [None, [], ["full_attention"] * 3])
def test_layers_that_see_everything_are_taken(kinds: list[str] | None) -> None:
    check_attention(SimpleNamespace(layer_types=kinds))


def test_one_layer_that_sees_a_window_is_refused() -> None:
    with pytest.raises(CheckpointError, match="sliding windows"):
        check_attention(SimpleNamespace(layer_types=["full_attention", "sliding_attention"]))


@pytest.mark.parametrize("sizes", [(0, 4, 2, 8, 32), (2, 4, 3, 8, 32), (2, 4, 2, 8, -1)])
def test_a_geometry_that_cannot_be_is_refused(sizes: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"geometry|evenly"):
        Geometry(*sizes)


def test_scaled_rotations_come_from_a_sequence_alone_and_not_from_longer_ones_before_it(tmp_path: Path) -> None:
    scaled = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    shape = Shape(layers=1, text={"max_position_embeddings": 128, "rope_parameters": scaled})
    mllm = load(str(write_checkpoint(tmp_path, shape)), "cpu")
    alone = mllm.decoder.rotation(torch.arange(300)[None])
    mllm.decoder.rotation(torch.arange(900)[None])
    after = mllm.decoder.rotation(torch.arange(300)[None])
    assert all(torch.equal(one, other) for one, other in zip(alone, after, strict=True))
    # transformers' own module remembers: this is what would go wrong.
    rotary, like = mllm.language.rotary_emb, torch.zeros(1, 1, 32)
    rotary(like, torch.arange(900)[None])
    remembered, _ = rotary(like, torch.arange(300)[None])
    assert not torch.allclose(remembered, alone[0], atol=1e-2)
    with pytest.raises(UsageError, match=r"has 128; let it see fewer frames"):
        mllm.layout(PROMPTS[0], seeing(40))
