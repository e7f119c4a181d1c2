"""Qwen2.5-VL (transformers' Qwen2_5_VLForConditionalGeneration): windows of patches, groups placed by their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn

from edge_runtime.stream.segments import SegmentSpec
from models.families.qwen_video import Budget, QwenVideo
from models.families.qwen_vision import Embed, Grid, Merge, Turns, VisionBlock, Windows, places
from models.layout import TokenLayout
from models.normalisation import CLIP
from models.prompts import Prompt


class Qwen25VL(QwenVideo):
    """One loaded Qwen2.5-VL checkpoint. All groups of frames stand in one run of visual tokens."""

    # Of each frame.
    budget = Budget(least=128 * 28**2, most=768 * 28**2, capped=False, tokens=128_000)
    normalisation = CLIP
    legacy_budget = True

    def fit(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Multiples of a token's side within the budget of a frame; see QwenVideo.

        The arithmetic of `Qwen2VLVideoProcessor.resize` and `smart_resize` in
        transformers/models/qwen2_vl/video_processing_qwen2_vl.py, which cannot be imported without torchvision.
        """
        side, least, most = self._side, self.budget.least, self.budget.most
        if self.budget.capped:
            total = int(self.budget.tokens * side * side * 0.9)
            most = max(min(most, total * self.frames_per_group // frames), int(least * 1.05))
        if max(height, width) / min(height, width) > 200:
            raise ValueError("one side is more than 200 times the other")
        rows, columns = round(height / side) * side, round(width / side) * side
        if rows * columns > most:
            shrink = math.sqrt((height * width) / most)
            rows = max(side, math.floor(height / shrink / side) * side)
            columns = max(side, math.floor(width / shrink / side) * side)
        elif rows * columns < least:
            grow = math.sqrt(least / (height * width))
            rows, columns = math.ceil(height * grow / side) * side, math.ceil(width * grow / side) * side
        return rows, columns

    def stages(self, grid: Grid) -> Sequence[nn.Module]:
        """Patches, layers in windows or over the whole group, merger; see QwenVideo."""
        tower, config = self._tower, self._vision_config
        units, windows = _windows(grid, int(config.window_size))
        order = places(grid, units)
        turns = Turns(tower.rotary_pos_emb, order)
        whole = [(1, grid.patches)]
        blocks = [
            VisionBlock(block, turns, whole if number in config.fullatt_block_indexes else windows)
            for number, block in enumerate(tower.blocks)
        ]
        embed = Embed(self._patches, grid, order, self.weights)
        return [embed, *blocks, Merge(tower.merger, grid.units, units)]

    def write_video(self, segment: SegmentSpec) -> str:
        """Visual tokens only: the template has written what stands around them; see TransformersMllm."""
        groups = -(-segment.sampled // self.frames_per_group)
        return str(self._tokenizer.convert_ids_to_tokens(self.visual_id)) * (groups * self.tokens_per_frame)

    def write(self, prompt: Prompt, segment: SegmentSpec) -> TokenLayout:
        """The sequence, with the seconds from one group to the next; see TransformersMllm."""
        seconds = self.frames_per_group / (segment.sampled / segment.frames * segment.fps)
        return replace(super().write(prompt, segment), seconds_per_group=seconds)

    def timing(self, layout: TokenLayout, batch: int) -> dict[str, Tensor]:
        """`second_per_grid_ts`, float32 as the processor gives it; see QwenVideo."""
        return {"second_per_grid_ts": torch.tensor([layout.seconds_per_group] * batch)}


def _windows(grid: Grid, window_size: int) -> tuple[Tensor, Windows]:
    """The order of the units in the tower, and how many windows of how many patches they make.

    The windows are transformers' own, those of a size next to each other: at the borders they are smaller.

    Args:
        grid: The patches.
        window_size: Pixels a side of a window.

    Returns:
        Units, (T,), and the windows.
    """
    from transformers.vision_utils import get_vision_window_index

    order, ends = get_vision_window_index(grid.thw, grid.merge, window_size, grid.patch)
    unit = grid.merge**2
    windows = sorted(order.split((ends.diff() // unit).tolist()), key=len)
    return torch.cat(windows), [(len(list(group)), length * unit) for length, group in groupby(windows, key=len)]
