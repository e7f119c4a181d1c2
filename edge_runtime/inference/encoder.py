"""Visual tokens of one stream's frames: each group of frames is encoded once, however often it is needed.

With it a frame can be encoded when it comes, so that only the language graph is left when its segment ends; and a
frame that hardly differs from one that was encoded can take that one's tokens.
"""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.engine import Engine, FloatArray, finite, split_groups
from edge_runtime.stream.difference import block_difference, check_levels
from edge_runtime.stream.pixels import UInt8Array


class SegmentEncoder(Protocol):
    """What a stream remembers of its frames while their segment grows."""

    @property
    def encoded(self) -> int:
        """See FrameEncoder."""

    @property
    def reused(self) -> int:
        """See FrameEncoder."""

    def prepare(self, engine: Engine, frames: Sequence[UInt8Array]) -> object:
        """Look at a segment's first frames, (H, W, 3) each, before the segment ends; see FrameEncoder."""

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
        groups: How many are remembered from one segment to the next; twice as many at most while that one grows.
        reuse_unchanged: The `block_difference`, in grey levels, up to which a group takes the tokens of the group
            that was encoded last. Never is anything compared with a group that took another's tokens: slow changes
            add up until they are seen.

    Attributes:
        encoded: How many groups went through the vision graph so far.
        asked: How many groups the segments had so far.
        met: How many groups it did not recognise by their pixels so far.

    Raises:
        UsageError: `reuse_unchanged` is no number from 0 to 255.
    """

    def __init__(self, group: int, groups: int, reuse_unchanged: float | None = None) -> None:
        self._group = group
        self._most = groups
        self._levels = 0.0 if reuse_unchanged is None else check_levels(reuse_unchanged)
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._newest: tuple[UInt8Array, FloatArray] | None = None
        self._ahead: list[UInt8Array] = []
        self.encoded = 0
        self.asked = 0
        self.met = 0

    @classmethod
    def of_stream(cls, group: int, sampled: int, reuse_unchanged: float | None = None) -> Self:
        """Make one that remembers the tokens of a segment, and of the next one as it grows.

        Args:
            group: g.
            sampled: F, the frames of a segment.
            reuse_unchanged: As of the class.
        """
        return cls(group, 2 * sampled // group, reuse_unchanged)

    @property
    def reused(self) -> int:
        """How many encodings fewer than groups asked for.

        What was encoded ahead, for a segment that then had other frames, is taken off.
        """
        return max(0, self.asked - self.encoded)

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
        added = self._tokens(engine, np.stack(frames[first:whole])[None])
        self._forget(2 * self._most)
        return Added(first // self._group, added)

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
            InferenceFailed: The graph failed, or gave tokens that are not finite.
            UsageError: The engine was closed.
        """
        found = self._tokens(engine, frames)
        self.asked += frames.shape[1] // self._group
        # Not while a segment grows: one that is encoded ahead must find what one that is encoded at its end would.
        self._forget(self._most)
        return found

    def _tokens(self, engine: Engine, frames: UInt8Array) -> FloatArray:
        """As `tokens`, of any number of whole groups. What has to be encoded is encoded in one call."""
        groups = split_groups(frames, self._group)
        keys = [hashlib.blake2b(one, digest_size=16).digest() for one in groups]
        chosen, lenders = self._choose(groups, keys)
        made = self._encode(engine, groups[chosen]) if chosen else []
        self.met += len(lenders)
        last = [] if self._newest is None else [self._newest[1]]
        for key, lender in lenders.items():
            self._known[key] = [*made, *last][lender]
        if chosen:
            # A copy: a part of the segment's array would keep all of it in memory.
            self._newest = groups[chosen[-1]].copy(), made[-1]
        for key in keys:
            self._known.move_to_end(key)
        return np.concatenate([self._known[key] for key in keys], axis=1)

    def _forget(self, most: int) -> None:
        """Keep the newest `most`."""
        while len(self._known) > most:
            self._known.popitem(last=False)

    def _choose(self, groups: UInt8Array, keys: Sequence[bytes]) -> tuple[list[int], dict[bytes, int]]:
        """Decide by their pixels which groups (n, g, H, W, 3) must be encoded, in the stream's order.

        Returns:
            The places of those that must, and for each key that is not known yet the one of them whose tokens it
            takes, counted from 0; -1 is the group that was encoded last before this call.
        """
        chosen: list[int] = []
        lenders: dict[bytes, int] = {}
        newest = None if self._newest is None else self._newest[0]
        for place, (key, group) in enumerate(zip(keys, groups, strict=True)):
            if key in self._known or key in lenders:
                continue
            if newest is None or not self._alike(newest, group):
                newest = group
                chosen.append(place)
            lenders[key] = len(chosen) - 1
        return chosen, lenders

    def _alike(self, one: UInt8Array, other: UInt8Array) -> bool:
        # At 0 only identical pixels are, and those have been recognised by their key.
        return self._levels > 0 and block_difference(one, other) <= self._levels

    def _encode(self, engine: Engine, groups: UInt8Array) -> list[FloatArray]:
        """Tokens (1, T, D) of each group (n, g, H, W, 3)."""
        made = engine.tokens(groups.reshape(1, -1, *groups.shape[2:]))
        # One bad call must not be lent to all that follows.
        if not np.isfinite(made).all():
            raise InferenceFailed("the vision graph gave tokens that are not finite")
        self.encoded += len(groups)
        return np.split(made, len(groups), axis=1)
