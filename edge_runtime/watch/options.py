"""How a run is run, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.detector import Detector
from edge_runtime.stream.difference import check_levels
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Clock, Encode

# progress(camera, frames done, frames in all or None, frames a second of the file)
FileProgress = Callable[[str, int, int | None, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """What an operator chose for one camera.

    Attributes:
        locator: Instead of the run's.
        priority: Cameras of a higher one are scored first; where time is short, the others' segments are left out.
        blank: Makes what the model must not see of a picture black, uint8 (h, w, 3), before it is resized.
        detector: Instead of the run's: another bundle.
    """

    locator: str | None = None
    priority: int = 0
    blank: Callable[[UInt8Array], UInt8Array] | None = None
    detector: Detector | None = None


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
