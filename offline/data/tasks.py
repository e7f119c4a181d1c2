"""Work on one video that may be done elsewhere, as whoever gives it and whoever does it see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from offline.console import Progress


class Task(Protocol):
    """What is done of one video. It is pickled."""

    def do(self, loaded: Any) -> tuple[int, Any]:
        """Do it.

        Args:
            loaded: What whoever does it has loaded; some tasks need nothing of it.

        Returns:
            How many frames were computed for it, and its result.
        """


#: Does tasks by name elsewhere; gives results, and why videos that cannot be read have none, by name.
HandOut = Callable[[Mapping[str, Task], Progress], tuple[Mapping[str, Any], Mapping[str, str]]]
