"""What goes through a model's linear layers while it runs: the ranges of their inputs, and what 8 bits would cost.

A model that is larger than the memory runs stage by stage, and is watched all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from export.precision.int8 import Range, round_weight
from models.family import Mllm

# Positions of one call that the cost is measured on: a second product of their size is all that it takes.
_LOOKED_AT = 256
# Calls of one layer that it is measured on: rounding its weight takes longer than running it.
_CALLS = 4


def linear_layers(mllm: Mllm, stages: Iterable[nn.Module] | None = None) -> dict[str, nn.Linear]:
    """The linear layers of some stages of a model, by their weight's name in it; by default of all that are run."""
    found = {}
    for stage in (*mllm.vision.stages, *mllm.decoder.layers) if stages is None else stages:
        for part in stage.modules():
            if isinstance(part, nn.Linear):
                # What was made of a weight has no name, and keeps its precision.
                with suppress(KeyError):
                    found[mllm.weights.name_of(part.weight)] = part
    return found


@contextmanager
def observe_ranges(mllm: Mllm) -> Iterator[dict[str, Range]]:
    """Watch the inputs of all linear layers while the model runs in this context.

    Yields:
        By the weight's name in the model; filled when the context ends, with the layers that ran.
    """
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}

    def look(name: str, _layer: nn.Linear, given: Tensor, _made: Tensor) -> None:
        low, high = (float(edge) for edge in torch.aminmax(given))
        lows[name] = min(low, lows.get(name, low))
        highs[name] = max(high, highs.get(name, high))

    ranges: dict[str, Range] = {}
    with _hooked(mllm, look):
        yield ranges
    ranges |= {name: Range(low, highs[name]) for name, low in lows.items()}


@contextmanager
def observe_noise(mllm: Mllm, ranges: Mapping[str, Range]) -> Iterator[dict[str, float]]:
    """Measure, while the model runs in this context, how far 8 bits would move what each linear layer gives.

    A position's error is held against how far positions lie from their middle, and the median position counts: one
    position of huge values (as the first often is) makes a step so wide that nothing is left of the others, and in
    any mean over all positions it would hide that.

    Yields:
        Root of the median squared error over the median squared distance from the median, by the weight's name;
        filled when the context ends.
    """
    sums: dict[str, list[float]] = defaultdict(list)

    def look(name: str, layer: nn.Linear, given: Tensor, _made: Tensor) -> None:
        if name in ranges and len(sums[name]) < _CALLS:
            sums[name].append(noise(layer.weight, given, ranges[name]))

    found: dict[str, float] = {}
    with _hooked(mllm, look):
        yield found
    found |= {name: sum(values) / len(values) for name, values in sums.items()}


def noise(weight: Tensor, given: Tensor, seen: Range) -> float:
    """How far 8 bits move a product of one weight (N, K) with one input (…, K); see `observe_noise`."""
    rows = given.reshape(-1, given.shape[-1])
    rows = rows[:: -(-len(rows) // _LOOKED_AT)].float()
    exact = rows @ weight.float().T
    steps = torch.clamp(torch.round(rows / seen.scale) + seen.zero_point, 0, 255)
    values, scales = round_weight(weight.float().T)
    error = ((steps - seen.zero_point) * seen.scale) @ (values.float() * scales) - exact
    spread = (exact - exact.median(dim=0).values).square().sum(dim=1).median()
    return float((error.square().sum(dim=1).median() / spread.clamp_min(1e-30)).sqrt())


Look = Callable[[str, nn.Linear, Tensor, Tensor], None]


@contextmanager
def _hooked(mllm: Mllm, look: Look) -> Iterator[None]:
    def hook(name: str) -> Callable[[Any, Any, Any], None]:
        return lambda layer, given, made: look(name, layer, given[0], made)

    with ExitStack() as stack:
        for name, layer in linear_layers(mllm).items():
            stack.callback(layer.register_forward_hook(hook(name)).remove)
        yield
