"""How much one address, and all together, may ask of the server."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

# Addresses that are remembered: one who has more of them than this has more than one network.
_ADDRESSES = 4096


def group_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the 64 bits of an IPv6 network, which are one household."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False).network_address)
    return str(found)


class WrongTokens:
    """A bucket for each address: every wrong token takes one out, and it fills up again slowly. Any thread may call
    anything.

    Args:
        most: Wrong tokens in a row.
        every_s: Seconds until there is one more.
        monotonic: The clock.
    """

    def __init__(self, most: int = 10, every_s: float = 6.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most, self._every_s, self._monotonic = most, every_s, monotonic
        # Of each address how many are left, and when that was so.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> int:
        """Seconds until an address may try again; 0: now."""
        group = group_of(address)
        with self._lock:
            left = self._now_left(group)
        return 0 if left >= 1 else math.ceil((1 - left) * self._every_s)

    def failed(self, address: str) -> None:
        """An address has shown a wrong token."""
        group = group_of(address)
        with self._lock:
            self._left[group] = (max(0.0, self._now_left(group) - 1), self._monotonic())
            self._left.move_to_end(group)
            while len(self._left) > _ADDRESSES:
                self._left.popitem(last=False)

    def _now_left(self, group: str) -> float:
        left, at_s = self._left.get(group, (self._most, 0.0))
        return min(self._most, left + (self._monotonic() - at_s) / self._every_s)


class Connections:
    """Counts open connections, in all and of each address. For one thread.

    Args:
        most: In all.
        most_each: Of one address.
    """

    def __init__(self, most: int = 256, most_each: int = 64) -> None:
        self._most, self._most_each = most, most_each
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    def open(self, address: str) -> bool:
        """Count one more; False where that is too many, and it does not count."""
        group = group_of(address)
        if len(self) >= self._most or self._open[group] >= self._most_each:
            return False
        self._open[group] += 1
        return True

    def close(self, address: str) -> None:
        """One that was counted has ended."""
        group = group_of(address)
        self._open[group] -= 1
        if self._open[group] <= 0:
            del self._open[group]
