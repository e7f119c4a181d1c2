"""Joins cameras and clips: what a reader receives is kept in a ring, from which the clips of its events are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_runtime.detector import Detector
from edge_runtime.outputs.clips import ClipOptions, Clips, Filmed
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.ring import PacketRing
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.connection import Connection
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.probe import connect
from edge_runtime.video.sources import Source
from edge_runtime.watch.config_settings import ClipsSettings
from edge_runtime.watch.mask import MaskedFrames

_MB = 1e6


class Recording:
    """The clips of a run, and readers of cameras that make them possible.

    Args:
        settings: What is kept.

    Attributes:
        clips: A sink for the run's records.
    """

    def __init__(self, settings: ClipsSettings) -> None:
        self._buffer_bytes = round(settings.buffer_mb * _MB)
        self.clips = Clips(clip_options(settings))

    def open_reader(self, source: Source, listener: CameraListener, clock: RunClock) -> LiveCamera:
        """Make the reader of a live camera; as `LiveRun` takes it. What is masked for its listener is so in clips."""
        ring = PacketRing(self._buffer_bytes, clock.now_s)
        blank = listener.mask.blank if isinstance(listener, MaskedFrames) else None
        self.clips.film(source.name, Filmed(ring, clock.now_s, clock.utc, blank))

        def tapped(source: Source, open_timeout_s: float, read_timeout_s: float) -> Connection:
            return connect(source, open_timeout_s, read_timeout_s, ring.tap())

        return LiveCamera(source, listener, clock, connect=tapped)


def clip_options(settings: ClipsSettings) -> ClipOptions:
    """The options that a configuration's `clips` come to."""
    return ClipOptions(
        folder=Path(settings.path),
        snapshots=settings.snapshots,
        video=settings.video,
        pre_roll_s=settings.pre_roll,
        post_roll_s=settings.post_roll,
        max_s=settings.max_s,
        most_bytes=round(settings.max_mb * _MB),
        most_s=settings.max_days * 86_400,
    )


def show_what_is_seen(detector: Detector, clips: Clips | None, notable: Callable[[str], float]) -> None:
    """Keep what a detector saw of an event, where pictures are kept.

    Args:
        detector: What scores; its `seen` grows by one.
        clips: Of the run; None where nothing is kept.
        notable: From which score on a camera's segments may be part of an event.
    """
    if clips is not None and clips.sheets is not None:
        detector.seen.append(clips.sheets.listener(notable))
