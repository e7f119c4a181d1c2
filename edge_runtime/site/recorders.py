"""What a run with several bundles writes for feedback: one recorder for each, all of them one sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.detector import Detector
from edge_runtime.records import Record, RunRecord
from edge_runtime.site.place import Site
from edge_runtime.site.real import RealEvents
from edge_runtime.site.recorder import Recorder
from edge_runtime.site.store import BYTES_A_DAY, DAY_S
from edge_runtime.site.teaching import Teaching

_CLOSE_S = 0.8


@dataclass(frozen=True, slots=True)
class Kept:
    """How much is kept.

    Attributes:
        retention_s: For how long, in seconds; marks stay until they are deleted.
        bytes_a_day: Of one camera, at most.
        stride: Frames from one segment to the next; None as the bundle says.
    """

    retention_s: float = 7 * DAY_S
    bytes_a_day: int = BYTES_A_DAY
    stride: int | None = None


class Recorders:
    """A sink, to which bundles come while a run goes on.

    Args:
        teaching: Learns of each bundle's site.
        kept: Of each camera.
        real_of: Makes what is told what operators of a site call real.

    Attributes:
        name: What logs call it.
    """

    name = "feedback"

    def __init__(
        self,
        teaching: Teaching,
        kept: Kept | None = None,
        real_of: Callable[[Site], RealEvents | None] = lambda _: None,
    ) -> None:
        self._teaching, self._kept, self._real_of = teaching, Kept() if kept is None else kept, real_of
        self._lock = threading.Lock()
        self._recorders: dict[str, Recorder] = {}
        self._run: RunRecord | None = None
        self._closed = False

    def add(self, site: Site, detector: Detector) -> None:
        """Keep the features of a detector's cameras, and let it use the site's scorer; again: nothing. Any thread.

        Raises:
            UsageError: The stride does not go with the bundle.
        """
        with self._lock:
            if self._closed or site.bundle_id in self._recorders:
                return
            recorder = self._recorders[site.bundle_id] = Recorder(
                site,
                detector,
                retention_s=self._kept.retention_s,
                bytes_a_day=self._kept.bytes_a_day,
                step_s=site.manifest.segment.striding(self._kept.stride).step_s,
                real=self._real_of(site),
            )
            if self._run is not None:
                recorder.write(self._run)
        self._teaching.add(site)

    def drop(self, detector: Detector) -> None:
        """Nothing more comes of a detector; what is kept of it stays. Any thread."""
        with self._lock:
            for bundle_id, recorder in list(self._recorders.items()):
                if recorder.records(detector):
                    recorder.end()
                    del self._recorders[bundle_id]

    def write(self, record: Record) -> None:
        """Take one record; does not wait for a disk."""
        with self._lock:
            if isinstance(record, RunRecord):
                self._run = record
            # Each passes over what is not of its cameras.
            for recorder in self._recorders.values():
                recorder.write(record)

    def close(self) -> None:
        """Write what waits, as far as there is time."""
        with self._lock:
            self._closed = True
            recorders = list(self._recorders.values())
        for recorder in recorders:
            recorder.end()
        until_s = time.monotonic() + _CLOSE_S
        for recorder in recorders:
            recorder.close(max(0.0, until_s - time.monotonic()))
