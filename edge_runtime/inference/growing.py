"""A segment's sequence in the decoder, frame by frame: the running one's beginning is not run again at its end.

Attention is causal: what a frame leaves in the decoder does not depend on what comes behind it. With this the end of
a segment waits for its newest frame and the question alone, and a stream holds the keys and values of one sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import GrowingSpec
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import Engine, FloatArray, finite
from edge_runtime.stream.pixels import UInt8Array


@runtime_checkable
class GrowingEngine(Engine, Protocol):
    """An engine that also runs some positions of a sequence at a time."""

    def grow(
        self, tokens: FloatArray, positions: NDArray[np.int64], state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Run positions p to p + s - 1.

        Args:
            tokens: float32 (b, v, D), those of the v visual ones among the positions.
            positions: int64 (s,).
            state: float32 (b, p, C), what all positions before left.

        Returns:
            float32 (b, K·d), expert features where these are the sequence's last positions; and float32 (b, s, C),
            what these leave.

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed, or was opened without the growing form.
        """


class GrowingSequence:
    """What the decoder knows of one stream's running segment. Not to be shared between threads.

    Frames that turn out to be others than those that it was grown by cost time and nothing else: as much of the
    beginning as is the same is kept.

    Args:
        encoder: Of the stream.
        growing: What the bundle says of the graph.
        tokens_per_group: T, how many tokens a group of frames has.
    """

    def __init__(self, encoder: FrameEncoder, growing: GrowingSpec, tokens_per_group: int) -> None:
        self._encoder = encoder
        self._ends = growing.ends
        self._tokens_per_group = tokens_per_group
        self._width = growing.state_width
        self._state: FloatArray | None = None
        # By their tokens, the groups of frames that the state holds; and the features, where it holds all.
        self._grown: list[bytes] = []
        self._features: FloatArray | None = None

    @property
    def encoded(self) -> int:
        """See FrameEncoder."""
        return self._encoder.encoded

    @property
    def reused(self) -> int:
        """See FrameEncoder."""
        return self._encoder.reused

    def prepare(self, engine: Engine, frames: Sequence[UInt8Array]) -> None:
        """Encode the whole groups among a segment's first frames that are new, and run the decoder over them.

        Args:
            engine: A `GrowingEngine`.
            frames: uint8 (H, W, 3) each.

        Raises:
            InferenceFailed: As of `FrameEncoder.prepare`.
            UsageError: As of `FrameEncoder.prepare`.
        """
        if (added := self._encoder.prepare(engine, frames)) is not None:
            self._grow(engine, *added)

    def features(self, engine: Engine, frames: UInt8Array) -> FloatArray:
        """Expert features of one segment; see `FrameEncoder.features`."""
        self._grow(engine, 0, self._encoder.tokens(engine, frames))
        assert self._features is not None
        return finite(self._features)

    def _grow(self, engine: Engine, first: int, tokens: FloatArray) -> None:
        """Take in the groups from `first` on, whose tokens are float32 (1, m·T, D)."""
        assert isinstance(engine, GrowingEngine)
        groups = np.split(tokens, tokens.shape[1] // self._tokens_per_group, axis=1)
        keys = [hashlib.blake2b(np.ascontiguousarray(one).data, digest_size=16).digest() for one in groups]
        if first > len(self._grown):
            # An earlier group failed: the segment's end runs them all.
            return
        known = first
        while known < min(len(self._grown), first + len(keys)) and self._grown[known] == keys[known - first]:
            known += 1
        if known == first + len(keys):
            return
        start, stop = ([0, *self._ends][place] for place in (known, first + len(keys)))
        if self._state is None:
            self._state = np.zeros((1, self._ends[-1], self._width), np.float32)
        self._grown, self._features = self._grown[:known], None
        new = np.concatenate(groups[known - first :], axis=1)
        features, grown = engine.grow(new, np.arange(start, stop), self._state[:, :start])
        self._state[:, start:stop] = grown
        self._grown += keys[known - first :]
        if len(self._grown) == len(self._ends):
            self._features = features
