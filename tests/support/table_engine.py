"""An engine without a model: it looks its answers up by the content of what it is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_runtime.bundle.reader import Golden
from edge_runtime.errors import InferenceFailed, UsageError
from edge_runtime.inference.engine import FloatArray
from edge_runtime.stream.pixels import UInt8Array


class TableEngine:
    """Answers each segment from a table, by the bytes of its frames or tokens; what is not in it has a constant.

    Attributes:
        segments: How many segments were asked about so far.
        closed: Whether it was closed.
    """

    def __init__(
        self,
        tokens: Mapping[bytes, FloatArray],
        features: Mapping[bytes, FloatArray],
        otherwise: tuple[FloatArray, FloatArray],
        provider: str = "cpu",
    ) -> None:
        """tokens: frames to (n·T, D). features: tokens to (K·d,). otherwise: both, for all that is not there."""
        self.provider = provider
        self.segments = 0
        self.closed = False
        self._tokens, self._features, self._otherwise = tokens, features, otherwise
        self._abandoned = False

    @classmethod
    def of_golden(cls, golden: Golden, provider: str = "cpu") -> TableEngine:
        """What gives exactly the golden values; other frames give those of the first golden segment."""
        return cls(
            {frames.tobytes(): tokens for frames, tokens in zip(golden.frames, golden.tokens, strict=True)},
            {tokens.tobytes(): row for tokens, row in zip(golden.tokens, golden.features, strict=True)},
            (golden.tokens[0], golden.features[0]),
            provider,
        )

    @classmethod
    def constant(cls, features: FloatArray, provider: str = "cpu") -> TableEngine:
        """What gives the same features (K·d,) whatever it sees."""
        return cls({}, {}, (np.zeros((1, 1), np.float32), features), provider)

    def tokens(self, frames: UInt8Array) -> FloatArray:
        self._ask(len(frames))
        return np.stack([self._tokens.get(one.tobytes(), self._otherwise[0]) for one in frames])

    def language(self, tokens: FloatArray) -> FloatArray:
        self._ask(0)
        return np.stack([self._features.get(one.tobytes(), self._otherwise[1]) for one in tokens])

    def features(self, frames: UInt8Array) -> FloatArray:
        features = self.language(self.tokens(frames))
        if not np.isfinite(features).all():
            raise InferenceFailed("the table holds features that are not finite")
        return features

    def abandon(self) -> None:
        self._abandoned = True

    def close(self) -> None:
        self.closed = True

    def _ask(self, segments: int) -> None:
        if self.closed:
            raise UsageError("the engine was closed; open a new one")
        if self._abandoned:
            raise InferenceFailed("the engine was abandoned")
        self.segments += segments
