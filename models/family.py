"""What every MLLM family gives to the hunt and to the export, in the method's words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.stream.pixels import PixelSpec
from models.decoder import Decoder, Geometry
from models.layout import TokenLayout
from models.prompts import Prompt

__all__ = ["Answer", "Geometry", "Mllm", "SourceModel"]


@dataclass(frozen=True, slots=True)
class SourceModel:
    """Where the weights came from, as far as the checkpoint says.

    Attributes:
        name: A Hugging Face id, a folder's name, or `reference`.
        revision: The hub's commit, or `sha256:` and the beginning of the fingerprint.
        architecture: The class that the config names.
        licence: What the model card says, else `unknown`.
    """

    name: str
    revision: str
    architecture: str
    licence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Attributes:
        text: The answer, without special tokens.
        cut: The limit on its length ended it, not the model.
    """

    text: str
    cut: bool


class Mllm(ABC):
    """A frozen multimodal language model, seen through its heads.

    Attributes:
        geometry: The decoder's sizes.
        pixels: What frames must look like.
        tokens_per_frame: T, visual tokens of one group of frames.
        frames_per_group: g, how many frames the vision tower merges.
        vision: A module from uint8 (n, g, S, S, 3) to tokens (n, T, D·(1 + additions)).
        decoder: The layers that the export reuses.
        additions_after: Decoder layers after which something is added to the hidden states at the visual positions
            (DeepStack); the tokens hold one addition for each, see `models.decoder.split_visual`. Usually none.
        source: Where the weights came from.
        fingerprint: sha256 over everything that can change what the model computes.
    """

    geometry: Geometry
    pixels: PixelSpec
    tokens_per_frame: int
    frames_per_group: int
    vision: nn.Module
    decoder: Decoder
    additions_after: tuple[int, ...] = ()
    source: SourceModel
    fingerprint: str

    @abstractmethod
    def layout(self, prompt: Prompt, frames: int) -> TokenLayout:
        """The token sequence of `frames` frames and a prompt."""

    def positions(self, layout: TokenLayout) -> Tensor:
        """Rotary positions of the sequence.

        Returns:
            int64 (1, s), counted from zero; (axes, 1, s) where a family counts along several axes (M-RoPE). Up to the
            last visual token they are the same for every prompt.
        """
        return torch.arange(layout.length).unsqueeze(0)

    @abstractmethod
    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text."""

    @abstractmethod
    def head_features(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Features of every head under every prompt.

        Args:
            frames: uint8 (b, F, S, S, 3) RGB.
            prompts: M of them.

        Returns:
            float32 (b, M, L, H, d_h): what each head feeds into its layer's output projection at the last position.
        """

    @abstractmethod
    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames, the likeliest token every time.

        Args:
            frames: uint8 (F, S, S, 3) RGB.
            prompt: The question; the sequence is that of `layout`.
            max_tokens: The longest answer.

        Raises:
            UsageError: The model has too few positions for the frames, the question and the answer.
        """

    @abstractmethod
    def to(self, device: str) -> None:
        """Move the weights to `cpu` or `cuda`."""
