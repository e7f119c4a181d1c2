"""Tells a service manager that the run is ready, alive and ending, as systemd's `sd_notify` does.

The protocol is a datagram of `KEY=VALUE` lines to the socket that `$NOTIFY_SOCKET` names; a library for it would be
larger than this.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Notices to whoever started this process; nothing happens where nobody asked for them.

    Args:
        environment: Holds `NOTIFY_SOCKET` and, where pings are wanted, `WATCHDOG_USEC`.
        monotonic: The clock.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # `@` stands for the zero byte of Linux's abstract names.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        # Twice as often as asked, as its manual advises.
        self._every_s = int(microseconds) / 2e6 if microseconds.isdecimal() else None
        self._monotonic = monotonic
        self._told_s: float | None = None
        self._ending = False

    def alive(self) -> None:
        """Scoring goes on; the first time, it is ready. The loop that scores calls this: pings end with it."""
        now_s = self._monotonic()
        if self._told_s is None:
            self._tell("READY=1")
        elif self._every_s is None or now_s - self._told_s < self._every_s:
            return
        else:
            self._tell("WATCHDOG=1")
        self._told_s = now_s

    def ending(self) -> None:
        """The run ends, or was asked to: told once, as soon as that is known. Any thread may call this."""
        if not self._ending:
            self._ending = True
            self._tell("STOPPING=1")

    def _tell(self, line: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A manager that does not listen must not hold up scoring.
                sender.settimeout(0.5)
                sender.sendto(line.encode(), self._address)
        except OSError as error:
            log.debug("the service manager could not be told %s: %s", line, error)
