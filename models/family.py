"""What every MLLM family gives to the hunt and to the export. Knows the method's words; no family's modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.stream.pixels import PixelSpec
from models.decoder import Decoder, Geometry
from models.layout import TokenLayout
from models.prompts import Prompt

__all__ = ["Answer", "Geometry", "Mllm", "SourceModel"]


@dataclass(frozen=True, slots=True)
class SourceModel:
    """Where the weights came from, as far as the checkpoint says."""

    name: str
    revision: str
    architecture: str
    licence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. cut: the limit on its length ended it, not the model."""

    text: str
    cut: bool


class Mllm(ABC):
    """A frozen multimodal language model, seen through its heads.

    Attributes: geometry; pixels, what frames must look like; tokens_per_frame T; frames_per_group g, how many
    frames the vision tower merges; vision, a module from uint8 (n, g, S, S, 3) to tokens (n, T, D); decoder,
    the modules that the export reuses; source and fingerprint, which tell what the weights are.
    """

    geometry: Geometry
    pixels: PixelSpec
    tokens_per_frame: int
    frames_per_group: int
    vision: nn.Module
    decoder: Decoder
    source: SourceModel
    fingerprint: str

    @abstractmethod
    def layout(self, prompt: Prompt, frames: int) -> TokenLayout:
        """The token sequence of `frames` frames and a prompt."""

    @abstractmethod
    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text."""

    @abstractmethod
    def head_features(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Features of every head under every prompt.

        frames: uint8 (b, F, S, S, 3) RGB. Returns float32 (b, M, L, H, d_h).
        """

    @abstractmethod
    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames, the likeliest token every time.

        frames: uint8 (F, S, S, 3) RGB. The sequence is that of `layout`. Raises UsageError for more frames or
        tokens than the model has positions for.
        """

    @abstractmethod
    def to(self, device: str) -> None:
        """Move the weights to `cpu` or `cuda`."""
