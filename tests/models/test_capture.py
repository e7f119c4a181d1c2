"""Head capture against the attention written out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from oracle import plain_head_features, seeing, some_frames
from torch import nn

from models.capture import capture_heads
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import PROMPTS


def test_what_is_caught_is_the_last_position_of_every_pass() -> None:
    projection = nn.Linear(12, 7)
    inputs = [torch.randn(2, 5, 12), torch.randn(2, 3, 12)]
    with capture_heads(projection) as caught:
        assert caught == []
        for value in inputs:
            projection(value)
    assert len(caught) == 2
    assert all(torch.equal(found, value[:, -1]) for found, value in zip(caught, inputs, strict=True))


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    projection = nn.Linear(4, 4)
    with pytest.raises(RuntimeError, match="on purpose"), capture_heads(projection):
        raise RuntimeError("on purpose")
    assert not projection._forward_pre_hooks


def test_a_head_feature_is_its_head_of_attention_written_out_by_hand(tmp_path: Path) -> None:
    mllm = load(str(write_checkpoint(tmp_path, Shape(layers=1, heads=4, kv_heads=2, head_dim=10))), "cpu")
    assert isinstance(mllm, InternVL)
    frames, prompt = some_frames(1, 2, 32), PROMPTS[0]
    layer = mllm.plain.model.language_model.layers[0]
    seen: dict[str, torch.Tensor] = {}
    handle = layer.self_attn.q_proj.register_forward_pre_hook(lambda _m, inputs: seen.update(x=inputs[0]))
    with torch.inference_mode():
        mllm.plain(**mllm.plain_inputs(frames, prompt, seeing(2)))
        handle.remove()
        x = seen["x"][0].double()  # (s, D), after the norm
        cos, sin = (part[0].double() for part in mllm.decoder.rotation(torch.arange(len(x))[None]))

        def project(module: nn.Linear, head: int) -> torch.Tensor:
            rows = slice(10 * head, 10 * head + 10)
            bias = 0 if module.bias is None else module.bias[rows].double()
            return x @ module.weight[rows].double().T + bias

        def turned(value: torch.Tensor) -> torch.Tensor:
            return value * cos + torch.cat([-value[:, 5:], value[:, :5]], dim=1) * sin

        wanted = []
        for head in range(4):
            query = turned(project(layer.self_attn.q_proj, head))[-1]
            key = turned(project(layer.self_attn.k_proj, head // 2))
            weights = torch.softmax(key @ query / 10**0.5, dim=0)
            wanted.append((weights @ project(layer.self_attn.v_proj, head // 2)).numpy())
    found = plain_head_features(mllm, frames, prompt)[0, 0]
    np.testing.assert_allclose(found, np.stack(wanted), atol=2e-5 * np.abs(wanted).max())
