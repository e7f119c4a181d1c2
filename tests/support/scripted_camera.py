"""A live camera from a script instead of a network, for tests where real faults are not the point."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceUnavailable
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import Source

Script = Callable[[CameraListener, threading.Event], None]


class ScriptedCamera:
    """What happens is a function that runs in the reader's thread."""

    def __init__(self, script: Script, source: Source, listener: CameraListener, clock: RunClock) -> None:
        self.source, self.listener, self.clock = source, listener, clock
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=script, args=(listener, self.stopping), daemon=True)

    @classmethod
    def of(cls, script: Script) -> Callable[[Source, CameraListener, RunClock], ScriptedCamera]:
        """What LiveRun takes to open its readers."""
        return lambda source, listener, clock: cls(script, source, listener, clock)

    def start(self) -> None:
        self.thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        self.stopping.set()
        self.thread.join(timeout_s)
        return not self.thread.is_alive()

    def raise_if_failed(self) -> None:
        pass

    def require_online(self, timeout_s: float | None = None) -> None:
        raise SourceUnavailable(f"camera {self.source.name}: cannot open {self.source.shown}: refused")


def picture() -> NDArray[np.uint8]:
    return np.full((90, 160, 3), 90, np.uint8)


def flow(listener: CameraListener, first: int, count: int, since_s: float, fps: float = 15.0) -> None:
    for index in range(count):
        listener.on_frame(DecodedFrame(first + index, since_s + index / fps, picture))
