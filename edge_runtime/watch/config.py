"""Reads cameras.yaml: what an operator wrote, checked, as what a run does.

Every error is one line that names the file, the line, the key and the way out, and no value that may be a password.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect as types

from edge_runtime.bundle.keys import is_key_line
from edge_runtime.errors import UsageError
from edge_runtime.files import printable, shown_path
from edge_runtime.inference.providers import AUTO, find_provider
from edge_runtime.site.wish import AlarmWish
from edge_runtime.video.sources import Source, file_at, parse_source
from edge_runtime.watch.config_settings import VERSION, AlarmSettings, CameraSettings, Configuration
from edge_runtime.watch.config_yaml import (
    Parsed,
    Place,
    dotted,
    parse,
    read_bytes,
    read_secrets,
    readable_by_others,
)
from edge_runtime.watch.mask import Mask
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.schedule import Schedule

#: Where `!secret name` is looked up, beside the configuration.
SECRETS = "secrets.yaml"

#: What turns a configuration of a version into the next one. Older files are read for ever, one step after another.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

Kind = TypeVar("Kind")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Places of passwords, and of addresses that may hold one.
_PASSWORDS = (("mqtt", "password"), ("frigate", "password"))
_PATHS = {
    "output": ("path",),
    "mqtt": ("tls_ca", "tls_cert", "tls_key"),
    "frigate": ("tls_ca",),
    "spool": ("path",),
    "clips": ("path",),
    "feedback": ("path",),
    "site": ("path",),
    "http": ("tls_cert", "tls_key"),
}


@dataclass(frozen=True, slots=True)
class PlannedCamera:
    """One camera as the configuration wants it.

    Attributes:
        source: The camera.
        options: Its own.
        schedule: When it is watched; None: always.
        enabled: Whether it is watched at all.
        bundle: Another than the run's.
        alarm: What makes an event there. It can change while the camera goes on.
    """

    source: Source
    options: CameraOptions
    schedule: Schedule | None = None
    enabled: bool = True
    bundle: Path | None = None
    alarm: AlarmWish = field(default_factory=AlarmWish)

    @property
    def watching(self) -> tuple[Source, CameraOptions, Path | None]:
        """What a camera that is watched is begun anew for, where it changes."""
        return self.source, self.options, self.bundle

    def wanted(self, moment: datetime) -> bool:
        """Whether it is watched at that moment."""
        return self.enabled and (self.schedule is None or self.schedule.active(moment))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration comes to.

    Attributes:
        path: The file.
        configuration: What it holds; its paths are absolute.
        cameras: Those of it, in its order.
        warnings: What an operator should know, one line each.
        files: What was read.
    """

    path: Path
    configuration: Configuration
    cameras: tuple[PlannedCamera, ...]
    warnings: tuple[str, ...]
    files: tuple[Path, ...] = field(default=())


def wish(settings: AlarmSettings | None) -> AlarmWish:
    """What a part of the configuration says of alarms."""
    if settings is None:
        return AlarmWish()
    return AlarmWish(
        threshold=settings.threshold,
        budget_per_day=settings.budget_per_day,
        min_duration_s=settings.min_duration,
        cooldown_s=settings.cooldown,
    )


