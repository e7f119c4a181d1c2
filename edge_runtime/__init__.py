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
    InferenceFailed,
    InvalidFrame,
    MissingExtra,
    OutputFailed,
    ProviderUnavailable,
    SourceUnavailable,
    UsageError,
)
from edge_runtime.outputs.sink import Output, Outputs, Sink
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.planes import I420, Nv12

__all__ = [
    "I420",
    "Alarm",
    "Bundle",
    "BundleRefused",
    "CameraRecord",
    "Detector",
    "EventRecord",
    "GapRecord",
    "HeadHuntError",
    "InferenceFailed",
    "InvalidFrame",
    "MissingExtra",
    "Nv12",
    "Output",
    "OutputFailed",
    "Outputs",
    "ProviderUnavailable",
    "Record",
    "SegmentRecord",
    "Sink",
    "SourceUnavailable",
    "Stream",
    "UsageError",
    "__version__",
]
