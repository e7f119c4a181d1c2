"""What every MLLM family gives to the hunt and to the export, in the method's words."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import UsageError
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.decoder import Decoder, Geometry
from models.layout import TokenLayout
from models.precision import dtype_name
from models.prompts import Prompt
from models.sweep import Demand, Sweep
from models.vision import VisionTower
from models.weights import Weights

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
        vision: From uint8 (n, g, H, W, 3) to tokens (n, T, D·(1 + additions)).
        decoder: The layers that the export reuses.
        weights: The weights of both.
        additions_after: Decoder layers after which something is added to the hidden states at the visual positions
            (DeepStack); the tokens hold one addition for each, see `models.decoder.split_visual`. Usually none.
        source: Where the weights came from.
        fingerprint: sha256 over everything that can change what the model computes.
        sweep: How units go through the model.
        takes_any_size: Whether the size of its frames follows the camera's, see `pixels_for`.
    """

    geometry: Geometry
    pixels: PixelSpec
    tokens_per_frame: int
    frames_per_group: int
    vision: VisionTower
    decoder: Decoder
    weights: Weights
    additions_after: tuple[int, ...] = ()
    source: SourceModel
    fingerprint: str
    sweep: Sweep
    takes_any_size: ClassVar[bool] = False

    def pixels_for(self, height: int, width: int, segment: SegmentSpec) -> PixelSpec:
        """Choose the size in which frames of a camera are shown: the family's own, unless it takes any.

        Args:
            height: Of the frames as they come.
            width: Of the frames as they come.
            segment: How many of them are shown together; some families have a budget for all.
        """
        return self.pixels

    def use_pixels(self, pixels: PixelSpec) -> None:
        """Show frames in this size from now on: `pixels`, `tokens_per_frame` and `vision` follow it.

        Raises:
            UsageError: The family does not take it.
        """
        if pixels.size != self.pixels.size:
            raise UsageError(f"{self.source.name} takes frames of {self.pixels} pixels, not {pixels}")
        self.pixels = pixels

    @property
    def said_before(self) -> str | None:
        """The system message of the sequence: "" for none at all, None for what the chat template does."""
        return None

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.weights.dtype

    @abstractmethod
    def layout(self, prompt: Prompt, segment: SegmentSpec) -> TokenLayout:
        """The token sequence of a segment and a prompt.

        Some families write the times of the frames into it: those of the bin centres at `segment.fps`.

        Raises:
            UsageError: It is longer than the model's positions.
        """

    def positions(self, layout: TokenLayout) -> Tensor:
        """Rotary positions of the sequence.

        Returns:
            int64 (1, s), counted from zero; (axes, 1, s) where a family counts along several axes (M-RoPE). Up to the
            last visual token they are the same for every prompt.
        """
        return torch.arange(layout.length).unsqueeze(0)

    def identity(self, prompts: Sequence[Prompt], segment: SegmentSpec) -> dict[str, Any]:
        """Plain values that change whenever what the model makes of the same frames could."""
        layouts = [self.layout(prompt, segment) for prompt in prompts]
        sequences = [[one.before, one.after, self.positions(one).tolist()] for one in layouts]
        return {
            "model": self.fingerprint,
            "dtype": dtype_name(self.weights.dtype),
            "prompts": [[prompt.name, prompt.text] for prompt in prompts],
            "sequences": hashlib.sha256(json.dumps(sequences).encode()).hexdigest(),
        }

    @abstractmethod
    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text."""

    @abstractmethod
    def head_features(
        self,
        units: Iterable[NDArray[np.uint8]],
        prompts: Sequence[Prompt],
        segment: SegmentSpec,
        layers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Features of every head under every prompt.

        Args:
            units: The sampled frames of U units, uint8 (F, H, W, 3) RGB each. As many as `sweep` says go through the
                model together.
            prompts: M of them.
            segment: How the frames were sampled.
            layers: How many of the lowest layers are run; None for all.
            progress: Told how many steps are done, and how many there are.

        Returns:
            float32 (U, M, layers, H, d_h): what each head feeds into its layer's output projection at the last
            position.
        """

    @abstractmethod
    def segment_tokens(
        self, units: Iterable[NDArray[np.uint8]], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Visual tokens as the decoder is given them, before any of its layers.

        Args:
            units: The sampled frames of each unit, uint8 (F, H, W, 3) RGB, F whole groups. As many as `sweep` says go
                through the vision tower together.
            progress: Told how many steps are done, and how many there are.

        Yields:
            float32 (n·T, D·(1 + additions)) of each unit, n = F / g.
        """

    @abstractmethod
    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, segment: SegmentSpec, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames, the likeliest token every time.

        Args:
            frames: uint8 (F, H, W, 3) RGB.
            prompt: The question; the sequence is that of `layout`.
            segment: How the frames were sampled.
            max_tokens: The longest answer.

        Raises:
            UsageError: The model has too few positions for the frames, the question and the answer.
        """

    @abstractmethod
    def to(self, device: str) -> None:
        """Take the weights out of memory; where they are needed next, they are read to `cpu` or `cuda`."""

    @abstractmethod
    def demand(self, prompts: Sequence[Prompt], segment: SegmentSpec, layers: int | None = None) -> Demand:
        """What running the lowest layers, or all, on one unit takes."""