def read_plan(
    path: Path, environment: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Plan:
    """Read and check a configuration. Nothing is written, and no camera is asked.

    Args:
        path: The YAML file; secrets.yaml is looked for in its folder.
        environment: What `${NAME}` stands for; by default the process's.
        settings: Values of keys at the top that hold instead of the file's.

    Raises:
        UsageError: Something is wrong with it; the message says where and what to do.
    """
    where, secrets_path = shown_path(path), path.parent / SECRETS
    secrets: dict[str, str] = {}
    files = [path]

    def secret(name: str) -> str:
        if len(files) == 1:
            secrets.update(read_secrets(secrets_path))
            files.append(secrets_path)
        if name not in secrets:
            raise UsageError(f"!secret {printable(name)}: is not in {SECRETS}{_nearest(name, secrets)}")
        return secrets[name]

    parsed = parse(read_bytes(path), where, os.environ if environment is None else environment, secret)
    try:
        return _Reader(path, where, parsed).plan(tuple(files), settings or {})
    except UsageError as error:
        raise UsageError(parsed.scrubbed(str(error))) from None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {printable(close[0])}?" if close else ""


class _Reader:
    """One file on its way to a plan."""

    def __init__(self, path: Path, where: str, parsed: Parsed) -> None:
        self._folder = Path(os.path.abspath(path.parent))
        self._path, self._where, self._parsed = path, where, parsed
        self._warnings: list[str] = []

    def plan(self, files: tuple[Path, ...], settings: Mapping[str, Any]) -> Plan:
        configuration = self._paths(self._convert(self._upgraded(self._parsed.tree)))
        configuration = msgspec.structs.replace(configuration, **settings)
        if configuration.provider != AUTO:
            self._as_usage(("provider",), lambda: find_provider(configuration.provider))
        zone = self._zone(configuration.timezone)
        cameras = tuple(self._camera(name, configuration, zone) for name in configuration.cameras)
        self._check_frigate(configuration)
        if readable_by_others(self._path) and self._has_password(configuration, cameras):
            self._warn(
                f"holds a password in plain text, and others than its owner can read it; run chmod 600 "
                f"{self._where}, or write !secret name and the password into {SECRETS}"
            )
        return Plan(self._path, configuration, cameras, tuple(self._warnings), files)

    # ---- the tree as types

    def _upgraded(self, whole: Any) -> dict[str, Any]:
        if not isinstance(whole, dict):
            raise self._error((), "holds no mapping; begin with `version: 1` and `cameras:`")
        tree: dict[str, Any] = {key: value for key, value in whole.items() if not key.startswith("x-")}
        if tree.get("version") is None:
            self._warn(f"states no version; read as version 1, write `version: {VERSION}` at its top")
            tree["version"] = 1
        version = tree["version"]
        if type(version) is str and version.isdecimal() and len(version) < 9:
            version = int(version)
        if type(version) is not int or version < 1:
            raise self._error(("version",), f"must be a whole number from 1; write `version: {VERSION}`")
        if version > VERSION:
            raise self._error(
                ("version",),
                f"{version} is newer than what this version of headhunt-edge reads ({VERSION}); upgrade "
                "headhunt-edge, or write the file for the older version",
            )
        for step in range(version, VERSION):
            tree = UPGRADES[step](dict(tree))
        if version < VERSION:
            self._warn(f"is of version {version}, and read as {VERSION}; see the changelog for what has new names")
        # From here on it is of today's version.
        return {key: value for key, value in tree.items() if key != "version"}

    def _convert(self, tree: dict[str, Any]) -> Configuration:
        pruned = self._prune(tree, types.type_info(Configuration), ())
        cameras = pruned.pop("cameras", {})
        if not isinstance(cameras, dict):
            raise self._error(("cameras",), "must be a mapping of names, as in `gate: {source: rtsp://…}`")
        # One by one: msgspec's paths do not tell the keys of a mapping.
        converted: dict[str, CameraSettings] = {}
        for name, camera in cameras.items():
            place = ("cameras", name)
            if not _NAME.fullmatch(name):
                raise self._error(place, "a camera's name is up to 64 letters, digits, _, . and -")
            if not isinstance(camera, dict):
                raise self._error(place, "needs a source, as in `source: rtsp://host/stream`")
            converted[name] = self._as_type(camera, CameraSettings, place)
        return msgspec.structs.replace(self._as_type(pruned, Configuration, ()), cameras=converted)

    def _prune(self, value: Any, kind: types.Type, place: Place) -> Any:
        """Refuse keys that are not known, and leave out those without a value: they are as good as not there."""
        options = kind.types if isinstance(kind, types.UnionType) else (kind,)
        for option in options:
            if isinstance(option, types.StructType) and isinstance(value, dict):
                fields = {item.encode_name: item.type for item in option.fields}
                for key in value:
                    if key not in fields:
                        known = _nearest(key, fields) or f"; known are {', '.join(fields)}"
                        raise self._error((*place, key), f"unknown{known}")
                return {
                    key: self._prune(inner, fields[key], (*place, key))
                    for key, inner in value.items()
                    if inner is not None
                }
            if isinstance(option, types.DictType) and isinstance(value, dict):
                return {key: self._prune(inner, option.value_type, (*place, key)) for key, inner in value.items()}
            if isinstance(option, types.ListType) and isinstance(value, list):
                return [self._prune(item, option.item_type, (*place, index)) for index, item in enumerate(value)]
        return value

    def _as_type(self, tree: Any, kind: type[Kind], place: Place) -> Kind:
        try:
            return msgspec.convert(tree, kind, strict=False)
        except msgspec.ValidationError as error:
            message, at, tail = str(error).replace(" | null`", "`").partition(" - at `")
            steps = re.findall(r"\.([^.\[`]+)|\[([0-9]+|\.\.\.)\]", tail) if at else []
            inner: Place = tuple(name or (int(index) if index != "..." else index) for name, index in steps)
            if (missing := re.fullmatch("Object missing required field `(.+)`", message)) is not None:
                inner, message = (*inner, missing[1]), "is missing"
            elif message.startswith("Invalid enum value"):
                message = f"must be one of {', '.join(_choices(types.type_info(kind), inner))}"
            elif re.match(r"Expected `[^`]*str[^`]*`, got `(int|float|bool)`", message):
                message += "; write it in quotes"
            elif "mask" in inner[:1] and message.startswith("Expected"):
                message += "; a mask is a list of polygons, each a list of [x, y] or a text x,y,x,y,…"
            raise self._error((*place, *inner), message[:1].lower() + message[1:]) from None

    # ---- what types cannot say

    def _camera(self, name: str, configuration: Configuration, zone: tzinfo | None) -> PlannedCamera:
        place: Place = ("cameras", name)
        camera = configuration.cameras[name]
        source = self._as_usage((*place, "source"), lambda: parse_source(f"{name}={camera.source}"))
        source = replace(source, name=name)
        if source.kind in ("file", "loop") and not os.path.isabs(source.target):
            source = file_at(source, str(self._folder / source.target))
        mask = None
        if (polygons := camera.mask) is not None:
            mask = self._as_usage((*place, "mask"), lambda: Mask.parse(polygons))
        schedule = None
        if (hours := camera.schedule) is not None:
            schedule = self._as_usage((*place, "schedule"), lambda: Schedule.parse(hours, zone))
        options = CameraOptions(locator=camera.locator or configuration.locator, mask=mask, priority=camera.priority)
        bundle = None if camera.bundle is None else Path(camera.bundle)
        alarm = wish(camera.alarm).over(wish(configuration.alarm))
        return PlannedCamera(source, options, schedule, camera.enabled, bundle, alarm)

    def _zone(self, name: str | None) -> tzinfo | None:
        if name is None:
            return None
        import zoneinfo

        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            known = _nearest(name, zoneinfo.available_timezones())
            advice = known or "; write it as Europe/Berlin, and install tzdata where the system has no time zones"
            raise self._error(("timezone",), f"no such time zone{advice}") from None

    def _check_frigate(self, configuration: Configuration) -> None:
        if configuration.frigate is None:
            return
        for name in configuration.frigate.cameras:
            if name not in configuration.cameras:
                known = _nearest(name, configuration.cameras)
                raise self._error(("frigate", "cameras", name), f"no camera of that name is configured{known}")

    def _paths(self, configuration: Configuration) -> Configuration:
        """The same with absolute paths: they are relative to the file, wherever the program is started."""
        changes: dict[str, Any] = {}
        for part, keys in _PATHS.items():
            if (settings := getattr(configuration, part)) is not None:
                found = {key: value for key in keys if (value := getattr(settings, key)) not in (None, "-")}
                changes[part] = msgspec.structs.replace(
                    settings, **{key: self._absolute(value, (part, key)) for key, value in found.items()}
                )
        changes["webhook"] = [
            msgspec.structs.replace(hook, tls_ca=self._absolute(hook.tls_ca, ("webhook", index, "tls_ca")))
            for index, hook in enumerate(configuration.webhook)
        ]
        cameras = {
            name: msgspec.structs.replace(camera, bundle=self._absolute(camera.bundle, ("cameras", name, "bundle")))
            for name, camera in configuration.cameras.items()
        }
        if (trusted := configuration.trusted_keys) is not None:
            changes["trusted_keys"] = [
                key if is_key_line(key) else str(self._absolute(key, ("trusted_keys", index)))
                for index, key in enumerate(trusted)
            ]
        bundle = self._absolute(configuration.bundle, ("bundle",))
        return msgspec.structs.replace(configuration, bundle=bundle, cameras=cameras, **changes)

    def _absolute(self, text: str | None, place: Place) -> str | None:
        if text is None:
            return None
        if "\0" in text:
            raise self._error(place, "a path holds no zero byte")
        return str(self._folder / os.path.expanduser(text))

    def _has_password(self, configuration: Configuration, cameras: Iterable[PlannedCamera]) -> bool:
        literal = self._parsed.literal
        webhooks = [("webhook", index, "secret") for index in range(len(configuration.webhook))]
        places: list[Place] = [*_PASSWORDS, *webhooks]
        # A source that is not shown as it is holds something to hide.
        places += [
            ("cameras", camera.source.name, "source")
            for camera in cameras
            if camera.source.kind not in ("file", "loop") and camera.source.shown != camera.source.target
        ]
        return any(place in literal for place in places)

    def _as_usage(self, place: Place, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (UsageError, ValueError) as error:
            raise self._error(place, str(error)) from None

    def _warn(self, message: str) -> None:
        self._warnings.append(self._parsed.scrubbed(f"{self._where}: {message}"))

    def _error(self, place: Place, message: str) -> UsageError:
        line = self._parsed.line(place)
        at = f"line {line}: " if line is not None and place else ""
        return UsageError(f"{self._where}: {at}{dotted(place)}{': ' if place else ''}{message}")


def _choices(kind: types.Type, place: Place) -> list[str]:
    """What the enumeration at a place takes."""
    options = kind.types if isinstance(kind, types.UnionType) else (kind,)
    found: list[str] = []
    for option in options:
        if isinstance(option, types.LiteralType) and not place:
            found += map(str, option.values)
        elif isinstance(option, types.StructType) and place:
            found += [
                choice
                for item in option.fields
                if item.encode_name == place[0]
                for choice in _choices(item.type, place[1:])
            ]
        elif isinstance(option, types.ListType) and place:
            found += _choices(option.item_type, place[1:])
    return found
