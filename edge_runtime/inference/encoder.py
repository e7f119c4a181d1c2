"""Visual tokens of one stream's frames: each group of frames is encoded once, however often it is needed.

With it a frame can be encoded when it comes, so that only the language graph is left when its segment ends.
"""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from edge_runtime.inference.engine import Engine, FloatArray, finite, split_groups
from edge_runtime.stream.pixels import UInt8Array


class SegmentEncoder(Protocol):
    """What a stream remembers of its frames while their segment grows."""

    def prepare(self, engine: Engine, frames: Sequence[UInt8Array]) -> Any:
        """See FrameEncoder."""

    def features(self, engine: Engine, frames: UInt8Array) -> FloatArray:
        """See FrameEncoder."""


class Added(NamedTuple):
    """Groups of frames that a segment grew by.

    Attributes:
        first: How many groups stand before them in the segment.
        tokens: float32 (1, m·T, D), of m groups.
    """

    first: int
    tokens: FloatArray


class FrameEncoder:
    """Remembers the tokens of the newest groups of frames. Not to be shared between threads.

    What is asked for is recognised by its pixels, not by its place: a group that turns out to be another than was
    expected is encoded anew, and one that comes again is not.

    Args:
        group: g, how many frames the vision graph takes together.
        groups: How many are remembered.

    Attributes:
        encoded: How many groups went through the vision graph so far.
    """

    def __init__(self, group: int, groups: int) -> None:
        self._group = group
        self._most = groups
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._ahead: list[UInt8Array] = []
        self.encoded = 0

    def prepare(self, engine: Engine, frames: Sequence[UInt8Array]) -> Added | None:
        """Encode the whole groups among a segment's first frames, (H, W, 3) each, that were not there last time.

        Cheap where nothing was added: it is asked at every frame of a stream.

        Returns:
            What was added; None where nothing was.

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed.
        """
        whole = len(frames) // self._group * self._group
        same = len(self._ahead) <= whole and all(map(operator.is_, self._ahead, frames))
        first = len(self._ahead) if same else 0
        # Noted before: what fails is encoded with its segment, not tried again at every frame.
        self._ahead = list(frames[:whole])
        if first == whole:
            return None
        return Added(first // self._group, self.tokens(engine, np.stack(frames[first:whole])[None]))

    def features(self, engine: Engine, frames: UInt8Array) -> FloatArray:
        """Expert features of one segment, float32 (1, K·d); takes and raises what `tokens` does."""
        return finite(engine.language(self.tokens(engine, frames)))

    def tokens(self, engine: Engine, frames: UInt8Array) -> FloatArray:
        """Tokens of one segment.

        Args:
            engine: What encodes.
            frames: uint8 (1, F, H, W, 3).

        Returns:
            float32 (1, n·T, D).

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed.
        """
        groups = split_groups(frames, self._group)
        keys = [hashlib.blake2b(one, digest_size=16).digest() for one in groups]
        missing = {key: place for place, key in enumerate(keys) if key not in self._known}
        if missing:
            chosen = groups[list(missing.values())]
            made = engine.tokens(chosen.reshape(1, -1, *chosen.shape[2:]))
            self.encoded += len(missing)
            for key, tokens in zip(missing, np.split(made, len(missing), axis=1), strict=True):
                self._known[key] = tokens
        for key in keys:
            self._known.move_to_end(key)
        found = np.concatenate([self._known[key] for key in keys], axis=1)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return found
