"""Qwen3-VL (transformers' Qwen3VLForConditionalGeneration): DeepStack, and a time before each group of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.stream.segments import SegmentSpec, sample_indices
from models.families.qwen_video import Budget, QwenVideo
from models.families.qwen_vision import Embed, Grid, Merge, Turns, VisionBlock, as_tokens, places
from models.normalisation import HALF
from models.transformers_mllm import Checkpoint


class _Addition(nn.Module):
    """What one layer of the tower adds higher up in the decoder (DeepStack): its units, merged."""

    def __init__(self, merger: Any, tokens: int) -> None:
        super().__init__()
        self.merger = merger
        self.tokens = tokens

    def forward(self, hidden: Tensor, *additions: Tensor) -> tuple[Tensor, ...]:
        """(n, P, W) passes, with (n, T, D) behind the additions so far."""
        return hidden, *additions, as_tokens(self.merger(hidden), self.tokens)


class Qwen3VL(QwenVideo):
    """One loaded Qwen3-VL checkpoint. Each group of frames is written behind its time."""

    # Of all frames together.
    budget = Budget(least=128 * 32**2, most=768 * 32**2, capped=False, tokens=768)
    normalisation = HALF

    def __init__(self, checkpoint: Checkpoint) -> None:
        vision = checkpoint.model.config.vision_config
        tapped = set(vision.deepstack_visual_indexes) & set(range(vision.depth))
        # What the tower gives first is added after the lowest layer, and so on.
        self.additions_after = tuple(range(len(tapped)))
        super().__init__(checkpoint)

    def fit(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Multiples of a token's side within the budget of all frames; see QwenVideo.

        The arithmetic of `Qwen3VLVideoProcessor.resize` and `smart_resize` in
        transformers/models/qwen3_vl/video_processing_qwen3_vl.py, which cannot be imported without torchvision.
        """
        side, least, most = self._side, self.budget.least, self.budget.most
        if self.budget.capped:
            share = min(self.budget.tokens * side * side, most // frames)
            most = max(share, int(least * 1.05)) * frames
        if height < side or width < side:
            grow = max(side / height, side / width)
            height, width = int(height * grow), int(width * grow)
        if max(height, width) / min(height, width) > 200:
            raise ValueError("one side is more than 200 times the other")
        rows, columns = round(height / side) * side, round(width / side) * side
        filled = round(frames / self.frames_per_group) * self.frames_per_group
        if filled * rows * columns > most:
            shrink = math.sqrt((frames * height * width) / most)
            rows = max(side, math.floor(height / shrink / side) * side)
            columns = max(side, math.floor(width / shrink / side) * side)
        elif filled * rows * columns < least:
            grow = math.sqrt(least / (frames * height * width))
            rows, columns = math.ceil(height * grow / side) * side, math.ceil(width * grow / side) * side
        return rows, columns

    def stages(self, grid: Grid) -> Sequence[nn.Module]:
        """Patches, layers with what they add higher up, merger; see QwenVideo."""
        tower = self._tower
        order = places(grid)
        turns = Turns(tower.rotary_pos_emb, order)
        tapped = list(self._vision_config.deepstack_visual_indexes)
        found: list[nn.Module] = [Embed(self._patches, grid, order, self.weights, self._positions(grid))]
        for number, block in enumerate(tower.blocks):
            found.append(VisionBlock(block, turns, [(1, grid.patches)]))
            if number in tapped:
                found.append(_Addition(tower.deepstack_merger_list[tapped.index(number)], grid.units))
        return [*found, Merge(tower.merger, grid.units)]

    def _positions(self, grid: Grid) -> Tensor:
        """The learned positions, (P, W) float32, interpolated from their square as the tower does it."""
        from transformers.vision_utils import get_vision_interpolation_indices_and_weights

        tower = self._tower
        indices, shares = get_vision_interpolation_indices_and_weights(
            grid.thw,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=grid.merge,
        )
        table = self.weights.read(self.weights.name_of(tower.pos_embed.weight), dtype=torch.float32)
        positions: Tensor = (table[indices] * shares[:, :, None]).sum(1)
        return positions

    def write_video(self, segment: SegmentSpec) -> str:
        """`<0.3 seconds>` and the visual tokens, group by group; see TransformersMllm.

        What the template has written around the whole stays, as transformers keeps it since 5.10.
        """
        tokenizer, group = self._tokenizer, self.frames_per_group
        start = getattr(tokenizer, "vision_start_token", "<|vision_start|>")
        end = getattr(tokenizer, "vision_end_token", "<|vision_end|>")
        picture = f"{start}{tokenizer.convert_ids_to_tokens(self.visual_id) * self.tokens_per_frame}{end}"
        indices = sample_indices(segment.frames, segment.sampled).tolist()
        indices += indices[-1:] * (-len(indices) % group)
        times = [index / segment.fps for index in indices]
        middles = [(first + last) / 2 for first, last in zip(times[::group], times[group - 1 :: group], strict=True)]
        return "".join(f"<{middle:.1f} seconds>{picture}" for middle in middles)
