"""How a run is run, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.site.sites import Sites
from edge_runtime.site.wish import AlarmWish
from edge_runtime.stream.difference import check_levels
from edge_runtime.stream.segments import Clock, Encode
from edge_runtime.watch.exchange import Exchange
from edge_runtime.watch.figures import RunFigures
from edge_runtime.watch.glimpses import Glimpses
from edge_runtime.watch.mask import Mask

# progress(camera, frames done, frames in all or None, frames a second of the file)
FileProgress = Callable[[str, int, int | None, float], None]
# rate(camera, frames a second)
TellRate = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """What an operator chose for one camera.

    Attributes:
        locator: Instead of the run's.
        priority: Cameras of a higher one are scored first; where time is short, the others' segments are left out.
        mask: What is made black before the model sees a frame.
        detector: Instead of the run's: another bundle.
        bundle: Where that lies, by which it is told from others when it is exchanged.
        alarm: Of a file: what makes an event, instead of the locator's threshold alone. Of live cameras the run's
            `sites` says it, and may change it meanwhile.
    """

    locator: str | None = None
    priority: int = 0
    mask: Mask | None = None
    detector: Detector | None = None
    bundle: Path | None = None
    alarm: AlarmWish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What an operator chose for a run.

    Attributes:
        locator: As of `Detector.stream`.
        clock: How segments are cut; by default `frames` for files and `time` for live cameras.
        encode: As of `Detector.stream`.
        stride: As of `Detector.stream`.
        reuse_unchanged: As of `Detector.stream`.
        max_batch: How many segments of live cameras are scored in one call, at most; None leaves it to what runs the
            graphs: 8 on a GPU, where that is faster, and 1 on processors, where the first would only wait.
        max_wait_ms: How long a segment waits for others of its batch.
        progress: Told how far a file has got.
        alive: Called several times a second as long as live cameras are scored.
        rate: Told about every 10 seconds how many frames a second each live camera gives, and 0 when it stops.
        figures: Told of the run, to look at what it counts.
        glimpses: Shows the newest picture of each live camera to whoever asks.
        sites: What makes events at live cameras, and what is usual there; None: the locator's threshold alone.
        exchange: Follows the bundles of live cameras; None: those of the start stay.

    Raises:
        UsageError: No such grey levels, or no such batch.
    """

    locator: str = "full"
    clock: Clock | None = None
    encode: Encode = "batch"
    stride: int | None = None
    reuse_unchanged: float | None = None
    max_batch: int | None = None
    max_wait_ms: float = 0.0
    progress: FileProgress | None = None
    alive: Callable[[], None] | None = None
    rate: TellRate | None = None
    figures: RunFigures | None = None
    glimpses: Glimpses | None = None
    sites: Sites | None = None
    exchange: Exchange | None = None

    def __post_init__(self) -> None:
        if self.reuse_unchanged is not None:
            check_levels(self.reuse_unchanged)
        if self.max_batch is not None and self.max_batch < 1:
            raise UsageError(f"max_batch starts at 1, got {self.max_batch}")
        if not (math.isfinite(self.max_wait_ms) and self.max_wait_ms >= 0):
            raise UsageError(f"max_wait_ms is a time in milliseconds, got {self.max_wait_ms}")
