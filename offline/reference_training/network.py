"""The network in training: a plain InternVL model and, beside it, linear layers that are thrown away.

The linear layers read what is to be seen off single visual tokens and off the last prompt position; they give every
part of the model something to learn before the answers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from models.reference.architecture import REFERENCE, REFERENCE_LARGE, SHAPES, build_config
from offline.reference_training.attention import register
from offline.reference_training.batches import CLIP_NAMES, IGNORED, Batch
from offline.reference_training.clips import CELL_NAMES


@dataclass(frozen=True, slots=True)
class Readers:
    """Where the throw-away layers of a model read.

    Attributes:
        cells: Decoder layers after which visual tokens are read: with frames before them, they can tell motion.
        clips: Decoder layers after which the last prompt position is read.
    """

    cells: tuple[int, ...]
    clips: tuple[int, ...]


READ: Final = {
    REFERENCE: Readers(cells=(3, 6), clips=(3, 4, 5, 6)),
    REFERENCE_LARGE: Readers(cells=(5, 10), clips=(4, 6, 8, 10)),
}
"""By the name of the model."""

CELL_WEIGHT: Final = 0.5
CLIP_WEIGHT: Final = 0.5
STILL_WEIGHT: Final = 0.2


class Trainee(nn.Module):
    """The model and its throw-away layers.

    Args:
        tokenizer: For the size of the vocabulary, and the ids of special tokens.
        name: The model's, one of SHAPES.

    Attributes:
        model: The InternVL model, which is what is shipped.
        still: Reads visual tokens as the vision tower gives them, before the decoder.
        cells: Read visual tokens after decoder layers, as READ has it.
        clips: Read the last prompt position after decoder layers, as READ has it.
    """

    def __init__(self, tokenizer: Any, name: str = REFERENCE) -> None:
        from transformers import InternVLForConditionalGeneration

        super().__init__()
        config = build_config(
            SHAPES[name],
            vocabulary=len(tokenizer),
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        self.model = InternVLForConditionalGeneration(config)
        self.model.model.language_model.config._attn_implementation = register()
        self.model.model.vision_tower.config._attn_implementation = "eager"
        _initialise(self.model)
        width = config.text_config.hidden_size
        self.read = READ[name]
        self.still = nn.Linear(width, len(CELL_NAMES))
        self.cells = nn.ModuleList(_reader(width, len(CELL_NAMES)) for _ in self.read.cells)
        self.clips = nn.ModuleList(_reader(width, len(CLIP_NAMES)) for _ in self.read.clips)
        self.register_buffer("cell_weight", torch.ones(len(CELL_NAMES)))
        self.register_buffer("clip_weight", torch.ones(len(CLIP_NAMES)))

    def set_prevalence(self, cells: Tensor, clips: Tensor) -> None:
        """Give rare names more weight where they are present: sqrt((1 - p) / p), within bounds.

        Args:
            cells: (len(CELL_NAMES),), p: share of cells that show each.
            clips: (len(CLIP_NAMES),), p: share of clips that show each.
        """
        for buffer, shares, most in ((self.cell_weight, cells, 12.0), (self.clip_weight, clips, 6.0)):
            share = shares.clamp(1e-5, 1 - 1e-5)
            buffer.copy_(((1 - share) / share).sqrt().clamp(0.5, most))  # type: ignore[operator]

    def tokens(self, pixels: Tensor) -> Tensor:
        """Compute the visual tokens of frames: (n, 3, H, W) to (n, T, D)."""
        out = self.model.model.get_image_features(
            pixel_values=pixels, vision_feature_layer=-1, vision_feature_select_strategy="default", return_dict=True
        ).pooler_output
        return out  # type: ignore[no-any-return]

    def still_loss(self, pixels: Tensor, cells: Tensor) -> Tensor:
        """Compute the loss of stage 1: how well each cell of single frames is read.

        Args:
            pixels: (B, 3, H, W), normalised.
            cells: (B, T, len(CELL_NAMES)).

        Returns:
            The mean over frames and cells.
        """
        return self._multi_label(self.still(self.tokens(pixels)), cells, self.cell_weight)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of stage 2.

        Args:
            batch: A batch, or a part of one. A part's losses are its share of the whole: they add up.

        Returns:
            `total`, and before they are weighted `answers` (mean over answer tokens), `cells`, `clips`, `still`.
        """
        tokens, exchanges, clips = batch.whole
        visual, states = self._states(batch)
        is_visual = batch.ids == self.model.config.image_token_id
        rows, last = batch.asked.T
        cell_losses, clip_losses = [], []
        for number, hidden in enumerate(states, start=1):
            if number in self.read.cells:
                seen = hidden[is_visual].reshape(*batch.cells.shape[:3], -1)
                reader = self.cells[self.read.cells.index(number)]
                cell_losses.append(self._multi_label(reader(seen.float()), batch.cells, self.cell_weight))
            if number in self.read.clips:
                reader = self.clips[self.read.clips.index(number)]
                clip_losses.append(
                    self._multi_label(reader(hidden[rows, last].float()), batch.shown, self.clip_weight)
                )
        told = batch.labels != IGNORED
        logits = self.model.lm_head(self.model.model.language_model.norm(states[-1][told]))
        still = self._multi_label(self.still(visual).reshape(batch.cells.shape), batch.cells, self.cell_weight)
        parts = {
            "answers": cross_entropy(logits.float(), batch.labels[told], reduction="sum") / tokens,
            "cells": torch.stack(cell_losses).mean() * len(batch.ids) / clips,
            "clips": torch.stack(clip_losses).mean() * len(batch.asked) / exchanges,
            "still": still * len(batch.ids) / clips,
        }
        total = parts["answers"] + CELL_WEIGHT * parts["cells"] + CLIP_WEIGHT * parts["clips"]
        return {"total": total + STILL_WEIGHT * parts["still"], **parts}

    def answers(self, batch: Batch) -> Tensor:
        """Find the likeliest next token at every position where an answer is expected.

        Returns:
            (B, S); -1 at the other positions.
        """
        _, states = self._states(batch)
        told = batch.labels != IGNORED
        best = torch.full_like(batch.ids, -1)
        best[told] = self.model.lm_head(self.model.model.language_model.norm(states[-1][told])).argmax(-1)
        return best

    def _states(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Visual tokens (B * 16, T, D), and what each decoder layer hands on, (B, S, D)."""
        visual = self.tokens(batch.pixels.flatten(0, 1))
        language = self.model.model.language_model
        hidden = self.model.get_input_embeddings()(batch.ids)
        is_visual = batch.ids == self.model.config.image_token_id
        hidden = hidden.to(visual.dtype).masked_scatter(is_visual[..., None], visual.flatten(0, 1))
        angles = language.rotary_emb(hidden, batch.positions)
        mask = torch.zeros(batch.mask.shape, dtype=visual.dtype).masked_fill_(~batch.mask, -1e4)
        states = []
        for layer in language.layers:
            hidden = layer(hidden, attention_mask=mask, position_ids=batch.positions, position_embeddings=angles)
            states.append(hidden)
        return visual, states

    @staticmethod
    def _multi_label(logits: Tensor, target: Tensor, weight: Any) -> Tensor:
        """Binary cross-entropy, summed over a tenth of the labels: most of them are plainly absent."""
        loss = binary_cross_entropy_with_logits(logits.float(), target, pos_weight=weight)
        return loss * (target.shape[-1] / 10)


def _reader(width: int, names: int) -> nn.Module:
    return nn.Sequential(nn.RMSNorm(width), nn.Linear(width, names))


def _initialise(model: Any) -> None:
    """Weights by fan-in, residual outputs smaller; position embeddings that differ from the first step on."""
    layers = model.config.text_config.num_hidden_layers
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or "embed_tokens" in name:
            continue
        fan_in = parameter[0].numel()
        scale = (2 * layers) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        if "position_embeddings" in name or "cls_token" in name:
            nn.init.normal_(parameter, std=0.2)
        else:
            nn.init.normal_(parameter, std=scale * fan_in**-0.5)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.06)
