"""Who shows what the cameras of a run are like, beside the records: a switch, a rate, why one is not watched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class CameraBoard(Protocol):
    """One of them; `MqttSink` for real. Any thread may call anything, and nothing waits."""

    def announce(self, camera: str) -> None:
        """A camera is configured from now on."""

    def forget(self, camera: str) -> None:
        """A camera is configured no more."""

    def publish_pause(self, camera: str, paused: bool) -> None:
        """Whether a camera is paused."""

    def publish_unwatched(self, camera: str, why: str | None) -> None:
        """A camera is not watched, for a reason in words; None: it is watched again."""

    def publish_rate(self, camera: str, fps: float) -> None:
        """How many frames a second a camera gives."""


class Boards:
    """All of them as one."""

    def __init__(self, boards: Iterable[CameraBoard] = ()) -> None:
        self._boards = tuple(boards)

    def announce(self, camera: str) -> None:
        """As of CameraBoard."""
        for board in self._boards:
            board.announce(camera)

    def forget(self, camera: str) -> None:
        """As of CameraBoard."""
        for board in self._boards:
            board.forget(camera)

    def publish_pause(self, camera: str, paused: bool) -> None:
        """As of CameraBoard."""
        for board in self._boards:
            board.publish_pause(camera, paused)

    def publish_unwatched(self, camera: str, why: str | None) -> None:
        """As of CameraBoard."""
        for board in self._boards:
            board.publish_unwatched(camera, why)

    def publish_rate(self, camera: str, fps: float) -> None:
        """As of CameraBoard."""
        for board in self._boards:
            board.publish_rate(camera, fps)
