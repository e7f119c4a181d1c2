"""A camera's listener that keeps what it was told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from edge_runtime.records import CameraReason, CameraState, GapReason, Quality
from edge_runtime.video.capture import DecodedFrame

PATIENCE_S = 15.0


class Recorder:
    """A listener that keeps what it was told, except pictures: of those the shape."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, float, tuple[int, ...]]] = []
        self.outages: list[tuple[float, float, GapReason]] = []
        self.states: list[tuple[CameraState, str, float]] = []
        self.reasons: list[CameraReason | None] = []
        self.qualities: list[tuple[list[Quality], float]] = []
        self.told: list[str] = []
        self.kept: DecodedFrame | None = None
        self.changed = threading.Condition()

    def on_frame(self, frame: DecodedFrame) -> None:
        with self.changed:
            self.frames.append((frame.index, frame.seconds, frame.retrieve().shape))
            self.kept = frame
            self.told.append("frame")
            self.changed.notify_all()

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        with self.changed:
            self.outages.append((start_s, end_s, reason))
            self.told.append("outage")
            self.changed.notify_all()

    def on_state(self, state: CameraState, detail: str, seconds: float, reason: CameraReason | None = None) -> None:
        with self.changed:
            self.states.append((state, detail, seconds))
            self.reasons.append(reason)
            self.told.append(state)
            self.changed.notify_all()

    def on_quality(self, qualities: list[Quality], detail: str, seconds: float) -> None:
        with self.changed:
            self.qualities.append((qualities, seconds))
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S), (self.states, self.outages, len(self.frames))

    def wait_state(self, *states: CameraState) -> None:
        """Until it went through these; a state that is told again with another reason counts once."""
        self.wait(
            lambda: [state for state, _ in itertools.groupby(self.states, lambda told: told[0])] == list(states)
        )

    def wait_frames(self, more: int) -> None:
        seen = len(self.frames)
        self.wait(lambda: len(self.frames) >= seen + more)
