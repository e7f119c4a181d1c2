"""Products in 8 bits: PyTorch's own rounding as the oracle, and both engines on the same graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_graphs import Layers, exported, operators, ran, some_values

from export.precision.int8 import Range, quantise, round_weight
from export.precision.observe import noise

FINITE = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_rounded_as_pytorch_rounds_them(seed: int) -> None:
    weight = torch.randn(40, 24, generator=torch.Generator().manual_seed(seed))
    weight[:, 5] = 0
    values, scales = round_weight(weight)
    wanted = torch.quantize_per_channel(weight, scales.double(), torch.zeros(24, dtype=torch.int64), 1, torch.qint8)
    assert torch.equal(values, wanted.int_repr())
    assert (values.float() * scales - weight).abs().max() <= scales.max() / 2 * 1.001
    assert int(values.abs().max()) == 127


@given(low=FINITE, high=FINITE)
def test_zero_is_a_step_and_both_ends_are_within_one(low: float, high: float) -> None:
    seen = Range(min(low, high), max(low, high))
    assert 0 <= seen.zero_point <= 255
    for end in (min(seen.low, 0.0), max(seen.high, 0.0)):
        step = min(255, max(0, round(end / seen.scale) + seen.zero_point))
        assert abs((step - seen.zero_point) * seen.scale - end) <= seen.scale * 1.001


def ranges(given: np.ndarray) -> dict[str, Range]:
    layers = Layers()
    inside = torch.tanh(layers.first(torch.from_numpy(given))).detach()
    return {
        "first": Range(float(given.min()), float(given.max())),
        "second": Range(float(inside.min()), float(inside.max())),
    }


def test_both_engines_compute_the_rounded_graph_alike(tmp_path: Path) -> None:
    given = some_values()
    path = exported(Layers(), tmp_path, partial(quantise, ranges=ranges(given)))
    types = {
        value.dtype for value in ir.load(path).graph.initializers.values() if value.shape and len(value.shape) == 2
    }
    assert types == {ir.DataType.INT8}
    exact, found = ran(exported(Layers(), tmp_path), given), ran(path, given)
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    other = np.asarray(compiled(given)[0])
    scale = np.abs(exact).max()
    assert 0 < np.abs(found - exact).max() <= 0.02 * scale
    # A value on the edge between two steps may fall on either side.
    assert np.abs(found - other).max() <= 0.01 * scale


def test_what_no_range_is_known_of_stays_as_it_is(tmp_path: Path) -> None:
    before = exported(Layers(), tmp_path)
    after = exported(Layers(), tmp_path, partial(quantise, ranges={"elsewhere": Range(-1, 1)}))
    assert operators(after) == operators(before)
    assert np.array_equal(ran(after, some_values()), ran(before, some_values()))


def test_products_of_one_activation_share_its_rounding(tmp_path: Path) -> None:
    class Twice(Layers):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.first(values) + self.third(values)

    module = Twice()
    module.third = torch.nn.Linear(16, 24)
    seen = Range(-3, 3)
    path = exported(module, tmp_path, partial(quantise, ranges={"first": seen, "third": seen}))
    assert operators(path).count("QuantizeLinear") == 1


def test_one_token_of_huge_values_costs_the_others_their_steps() -> None:
    random = torch.Generator().manual_seed(0)
    weight, given = torch.randn(24, 16, generator=random), torch.randn(200, 16, generator=random)
    plain = noise(weight, given, Range(float(given.min()), float(given.max())))
    given[0] *= 3000
    ruined = noise(weight, given, Range(float(given.min()), float(given.max())))
    assert plain < 0.03
    assert ruined > 0.5
