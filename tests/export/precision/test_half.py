"""Weights of 16 bits: exactly PyTorch's rounding, and the same inputs and outputs as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from small_graphs import Layers, exported, operators, ran, some_values

from export.precision.half import store_bfloat16, to_float16
from export.torch_onnx import tensor_specs


def test_bfloat16_weights_give_what_rounded_float32_weights_give(tmp_path: Path) -> None:
    rounded = Layers()
    for layer in (rounded.first, rounded.second):
        layer.weight.data = layer.weight.data.to(torch.bfloat16).to(torch.float32)
    wanted = ran(exported(rounded, tmp_path), some_values())
    path = exported(Layers(), tmp_path, store_bfloat16)
    assert np.abs(ran(path, some_values()) - wanted).max() <= 1e-6
    stored = {value.dtype for value in ir.load(path).graph.initializers.values() if len(value.shape or ()) == 2}
    assert stored == {ir.DataType.BFLOAT16}


def test_layers_can_be_left_out(tmp_path: Path) -> None:
    path = exported(Layers(), tmp_path, lambda model: store_bfloat16(model, leave={"second"}))
    types = {name: value.dtype for name, value in ir.load(path).graph.initializers.items()}
    assert types["first.weight"] == ir.DataType.BFLOAT16
    assert types["second.weight"] == ir.DataType.FLOAT


def test_float16_is_near_pytorchs_and_keeps_what_goes_in_and_out(tmp_path: Path) -> None:
    before, after = exported(Layers(), tmp_path), exported(Layers(), tmp_path, to_float16)
    assert tensor_specs(after) == tensor_specs(before)
    wanted = Layers().half()(torch.from_numpy(some_values()).half()).float().detach().numpy()
    assert np.abs(ran(after, some_values()) - wanted).max() <= 2e-3 * np.abs(wanted).max()
    # Float32 is there at the input, at the output, and nowhere between.
    assert operators(after)[0] == operators(after)[-1] == "Cast"
    assert all(value.dtype != ir.DataType.FLOAT for value in ir.load(after).graph.initializers.values())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_weight_beyond_float16_becomes_infinite_and_not_some_number(tmp_path: Path) -> None:
    module = Layers()
    module.second.weight.data[0, 0] = 1e6
    found = ran(exported(module, tmp_path, to_float16), some_values())
    assert not np.isfinite(found).all()
