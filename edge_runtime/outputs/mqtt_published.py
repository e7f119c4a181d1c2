"""Which cameras a broker was told of, in this run and in those before."""

from __future__ import annotations

import json
from collections.abc import MutableMapping

_DESCRIBED = "described"


class Published:
    """Names of cameras of which a broker keeps something. For one thread.

    Args:
        notes: Where they are kept; `Notes` of a spool survives restarts.
    """

    def __init__(self, notes: MutableMapping[str, str] | None = None) -> None:
        self._notes: MutableMapping[str, str] = {} if notes is None else notes

    @property
    def names(self) -> list[str]:
        """All of them, as far as they can be read."""
        found = []
        for key in self._notes:
            try:
                name = json.loads(key)
            except ValueError:
                continue
            if isinstance(name, str):
                found.append(name)
        return found

    def is_described(self, camera: str) -> bool:
        """Whether Home Assistant was told of a camera."""
        return self._notes.get(_key(camera)) == _DESCRIBED

    def add(self, camera: str, *, described: bool) -> None:
        """Note that the broker is told of a camera, and whether Home Assistant is."""
        text = _DESCRIBED if described or self.is_described(camera) else ""
        if self._notes.get(_key(camera)) != text:
            self._notes[_key(camera)] = text

    def remove(self, camera: str) -> None:
        """The broker keeps nothing of a camera any more."""
        self._notes.pop(_key(camera), None)


def _key(camera: str) -> str:
    # A file's name need not be text that a database takes.
    return json.dumps(camera)
