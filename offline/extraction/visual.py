"""The visual tokens of a segment in two rows: their mean and their standard deviation, before the language model.

One segment's tokens are in memory at a time; the two rows are kept like any other features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.inference.engine import Engine, engine_key
from models.family import Mllm
from models.precision import dtype_name
from offline.data.cache import Arrays
from offline.extraction.extract import Extractor, Steps

# Raised when the two rows are computed otherwise.
_STATISTICS = {"visual tokens": ["mean", "standard deviation"], "version": 1}


def token_statistics(tokens: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Compute mean and population standard deviation over all tokens of a segment, in double precision.

    Args:
        tokens: (n·T, D), of all sampled frames.

    Returns:
        float32 (2, D), the mean first.
    """
    both = np.stack([tokens.mean(axis=0, dtype=np.float64), tokens.std(axis=0, dtype=np.float64)])
    return both.astype(np.float32)


class ModelTokens:
    """Statistics of the visual tokens that a model gives: (2, D) a unit.

    Args:
        mllm: The model; its decoder is not run.
    """

    def __init__(self, mllm: Mllm) -> None:
        self.mllm = mllm

    @property
    def identity(self) -> dict[str, Any]:
        """See offline.extraction.extract.Extractor. Prompts count for nothing here."""
        return _STATISTICS | {"model": self.mllm.fingerprint, "dtype": dtype_name(self.mllm.dtype)}

    @property
    def units_at_once(self) -> int:
        """See offline.extraction.extract.Extractor."""
        return self.mllm.sweep.units

    def extract(
        self, units: Iterable[NDArray[np.uint8]], progress: Steps | None = None
    ) -> Sequence[NDArray[np.float32]]:
        """See offline.extraction.extract.Extractor."""
        steps = progress if self.mllm.sweep.streams else None
        return [token_statistics(tokens) for tokens in self.mllm.segment_tokens(units, steps)]

    def maker(self) -> Callable[[Mllm], Extractor]:
        """Give what makes the same extractor of a model, on a worker."""
        return ModelTokens

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """See offline.extraction.extract.Extractor."""
        return find(self.identity)


class GraphTokens:
    """The same of a bundle's vision graph.

    Args:
        graphs: The bundle's.
        hashes: Of the vision graph's files.
    """

    units_at_once = 1

    def __init__(self, graphs: Engine, hashes: Sequence[str]) -> None:
        self.graphs = graphs
        self._hashes = list(hashes)

    @property
    def identity(self) -> dict[str, Any]:
        """See offline.extraction.extract.Extractor. The provider counts: another one rounds differently."""
        return _STATISTICS | {"graph": self._hashes} | engine_key(self.graphs)

    def extract(
        self, units: Iterable[NDArray[np.uint8]], progress: Steps | None = None
    ) -> Sequence[NDArray[np.float32]]:
        """See offline.extraction.extract.Extractor."""
        return [token_statistics(self.graphs.tokens(frames[None])[0]) for frames in units]

    def maker(self) -> Callable[[Engine], Extractor]:
        """Give what makes the same extractor of the bundle's graphs, on a worker."""
        return partial(GraphTokens, hashes=self._hashes)

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """See offline.extraction.extract.Extractor."""
        return find(self.identity)
