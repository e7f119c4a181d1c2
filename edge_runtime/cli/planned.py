"""What a run is to do: the configuration, with what the command line says instead and in addition."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import UsageError
from edge_runtime.files import shown_path
from edge_runtime.site.wish import AlarmWish
from edge_runtime.stream.clock import rfc3339
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.config import Plan, PlannedCamera, read_plan, wish
from edge_runtime.watch.config_settings import (
    ClipsSettings,
    Configuration,
    HttpSettings,
    OutputSettings,
    parse_listen,
)
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.run import check_sources
from edge_runtime.watch.sites import folder_of, learns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line says.

    Attributes:
        config: The configuration, if there is one.
        settings: Values of its keys that hold instead.
        output: Where records go instead.
        cameras: Sources in addition.
        http: Where the server listens instead; an empty text: where the configuration or the default says.
    """

    config: Path | None
    settings: Mapping[str, Any]
    output: str | None
    cameras: tuple[str, ...]
    http: str | None = None

    def plan(self) -> Plan:
        """Read the configuration, log its warnings, and put both together.

        Raises:
            UsageError: Either is wrong, or they do not go together.
        """
        if self.config is None:
            plan = Plan(Path(), Configuration(**self.settings), (), ())
        else:
            plan = read_plan(self.config, settings=self.settings)
        for warning in plan.warnings:
            log.warning("%s", warning)
        configuration = plan.configuration
        if self.output is not None:
            output = msgspec.structs.replace(configuration.output or OutputSettings(), path=self.output)
            configuration = msgspec.structs.replace(configuration, output=output)
        if self.http is not None:
            configuration = msgspec.structs.replace(configuration, http=self._listening(configuration.http))
        options = CameraOptions(locator=configuration.locator)
        alarm = wish(configuration.alarm)
        added = [PlannedCamera(parse_source(text), options, alarm=alarm) for text in self.cameras]
        for camera in added:
            if camera.source.name in configuration.cameras:
                raise UsageError(
                    f"--camera {camera.source.name}=…: {shown_path(plan.path)} has a camera of that name; "
                    "give one of them another"
                )
        plan = replace(plan, configuration=configuration, cameras=(*plan.cameras, *added))
        self._check(plan)
        return plan

    def _listening(self, settings: HttpSettings | None) -> HttpSettings:
        settings = settings or HttpSettings()
        if not self.http:
            return settings
        try:
            parse_listen(self.http)
        except ValueError as error:
            raise UsageError(f"--http {self.http}: {error}") from None
        return msgspec.structs.replace(settings, listen=self.http)

    def _check(self, plan: Plan) -> None:
        if not plan.cameras and self.config is not None:
            raise UsageError(f"{shown_path(self.config)}: holds no camera; write one under `cameras:`")
        check_sources([camera.source for camera in plan.cameras])
        if plan.configuration.http is not None and not plan.cameras[0].source.live:
            raise UsageError("http: shows live cameras; run files without it")
        if plan.configuration.bundle is None:
            place = "" if self.config is None else f", or write `bundle:` into {shown_path(self.config)}"
            raise UsageError(f"no bundle was given; add --bundle DIR{place}")
        for camera in plan.cameras:
            if camera.bundle is not None and not camera.source.live:
                raise UsageError(
                    f"cameras.{camera.source.name}.bundle: only live cameras take a bundle of their own; run this "
                    "file with a command of its own"
                )


def described(plan: Plan, bundle: Bundle, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str:
    """What would run, for people; no password is in it."""
    configuration, manifest, moment = plan.configuration, bundle.manifest, now()
    segment = manifest.segment.striding(configuration.stride)
    output = "-" if configuration.output is None else configuration.output.path
    others = [name for name in ("mqtt", "webhook", "frigate", "spool", "feedback") if getattr(configuration, name)]
    lines = [
        ("configuration", f"{shown_path(plan.path)}, version {configuration.version}"),
        ("bundle", f"{shown_path(str(configuration.bundle))}, {manifest.bundle_id[:8]}"),
        *([] if configuration.trusted_keys is None else [("signed by", _signers(bundle))]),
        ("segment", f"{segment.frames} frames, one every {segment.step_s:.2f} s, encode {configuration.encode}"),
        ("provider", configuration.provider),
        ("output", shown_path("standard output" if output == "-" else output)),
        ("also", ", ".join(others) or "nothing"),
        *([] if configuration.clips is None else [("clips", _clips(configuration.clips))]),
        *([("site", shown_path(folder_of(configuration)))] if learns(plan) else []),
        *([] if configuration.http is None else [("http", configuration.http.listen)]),
        ("cameras", str(len(plan.cameras))),
    ]
    lines += [(f"  {camera.source.name}", _described(camera, moment)) for camera in plan.cameras]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _signers(bundle: Bundle) -> str:
    return ", ".join(f"{key.id} {key.comment}".rstrip() for key in bundle.signed_by)


def _clips(clips: ClipsSettings) -> str:
    kept = " and ".join(name for name, wanted in (("snapshots", clips.snapshots), ("clips", clips.video)) if wanted)
    return f"{kept or 'nothing'} in {shown_path(clips.path)}, {clips.max_mb:g} MB and {clips.max_days:g} days at most"


def _described(camera: PlannedCamera, moment: datetime) -> str:
    parts = [camera.source.shown, str(camera.options.locator)]
    if camera.options.mask is not None:
        parts.append(f"{len(camera.options.mask.polygons)} masked")
    if camera.options.priority:
        parts.append(f"priority {camera.options.priority}")
    if not camera.enabled:
        parts.append("disabled")
    elif camera.schedule is not None:
        change = camera.schedule.next_change(moment)
        until = "" if change is None else f" until {rfc3339(change)}"
        parts.append(f"{'watched' if camera.wanted(moment) else 'not watched'}{until}")
    if camera.alarm != AlarmWish():
        parts.append(f"alarm {camera.alarm}")
    return ", ".join(parts)
