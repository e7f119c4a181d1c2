"""Who is asked what happens: a model that is loaded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edge_runtime.stream.pixels import UInt8Array, prepare
from edge_runtime.stream.segments import SegmentSpec
from models.family import Answer, Mllm
from models.prompts import Prompt


class Describer(Protocol):
    """Says in words what some pictures show."""

    @property
    def model(self) -> str:
        """Which model speaks, as it stands in the output."""

    def take(self, picture: UInt8Array) -> UInt8Array:
        """Keep what is needed of a decoded picture, BGR uint8 (h, w, 3), until all of an event are together."""

    def describe(self, taken: Sequence[UInt8Array], prompt: Prompt, segment: SegmentSpec) -> Answer:
        """Answer the question about the pictures, which are in their order, sampled as `segment` says."""


class LocalModel:
    """A checkpoint that was loaded here: the pixels and the token sequence are those of the hunt."""

    def __init__(self, mllm: Mllm, max_tokens: int) -> None:
        self._mllm = mllm
        self._max_tokens = max_tokens

    @property
    def model(self) -> str:
        """Name and revision of the weights."""
        return f"{self._mllm.source.name}@{self._mllm.source.revision}"

    def take(self, picture: UInt8Array) -> UInt8Array:
        """Prepare the picture as the vision tower takes it: RGB uint8 (H, W, 3)."""
        return prepare(picture, self._mllm.pixels)

    def describe(self, taken: Sequence[UInt8Array], prompt: Prompt, segment: SegmentSpec) -> Answer:
        """See Describer. Raises UsageError where the model has too few positions."""
        return self._mllm.describe(np.stack(taken), prompt, segment, self._max_tokens)
