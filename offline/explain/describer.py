"""Who is asked what happens: a model that is loaded here. Knows pictures and a question; nothing of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edge_runtime.stream.pixels import UInt8Array, prepare
from models.family import Answer, Mllm
from models.prompts import Prompt


class Describer(Protocol):
    """Says in words what some pictures show."""

    @property
    def model(self) -> str:
        """Which model speaks, as it stands in the output."""

    def take(self, picture: UInt8Array) -> UInt8Array:
        """What is kept of a decoded picture, BGR uint8 (h, w, 3), until all of an event are together."""

    def describe(self, taken: Sequence[UInt8Array], prompt: Prompt) -> Answer:
        """The answer to the question about the pictures, in their order."""


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
        """RGB uint8 (S, S, 3), as the vision tower takes it."""
        return prepare(picture, self._mllm.pixels)

    def describe(self, taken: Sequence[UInt8Array], prompt: Prompt) -> Answer:
        """See Describer. Raises UsageError where the model has too few positions."""
        return self._mllm.describe(np.stack(taken), prompt, self._max_tokens)
