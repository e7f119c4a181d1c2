"""What a person sees on stderr while `hh-edge` works: log lines with their time, and one line of progress.

stdout belongs to records and results.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Literal

from edge_runtime.files import printable
from edge_runtime.stream.clock import rfc3339

LogFormat = Literal["text", "json"]

_REDRAW_S = 0.2
# How messages about a camera begin.
_CAMERA = re.compile(r"camera ([A-Za-z0-9_.-]+?)(?=:? |:$|$)")
_ERASE = "\r\x1b[K"


class PrintableFormatter(logging.Formatter):
    """One line a message, with whatever would act on a terminal escaped; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The message without its traceback, as one line."""
        return printable(" ".join(super().formatMessage(record).splitlines()))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC, RFC 3339), `level`, `camera` where it is known, `message`, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        message = " ".join(record.getMessage().splitlines())
        values = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
        }
        camera = getattr(record, "camera", None)
        if camera is None and (found := _CAMERA.match(message)) is not None:
            camera = found[1]
        if camera is not None:
            values["camera"] = str(camera)
        values["message"] = message
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


class LogConsole(logging.Handler):
    """Log lines, and below them a progress line that each log line first wipes away.

    The progress line appears only on a terminal, and not with `quiet` or among JSON.
    """

    def __init__(self, quiet: bool = False, log_format: LogFormat = "text") -> None:
        super().__init__()
        self.setFormatter(JsonFormatter() if log_format == "json" else PrintableFormatter())
        self._terminal = sys.stderr.isatty() and not quiet and log_format == "text"
        self._drawn = False
        self._next_s = 0.0
        self._begun_s = time.monotonic()
        self._camera = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one log line; a closed stderr must not end a run."""
        try:
            self._wipe()
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self._terminal = False

    def progress(self, camera: str, frames: int, total: int | None, fps: float) -> None:
        """Draw how far a file has got, five times a second at most."""
        now = time.monotonic()
        if camera != self._camera:
            self._camera, self._begun_s = camera, now
        if not self._terminal or now < self._next_s:
            return
        self._next_s = now + _REDRAW_S
        share = f" of {total} ({100 * frames // total} %)" if total else ""
        speed = frames / fps / max(now - self._begun_s, 1e-3)
        with self.lock or threading.RLock():
            try:
                sys.stderr.write(f"{_ERASE}{camera}: frame {frames}{share}, {speed:.1f} x real time")
                sys.stderr.flush()
            except (OSError, ValueError):
                # The terminal has gone; that must not end a run.
                self._terminal = False
                return
            self._drawn = True

    def close(self) -> None:
        """Leave a clean line behind."""
        self._wipe()
        super().close()

    def _wipe(self) -> None:
        if self._drawn:
            sys.stderr.write(_ERASE)
            self._drawn = False


def start_logging(quiet: bool = False, debug: bool = False, log_format: LogFormat = "text") -> LogConsole:
    """Send this package's logs to stderr, one line each, with the time."""
    console = LogConsole(quiet, log_format)
    if log_format == "text":
        console.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger = logging.getLogger("edge_runtime")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(console)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    return console
