"""What Qwen2.5-VL and Qwen3-VL have in common: frames in pairs, of any size, and positions along three axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError, UsageError
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.families.qwen_vision import FoldedPatches, Grid, as_tokens
from models.layout import TokenLayout
from models.normalisation import Normalisation, stated_interpolation, stated_normalisation, video_processor_config
from models.prompts import Prompt
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.vision import VisionTower

# As transformers marks the tokens of a video.
_VIDEO = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pixels the family's video processor gives to frames.

    Attributes:
        least: Pixels; of one frame or of all, as the family has it.
        most: See above.
        capped: Whether each frame is held to its share of a number of tokens.
        tokens: That number.
    """

    least: int
    most: int
    capped: bool
    tokens: int


class QwenVideo(TransformersMllm):
    """One loaded checkpoint. Frames come in pairs; their size is chosen for a camera, by the processor's arithmetic.

    A family adds the size, the stages of the tower, and how the frames are written.

    Attributes:
        budget: See Budget; here what the processor takes where the folder does not say.
        normalisation: Likewise.
        grid: A group of frames in patches.
    """

    placeholder = "<|video_pad|>"
    budget: Budget
    normalisation: Normalisation
    #: Where older checkpoints state the budget, outside of `size`.
    legacy_budget: ClassVar[bool] = False
    takes_any_size: ClassVar[bool] = True
    grid: Grid

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse what would not be exported exactly; see TransformersMllm."""
        super().check_config(config)
        vision = config.vision_config
        if not isinstance(vision.patch_size, int) or not isinstance(vision.temporal_patch_size, int):
            raise CheckpointError("vision_config.patch_size and temporal_patch_size must be one number each")
        if vision.in_channels != 3:
            raise CheckpointError(f"the vision tower takes {vision.in_channels} channels; only 3 are supported")

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = checkpoint.model.config
        self._vision_config = config.vision_config
        self.frames_per_group = int(config.vision_config.temporal_patch_size)
        self.visual_id = int(config.video_token_id)
        path, document = video_processor_config(checkpoint.folder)
        _check_processor(path, document, config.vision_config)
        self.budget = self._read_budget(path, document)
        self.normalisation = stated_normalisation(path, document, self.normalisation)
        self._interpolation = stated_interpolation(path, document)
        self._patches = FoldedPatches(self._tower.patch_embed.proj, self.normalisation, checkpoint.weights)
        # Until somebody knows the camera.
        self.use_pixels(self.pixels_for(480, 640, SegmentSpec()))

    @property
    def _tower(self) -> Any:
        return self._model.model.visual

    @property
    def _side(self) -> int:
        """Pixels a side of the square that becomes a token."""
        return int(self._vision_config.patch_size * self._vision_config.spatial_merge_size)

    @abstractmethod
    def fit(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Height and width that the family's processor gives to frames of a size.

        Raises:
            ValueError: It does not take them.
        """

    @abstractmethod
    def stages(self, grid: Grid) -> Sequence[nn.Module]:
        """The vision tower's for one size."""

    def pixels_for(self, height: int, width: int, segment: SegmentSpec) -> PixelSpec:
        """The size that the family's own processor would choose; see Mllm.

        Raises:
            UsageError: It would not take such frames.
        """
        try:
            size = self.fit(height, width, max(segment.sampled, self.frames_per_group))
        except ValueError as error:
            raise UsageError(
                f"{self.source.name} cannot be shown frames of {width} x {height} pixels: {error}"
            ) from error
        return PixelSpec(size=size, interpolation=self._interpolation)

    def use_pixels(self, pixels: PixelSpec) -> None:
        """Show frames in this size from now on; see Mllm."""
        side = self._side
        if pixels.height % side or pixels.width % side:
            height, width = (max(1, round(one / side)) * side for one in (pixels.height, pixels.width))
            raise UsageError(
                f"{self.source.name} takes frames whose sides are multiples of {side} pixels, not {pixels}; "
                f"{width} x {height} would do"
            )
        patch, merge = int(self._vision_config.patch_size), int(self._vision_config.spatial_merge_size)
        self.pixels = pixels
        self.grid = Grid(pixels.height // patch, pixels.width // patch, patch, merge)
        self.tokens_per_frame = self.grid.units
        self.vision_grid = self.grid.patches, int(self._vision_config.hidden_size)
        self.vision = VisionTower(self.stages(self.grid))
        self._place_constants()

    def positions(self, layout: TokenLayout) -> Tensor:
        """Along time, rows and columns, (3, 1, s), by the model's own arithmetic; see Mllm."""
        ids = torch.tensor([layout.ids(self.visual_id)])
        found, _ = self._model.model.get_rope_index(
            input_ids=ids,
            mm_token_type_ids=self._kinds(ids),
            video_grid_thw=self._thw(len(layout.before), 1),
            **self.timing(layout, 1),
        )
        positions: Tensor = found
        return positions

    def timing(self, layout: TokenLayout, batch: int) -> dict[str, Tensor]:
        """What the model takes besides about the times of `batch` equal videos."""
        return {}

    @torch.inference_mode()
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (n, T, D·(1 + additions)) of uint8 (n·g, H, W, 3) by the plain transformers path."""
        outputs = self.plain.model.get_video_features(**self.plain_pixels(frames[None]), return_dict=True)
        parts = [outputs.pooler_output, *getattr(outputs, "deepstack_features", ())]
        tokens = torch.cat([torch.cat(part) for part in parts], dim=-1)
        return as_tokens(tokens, self.tokens_per_frame)

    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`pixel_values_videos`, a patch a row, (b·n·P, 3·g·p·p), and `video_grid_thw` (b, 3)."""
        grid, group = self.grid, self.frames_per_group
        batch, count = frames.shape[:2]
        pixels = self.normalisation.apply(frames.reshape(-1, *frames.shape[2:]), self.device)
        rows, columns = grid.rows // grid.merge, grid.columns // grid.merge
        pixels = pixels.reshape(-1, group, 3, rows, grid.merge, grid.patch, columns, grid.merge, grid.patch)
        patches = pixels.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).flatten(5).flatten(0, 4)
        return {
            "pixel_values_videos": patches,
            "video_grid_thw": self._thw(count // group, batch).to(self.device),
        }

    def plain_inputs(self, frames: NDArray[np.uint8], prompt: Prompt, segment: SegmentSpec) -> dict[str, Tensor]:
        """What transformers' own forward and generate take; see TransformersMllm."""
        inputs = super().plain_inputs(frames, prompt, segment)
        timing = self.timing(self.write(prompt, segment), len(frames))
        inputs |= {name: one.to(self.device) for name, one in timing.items()}
        return inputs | {"mm_token_type_ids": self._kinds(inputs["input_ids"])}

    def _kinds(self, ids: Tensor) -> Tensor:
        return (ids == self.visual_id).int() * _VIDEO

    def _thw(self, groups: int, batch: int) -> Tensor:
        return torch.tensor([[groups, self.grid.rows, self.grid.columns]] * batch)

    def _read_budget(self, path: Path, document: dict[str, Any]) -> Budget:
        default = self.budget
        size = document.get("size") or {"shortest_edge": default.least, "longest_edge": default.most}
        if not isinstance(size, dict):
            raise CheckpointError(f"{path.name}: size {size} does not give shortest_edge and longest_edge")
        if self.legacy_budget:
            old = {"shortest_edge": document.get("min_pixels"), "longest_edge": document.get("max_pixels")}
            size = size | {key: one for key, one in old.items() if one is not None}

        def number(key: str, value: object) -> int:
            if not isinstance(value, int) or value < 1:
                raise CheckpointError(f"{path.name}: {key} is {value}, not a number of pixels or tokens")
            return value

        return Budget(
            least=number("size.shortest_edge", size.get("shortest_edge")),
            most=number("size.longest_edge", size.get("longest_edge")),
            capped=bool(document.get("cap_pixels_per_frame")),
            tokens=number("max_video_tokens", document.get("max_video_tokens", default.tokens)),
        )


def _check_processor(path: Path, document: dict[str, Any], vision: Any) -> None:
    """Raise CheckpointError where a processor prepares pixels otherwise than the graph does."""
    wanted = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "patch_size": vision.patch_size,
        "merge_size": vision.spatial_merge_size,
        "temporal_patch_size": vision.temporal_patch_size,
    }
    for key, value in wanted.items():
        if document.get(key, value) != value:
            raise CheckpointError(f"{path.name}: {key} {document[key]} is not supported; supported: {value}")
