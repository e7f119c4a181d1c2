"""`alarms.json`: what was set on the page for each camera; written whole or not at all.

A file that is damaged costs the page's settings alone: it is moved aside, and told.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_runtime.errors import OutputFailed, one_line
from edge_runtime.files import make_folder, move_aside, printable, shown_path, write_atomic
from edge_runtime.site.wish import LEAST_BUDGET, MOST_BUDGET
from edge_runtime.stream.alarm import LONGEST_S
from edge_runtime.stream.clock import rfc3339
from edge_runtime.strict_json import parse_object

log = logging.getLogger(__name__)

FORMAT = 1
#: The file's name in the site's folder.
ALARMS = "alarms.json"
_MOST_BYTES = 2**20

_Seconds = Annotated[float, Meta(ge=0, le=LONGEST_S)]


class PageAlarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was set for one camera; as of `AlarmWish`.

    Attributes:
        threshold: Means something for the scores of one bundle only.
        budget_per_day: Instead of a threshold.
        min_duration_s: In seconds.
        cooldown_s: In seconds.
        bundle_id: What scored the camera then, where that was known.
        at: When that was, UTC, RFC 3339.
    """

    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    budget_per_day: Annotated[float, Meta(ge=LEAST_BUDGET, le=MOST_BUDGET)] | None = None
    min_duration_s: _Seconds | None = None
    cooldown_s: _Seconds | None = None
    bundle_id: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.budget_per_day is not None:
            raise ValueError("a threshold and a budget exclude each other")

    @classmethod
    def of(
        cls,
        bundle_id: str,
        threshold: float | None,
        budget_per_day: float | None,
        min_duration_s: float | None,
        cooldown_s: float | None,
    ) -> PageAlarm:
        """One that is set now."""
        return cls(
            threshold=threshold,
            budget_per_day=budget_per_day,
            min_duration_s=min_duration_s,
            cooldown_s=cooldown_s,
            bundle_id=bundle_id,
            at=rfc3339(datetime.now(UTC)),
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Literal[1]
    cameras: dict[str, PageAlarm]


def read_page_alarms(path: Path) -> dict[str, PageAlarm]:
    """What was set on the page, by camera; nothing where there is no file, or none that can be used."""
    try:
        return _read(path) or {}
    except OSError as error:
        log.warning(
            "%s: cannot be read (%s); alarms that were set on the page do not hold",
            shown_path(path),
            error.strerror or one_line(error),
        )
        return {}


def write_page_alarm(
    path: Path, known: Mapping[str, PageAlarm], camera: str, alarm: PageAlarm | None
) -> dict[str, PageAlarm]:
    """Set one camera's, or take it out. What another process set meanwhile for others stays.

    Args:
        path: The file.
        known: What it held last, for where it cannot be used any more.
        camera: Whose it is.
        alarm: What is set; None takes it out.

    Returns:
        What the file holds now.

    Raises:
        OutputFailed: It cannot be written; it is as before.
    """
    try:
        found = _read(path)
    except OSError as error:
        raise OutputFailed(
            f"{shown_path(path)}: cannot be read ({error.strerror or one_line(error)}); nothing was changed"
        ) from error
    cameras = dict(known if found is None else found)
    if alarm is None:
        cameras.pop(camera, None)
    else:
        cameras[camera] = alarm
    make_folder(path.parent)
    write_atomic(path, (json.dumps({"format": FORMAT, "cameras": _plain(cameras)}, indent=2) + "\n").encode())
    return cameras


def _read(path: Path) -> dict[str, PageAlarm] | None:
    """The file's content; None where there is none. What is no such file is set aside, and none is there."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > _MOST_BYTES:
        _set_aside(path, f"it is larger than {_MOST_BYTES} bytes")
        return None
    try:
        return dict(msgspec.convert(parse_object(content), _File).cameras)
    except ValueError as error:  # msgspec's and json's errors are ValueErrors
        _set_aside(path, one_line(error))
        return None


def _plain(cameras: Mapping[str, PageAlarm]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in msgspec.structs.asdict(alarm).items() if value not in (None, "")}
        for name, alarm in sorted(cameras.items())
    }


def _set_aside(path: Path, reason: str) -> None:
    log.warning(
        "%s: cannot be used (%s); %s, and alarms that were set on the page do not hold",
        shown_path(path),
        printable(reason),
        move_aside(path),
    )
