"""A language model behind the reference model's tower gets that tower's tokens, turned and scaled, nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from oracle import some_frames

from benchmarks.sighted_shell import write_sighted
from models.loading import load
from models.transformers_mllm import TransformersMllm


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[TransformersMllm, TransformersMllm]:
    """The reference model, and a small decoder wider than it behind its tower."""
    folder = tmp_path_factory.mktemp("sighted")
    shell = write_checkpoint(folder / "shell", Shape(width=256, heads=4, head_dim=64, layers=1))
    reference = load("reference", "cpu", "float32")
    write_sighted(folder / "sighted", shell, some_frames(1, 6, reference.pixels.size)[0])
    sighted = load(str(folder / "sighted"), "cpu", "float32")
    assert isinstance(reference, TransformersMllm)
    assert isinstance(sighted, TransformersMllm)
    return reference, sighted


def test_distances_between_tokens_are_those_of_the_tower_in_one_scale(
    both: tuple[TransformersMllm, TransformersMllm],
) -> None:
    reference, sighted = both
    assert sighted.pixels.size == reference.pixels.size
    frames = some_frames(1, 4, reference.pixels.size)[0][::-1].copy()
    narrow, wide = (one.visual_tokens(frames).flatten(0, 1).double() for one in both)
    assert wide.shape[1] == 256
    near, far = torch.pdist(narrow).numpy(), torch.pdist(wide).numpy()
    np.testing.assert_allclose(far / near, np.median(far / near), rtol=1e-4)


def test_tokens_are_centred_and_as_long_as_those_of_words(
    both: tuple[TransformersMllm, TransformersMllm],
) -> None:
    _, sighted = both
    tokens = sighted.visual_tokens(some_frames(1, 6, sighted.pixels.size)[0]).flatten(0, 1)
    words = sighted.embed(range(119))[0]
    assert float(tokens.mean(dim=0).abs().max()) < 1e-4 * float(tokens.abs().max())
    assert float(tokens.square().mean()) == pytest.approx(float(words.square().mean()), rel=0.2)
