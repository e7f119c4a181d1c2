"""How exactly the products of a bundle are computed, product by product, as the passes over its two graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import onnx_ir as ir
from torch import nn

from edge_runtime.bundle.manifest import Precision
from export.language import ExpertHeads
from export.precision.half import store_bfloat16, to_float16
from export.precision.int8 import Range, quantise
from export.products import WEIGHT, products
from export.torch_onnx import Pass
from models.weights import Weights


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is rounded, and how.

    Attributes:
        precision: What was asked for.
        ranges: What the inputs of linear layers lie between, by their weight's name in the model; for int8.
        kept: Those that stay in bfloat16 all the same, by the same names.
    """

    precision: Precision = "fp32"
    ranges: Mapping[str, Range] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    def passes(self, module: nn.Module, weights: Weights) -> list[Pass]:
        """What is done to the graph of a module that was made of a model's own."""
        if self.precision == "bf16":
            return [store_bfloat16]
        if self.precision == "fp16":
            return [to_float16]
        if self.precision == "int8":
            names = _sources(module, weights)
            chosen = {
                name: self.ranges[source]
                for name, source in names.items()
                if source in self.ranges and source not in self.kept
            }
            return [partial(store_bfloat16, leave=chosen.keys()), partial(quantise, ranges=chosen)]
        return []


@dataclass(frozen=True, slots=True)
class Rounded:
    """What became of one graph.

    Attributes:
        precision: Of its products: int8 where any of them is.
        kept: Products that were to be int8 and stayed in bfloat16, by name.
    """

    precision: Precision
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, precision: Precision, weights: Sequence[str], model: ir.Model) -> Rounded:
        """Look at a graph after its passes.

        Args:
            precision: What was asked for.
            weights: Names of its products' weights, which the passes keep.
            model: The graph.
        """
        if precision != "int8":
            return cls(precision)
        kept = [name for name in weights if model.graph.initializers[name].dtype != ir.DataType.INT8]
        return cls("int8" if len(kept) < len(weights) else "bf16", tuple(name.removesuffix(WEIGHT) for name in kept))


def product_weights(model: ir.Model) -> list[str]:
    """The names of the weights of a graph's products, in order."""
    return [product.weight.name or "" for product in products(model.graph)]


def _sources(module: nn.Module, weights: Weights) -> dict[str, str]:
    """Weights of a module's linear layers by their product's name, as the model calls them."""
    found: dict[str, str] = {}
    for name, part in module.named_modules():
        if isinstance(part, ExpertHeads):
            found |= {f"{name}.{own}": whole for own, whole in part.rows_of.items()}
        elif isinstance(part, nn.Linear) and part.weight.is_meta:
            found[name] = weights.name_of(part.weight)
    return found
