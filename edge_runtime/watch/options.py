"""How a run is run, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.stream.difference import check_levels
from edge_runtime.stream.segments import Clock, Encode
from edge_runtime.watch.mask import Mask

# progress(camera, frames done, frames in all or None, frames a second of the file)
FileProgress = Callable[[str, int, int | None, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What an operator chose for a run.

    Attributes:
        locator: As of `Detector.stream`.
        clock: How segments are cut; by default `frames` for files and `time` for live cameras.
        encode: As of `Detector.stream`.
        stride: As of `Detector.stream`.
        reuse_unchanged: As of `Detector.stream`.
        progress: Told how far a file has got.

    Raises:
        UsageError: No such grey levels.
    """

    locator: str = "full"
    clock: Clock | None = None
    encode: Encode = "batch"
    stride: int | None = None
    reuse_unchanged: float | None = None
    progress: FileProgress | None = None

    def __post_init__(self) -> None:
        if self.reuse_unchanged is not None:
            check_levels(self.reuse_unchanged)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """What an operator chose for one camera.

    Attributes:
        locator: As of `Detector.stream`; None: the run's.
        mask: What is blanked before the model sees a frame.
        priority: Which cameras are scored first when the machine falls behind: the higher.
    """

    locator: str | None = None
    mask: Mask | None = None
    priority: int = 0
