"""Cameras that were added while a run lasted, kept over restarts in a file of passwords that only its owner can read.

They are kept by configuration, so that two runs of one user do not watch each other's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from edge_runtime.errors import Conflict, OutputFailed, UsageError, one_line
from edge_runtime.files import shown_path, state_folder, write_private
from edge_runtime.video.sources import Source, parse_source
from edge_runtime.watch.config import PlannedCamera
from edge_runtime.watch.config_settings import Configuration, Locator
from edge_runtime.watch.mask import Mask
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.schedule import Schedule
from edge_runtime.watch.supervisor import Supervisor

log = logging.getLogger(__name__)

#: How many cameras may be added.
MOST = 256
_FILE = "added-cameras.json"
_KINDS = ("rtsp", "http", "device")


class AddedCamera(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera as it was asked for. No repr shows its source, which may hold a password.

    Attributes:
        source: As in the configuration; no file.
        locator: Instead of the run's.
        schedule: When it is watched.
        mask: What is blanked.
    """

    source: str
    locator: Locator | None = None
    schedule: str | list[str] | None = None
    mask: str | list[str] | None = None

    def __repr__(self) -> str:
        return "AddedCamera(***)"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    # By the path of the configuration; empty without one.
    cameras: dict[str, Annotated[dict[str, AddedCamera], Meta(max_length=MOST)]]


_Change = Callable[[Mapping[str, AddedCamera]], Mapping[str, AddedCamera]]


class Wanted(Protocol):
    """A camera that somebody asks for; `server.shapes.NewCamera` for real."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def source(self) -> str:
        """Its address."""

    @property
    def locator(self) -> Locator | None:
        """Instead of the run's."""

    @property
    def schedule(self) -> str | list[str] | None:
        """When it is watched."""

    @property
    def mask(self) -> str | list[str] | None:
        """What is blanked."""


def added_path() -> Path:
    """Where they are kept: in the state folder."""
    return state_folder() / _FILE


def planned_camera(name: str, camera: AddedCamera, configuration: Configuration) -> PlannedCamera:
    """What a camera comes to.

    Raises:
        UsageError: Something of it is wrong; the message holds no password.
    """
    # A name is written before the source: a URL that holds a `=` is not read as one.
    source: Source = replace(parse_source(f"{name}={camera.source}"), name=name)
    if source.kind not in _KINDS:
        raise UsageError("source: is no address of a camera; give rtsp://…, http://… or a device's number")
    try:
        mask = None if camera.mask is None else Mask.parse(camera.mask)
    except ValueError as error:
        raise UsageError(f"mask: {one_line(error)}") from None
    zone = None
    if configuration.timezone is not None:
        import zoneinfo

        zone = zoneinfo.ZoneInfo(configuration.timezone)
    try:
        schedule = None if camera.schedule is None else Schedule.parse(camera.schedule, zone)
    except ValueError as error:
        raise UsageError(f"schedule: {one_line(error)}") from None
    options = CameraOptions(locator=camera.locator or configuration.locator, mask=mask)
    return PlannedCamera(source, options, schedule)


class AddedCameras:
    """Those of one configuration, in a file.

    Args:
        configured: The configuration's file; None without one.
        path: Where they are kept.
    """

    def __init__(self, configured: Path | None, path: Path | None = None) -> None:
        self.path = path or added_path()
        self._key = "" if configured is None else os.path.abspath(configured)
        self._lock = threading.Lock()

    def planned(self, configuration: Configuration) -> list[PlannedCamera]:
        """What is kept, as what a run does; a camera that cannot be used any more is told and left out."""
        found: list[PlannedCamera] = []
        try:
            kept = self._read().cameras.get(self._key, {})
        except (OSError, ValueError) as error:
            log.error("%s: cannot be read (%s); cameras that were added are not watched", *self._shown(error))
            return []
        for name, camera in kept.items():
            try:
                found.append(planned_camera(name, camera, configuration))
            except UsageError as error:
                log.error("camera %s: was added by request, and cannot be watched: %s", name, error)
        return found

    def keep(self, name: str, camera: AddedCamera) -> None:
        """Keep a camera.

        Raises:
            Conflict: There are too many.
            OutputFailed: The file cannot be read or written.
        """
        self._change(lambda cameras: {**cameras, name: camera})

    def drop(self, name: str) -> None:
        """Keep a camera no more.

        Raises:
            OutputFailed: The file cannot be read or written.
        """
        self._change(lambda cameras: {other: camera for other, camera in cameras.items() if other != name})

    def _change(self, change: _Change) -> None:
        with self._lock:
            try:
                kept = self._read()
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except (OSError, ValueError) as error:
                shown, why = self._shown(error)
                raise OutputFailed(f"{shown}: cannot be read ({why}); mend it or move it away") from None
            cameras = change(kept.cameras.get(self._key, {}))
            if len(cameras) > MOST:
                raise Conflict(f"{MOST} cameras were added already; write some into the configuration")
            others = {key: value for key, value in kept.cameras.items() if key != self._key}
            file = _File(version=1, cameras={**others, self._key: dict(cameras)} if cameras else others)
            write_private(self.path, msgspec.json.format(msgspec.json.encode(file)))

    def _read(self) -> _File:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File(version=1, cameras={})

    def _shown(self, error: Exception) -> tuple[str, str]:
        # msgspec names the place, never a value.
        return shown_path(self.path), one_line(error)


class CameraDesk:
    """Adds, removes and pauses cameras of a run, so that they stay so; as the server asks for it.

    Args:
        supervisor: Of the run.
        added: Where cameras are kept.
    """

    def __init__(self, supervisor: Supervisor, added: AddedCameras) -> None:
        self._supervisor, self._added = supervisor, added
        self._lock = threading.Lock()

    def pause(self, name: str, paused: bool) -> None:
        """As of Supervisor; Conflict where the camera is disabled."""
        if any(one.source.name == name and not one.enabled for one in self._supervisor.plan.cameras):
            raise Conflict(f"camera {name} is disabled; enable it in the configuration, and it can be paused")
        self._supervisor.pause(name, paused)

    def add(self, wanted: Wanted) -> None:
        """Watch a camera, now and after every restart.

        Raises:
            Conflict: There is one of that name, or there are too many.
            UsageError: Something of it is wrong.
            OutputFailed: It cannot be kept, and is not watched.
        """
        camera = AddedCamera(source=wanted.source, locator=wanted.locator, schedule=wanted.schedule, mask=wanted.mask)
        with self._lock:
            planned = planned_camera(wanted.name, camera, self._supervisor.plan.configuration)
            self._supervisor.add(planned)
            try:
                self._added.keep(wanted.name, camera)
            except BaseException:
                self._supervisor.drop(wanted.name)
                raise

    def remove(self, name: str) -> None:
        """Watch a camera that was added no more.

        Raises:
            Conflict: It is configured.
            UsageError: There is none.
            OutputFailed: That cannot be kept; it is watched as before.
        """
        with self._lock:
            # First: what cannot be kept can be asked for again.
            if self._supervisor.is_added(name):
                self._added.drop(name)
            self._supervisor.drop(name)
