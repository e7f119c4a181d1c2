"""HeadHunt-VAD at the edge: camera frames in, anomaly events out. No PyTorch anywhere near.

with Detector(Bundle.open("bundle/"), provider="auto") as detector:
    gate = detector.stream("gate", locator="low_latency")
    for frame, seconds in frames:
        for record in gate.push(frame, seconds):
            ...
    for record in gate.flush():
        ...
"""

from edge_runtime._version import __version__
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector, Stream
from edge_runtime.errors import (
    BundleRefused,
    HeadHuntError,
    InvalidFrame,
    MissingExtra,
    ProviderUnavailable,
    SourceUnavailable,
    UsageError,
)
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, SegmentRecord

__all__ = [
    "Bundle",
    "BundleRefused",
    "CameraRecord",
    "Detector",
    "EventRecord",
    "GapRecord",
    "HeadHuntError",
    "InvalidFrame",
    "MissingExtra",
    "ProviderUnavailable",
    "Record",
    "SegmentRecord",
    "SourceUnavailable",
    "Stream",
    "UsageError",
    "__version__",
]
