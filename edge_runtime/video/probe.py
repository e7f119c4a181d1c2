"""Opens a live source, for a reader or to see once whether it works."""

from __future__ import annotations

from edge_runtime.errors import CameraUnavailable
from edge_runtime.stream.packets import PacketTap
from edge_runtime.video.connection import Connection, Fault
from edge_runtime.video.device import DeviceConnection
from edge_runtime.video.loop import LoopConnection
from edge_runtime.video.network import NetworkConnection
from edge_runtime.video.sources import Source

# Until a frame is whole: cameras that are joined between two key frames have none for some seconds.
_FRAMES = 300


def connect(source: Source, open_timeout_s: float, read_timeout_s: float, tap: PacketTap | None = None) -> Connection:
    """Open a live source.

    Args:
        source: A network camera, a device or a file that is played over and over.
        open_timeout_s: Limit for connecting, and once more for finding the video; of a network camera alone.
        read_timeout_s: Limit for one frame; of a network camera alone.
        tap: Takes its video as it comes; of a device, which sends none, some JPEGs a second.

    Raises:
        Fault: It cannot be opened.
    """
    if source.kind == "device":
        return DeviceConnection(source, tap)
    if source.kind == "loop":
        return LoopConnection(source, tap)
    return NetworkConnection(source, open_timeout_s, read_timeout_s, tap)


def probe(source: Source, timeout_s: float = 5.0) -> tuple[int, int]:
    """Open a live source once and read one frame. A camera that serves one client is busy for a moment afterwards.

    Args:
        source: A network camera or device.
        timeout_s: Limit for connecting, for finding the video and for a frame, each; devices have none.

    Returns:
        Width and height of the frame in pixels.

    Raises:
        CameraUnavailable: It gave no picture. Message, `reason` and `detail` say why.
    """
    try:
        connection = connect(source, timeout_s, timeout_s)
        try:
            for _ in range(_FRAMES):
                if connection.grab() == "whole" and (picture := connection.picture()) is not None:
                    return picture.shape[1], picture.shape[0]
            raise Fault(
                "no_video", "it opened, but its frames decode to no picture; check the camera's video settings"
            )
        finally:
            connection.close()
    except Fault as fault:
        raise unavailable(source, fault.reason, fault.detail) from None


def unavailable(source: Source, reason: str, detail: str) -> CameraUnavailable:
    """The error of a camera that cannot be opened."""
    message = f"camera {source.name}: cannot open {source.shown}: {detail}"
    return CameraUnavailable(message, reason, detail)
