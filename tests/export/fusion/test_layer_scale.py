"""Layer scales folded into weights: fewer operators, the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small_graphs import WIDTH, Layers, exported, operators, ran, some_values
from torch import Tensor, nn

from export.fusion.layer_scale import fold_layer_scales


def test_folding_changes_nothing_but_the_number_of_operators(tmp_path: Path) -> None:
    before, after = exported(Layers(), tmp_path), exported(Layers(), tmp_path, fold_layer_scales)
    assert operators(before).count("Mul") == 1
    assert operators(after).count("Mul") == 0
    wanted = ran(before, some_values())
    assert np.abs(ran(after, some_values()) - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_a_sum_that_is_needed_unscaled_is_left_alone(tmp_path: Path) -> None:
    class Both(Layers):
        def forward(self, values: Tensor) -> Tensor:
            made = self.second(self.first(values))
            return self.factor * made + torch.tanh(made)

    before, after = exported(Both(), tmp_path), exported(Both(), tmp_path, fold_layer_scales)
    assert operators(after).count("Mul") == operators(before).count("Mul") == 1
    assert np.array_equal(ran(after, some_values()), ran(before, some_values()))


def test_a_weight_of_two_layers_is_not_scaled_for_both(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.factor = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.rand(WIDTH))

        def forward(self, values: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.factor * self.layer(values)))

    before, after = exported(Tied(), tmp_path), exported(Tied(), tmp_path, fold_layer_scales)
    assert np.abs(ran(after, some_values()) - ran(before, some_values())).max() <= 1e-6
