"""An Mllm around a transformers model: what all families have in common.

A family adds what is its own: how frames become tokens, how they are written into the sequence, and where it has
them, positions along several axes and additions higher up in the decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.capture import capture_heads, stack_heads
from models.decoder import check_attention, interleave, read_decoder, split_visual
from models.family import Answer, Mllm, SourceModel
from models.generate import likeliest_answer
from models.layout import FrameMarkup, TokenLayout, build_layout
from models.prompts import Prompt
from models.shared_prefix import Stretch, last_states


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was loaded.

    Attributes:
        folder: Where its files are.
        model: The transformers model.
        tokenizer: The transformers tokenizer.
        source: Where the weights came from.
        fingerprint: sha256 over its files.
    """

    folder: Path
    model: Any
    tokenizer: Any
    source: SourceModel
    fingerprint: str


class TransformersMllm(Mllm):
    """One loaded checkpoint; a family subclasses it.

    The subclass sets `pixels`, `tokens_per_frame`, `frames_per_group`, `vision`, and:

    Attributes:
        visual_id: The id that stands for a visual token in `input_ids`.
        markup: How a frame is written.
    """

    visual_id: int
    markup: FrameMarkup

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse, before its weights are read, a checkpoint that cannot be exported exactly.

        Args:
            config: As transformers loaded it.

        Raises:
            CheckpointError: What is not supported, and what is.
        """
        check_attention(config.text_config)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model.eval().requires_grad_(False)
        self._tokenizer = checkpoint.tokenizer
        self.source = checkpoint.source
        self.fingerprint = checkpoint.fingerprint
        self.decoder = read_decoder(self.language, checkpoint.model.config.text_config)
        self.geometry = self.decoder.geometry

    @property
    def language(self) -> Any:
        """The decoder, without its output layer."""
        return self._model.model.language_model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._model.parameters()).device  # type: ignore[no-any-return]

    @property
    def plain(self) -> Any:
        """The transformers model itself, for oracles and for generating text."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer itself."""
        return self._tokenizer

    def layout(self, prompt: Prompt, frames: int) -> TokenLayout:
        """The token sequence of `frames` frames and a prompt; see Mllm."""
        groups = frames // self.frames_per_group
        return build_layout(self._tokenizer, self.markup, self.visual_id, groups, self.tokens_per_frame, prompt.text)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text."""
        table = self._model.get_input_embeddings()
        return table(torch.tensor([list(ids)], device=self.device, dtype=torch.long))  # type: ignore[no-any-return]

    @abstractmethod
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens by the plain transformers path, from normalised pixels.

        Args:
            frames: uint8 (n·g, S, S, 3) RGB.

        Returns:
            (n, T, D·(1 + additions)).
        """

    @abstractmethod
    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """The frames, uint8 (b, F, S, S, 3) RGB, as transformers' own forward and generate take them by name."""

    def plain_inputs(self, frames: NDArray[np.uint8], prompt: Prompt) -> dict[str, Tensor]:
        """What transformers' own forward and generate take: `input_ids` (b, s), and the frames, (b, F, S, S, 3)."""
        ids = self.layout(prompt, frames.shape[1]).ids(self.visual_id)
        return {"input_ids": torch.tensor([ids] * len(frames), device=self.device), **self.plain_pixels(frames)}

    def addition_arguments(self, layout: TokenLayout, additions: Mapping[int, Tensor]) -> dict[str, Any]:
        """What the family's own decoder takes to add to the visual positions of the prefix.

        Args:
            layout: The sequence.
            additions: For each layer of `additions_after`, (b, n, T, D).
        """
        raise NotImplementedError(f"{type(self).__name__} has additions and does not say how its decoder takes them")

    @torch.inference_mode()
    def head_features(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Features of every head under every prompt, on one shared prefix; see Mllm."""
        projections = [layer.self_attn.o_proj for layer in self.language.layers]
        with capture_heads(projections, self.geometry.heads) as caught:
            # Each pass overwrites what was caught of the one before it.
            features = [stack_heads(caught) for _ in self._last_states(frames, prompts)]
        return torch.stack(features, dim=1).numpy()

    @torch.inference_mode()
    def first_token_logits(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Logits of the first answer token under every prompt, on one shared prefix.

        Args:
            frames: uint8 (b, F, S, S, 3) RGB.
            prompts: M of them.

        Returns:
            float32 (b, M, vocabulary).
        """
        logits = [self._model.lm_head(state) for state in self._last_states(frames, prompts)]
        return torch.stack(logits, dim=1).to("cpu", torch.float32).numpy()

    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames; see Mllm."""
        return likeliest_answer(self._model, self._tokenizer, self.plain_inputs(frames[None], prompt), max_tokens)

    def to(self, device: str) -> None:
        """Move the weights; see Mllm."""
        self._model.to(device)
        self.vision.to(device)

    def _last_states(self, frames: NDArray[np.uint8], prompts: Sequence[Prompt]) -> Iterator[Tensor]:
        """The decoder's normed output at the last position (b, D), prompt after prompt."""
        layouts = [self.layout(prompt, frames.shape[1]) for prompt in prompts]
        first = layouts[0]
        assert all(layout.before == first.before for layout in layouts)
        tokens = self.visual_tokens(frames.reshape(-1, *frames.shape[2:]))
        tokens = tokens.reshape(len(frames), len(first.before), self.tokens_per_frame, -1)  # (b, n, T, …)
        visual, additions = split_visual(tokens, self.geometry.width, self.additions_after)
        prefix = Stretch(
            torch.cat(interleave([self.embed(run) for run in first.before], visual), dim=1),
            self.positions(first)[..., : first.prefix_length].to(self.device),
            self.addition_arguments(first, additions) if additions else {},
        )
        suffixes = [
            Stretch(
                self.embed(layout.after).expand(len(frames), -1, -1),
                self.positions(layout)[..., layout.prefix_length :].to(self.device),
            )
            for layout in layouts
        ]
        return last_states(self.language, prefix, suffixes)
