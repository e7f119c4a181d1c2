"""What a person sees on stderr while `hh-edge` works: log lines with their time, and one line of progress.

stdout belongs to records and results.
"""

from __future__ import annotations

import logging
import sys
import threading
import time

from edge_runtime.files import printable

_REDRAW_S = 0.2
_ERASE = "\r\x1b[K"


class PrintableFormatter(logging.Formatter):
    """One line a message, with whatever would act on a terminal escaped; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The message without its traceback, as one line."""
        return printable(" ".join(super().formatMessage(record).splitlines()))


class LogConsole(logging.Handler):
    """Log lines, and below them a progress line that each log line first wipes away.

    The progress line appears only on a terminal, and not with `quiet`.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self.setFormatter(PrintableFormatter())
        self._terminal = sys.stderr.isatty() and not quiet
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


def start_logging(quiet: bool = False, debug: bool = False) -> LogConsole:
    """Send this package's logs to stderr, one line each, with the time."""
    console = LogConsole(quiet)
    console.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger = logging.getLogger("edge_runtime")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(console)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    return console
