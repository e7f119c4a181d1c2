"""The model itself in transformers, as one would run it without any of this: SDPA, one logit kept, no cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.stream.segments import SegmentSpec
from models.family import Answer
from models.prompts import Prompt
from models.transformers_mllm import TransformersMllm


class Competitor:
    """One segment and one question to a model.

    Args:
        mllm: The model; its weights are read with the first call.
        frames: uint8 (1, F, H, W, 3).
        prompt: The question.
        segment: How the frames were sampled.
    """

    def __init__(
        self, mllm: TransformersMllm, frames: NDArray[np.uint8], prompt: Prompt, segment: SegmentSpec
    ) -> None:
        self._mllm = mllm
        self._frames = frames
        self._prompt = prompt
        self._segment = segment

    @torch.inference_mode()
    def whole(self) -> None:
        """One forward pass through all layers."""
        mllm = self._mllm
        inputs = mllm.plain_inputs(self._frames, self._prompt, self._segment)
        inputs |= {name: one.to(mllm.dtype) for name, one in inputs.items() if one.is_floating_point()}
        mllm.plain(**inputs, logits_to_keep=1, use_cache=False)

    def cut(self, depth: int) -> None:
        """The same through the lowest layers alone."""
        with _cut(self._mllm, depth):
            self.whole()

    def answer(self, tokens: int) -> Answer:
        """What it says in words, the likeliest every time, by transformers' `generate` with its cache."""
        return self._mllm.describe(self._frames[0], self._prompt, self._segment, tokens)


@contextmanager
def _cut(mllm: TransformersMllm, depth: int) -> Iterator[None]:
    language = mllm.language
    whole = language.layers
    language.layers = whole[:depth]
    try:
        yield
    finally:
        language.layers = whole
