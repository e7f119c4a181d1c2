"""A mapping of texts that is kept in a spool: it survives restarts."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from edge_runtime.outputs.spool import Spool


class Notes(MutableMapping[str, str]):
    """Texts by key, in the order in which they were noted. For one thread.

    Args:
        spool: Where they are kept; while its disk fails, in memory.
        owner: Whose they are, such as a sink's name.
    """

    def __init__(self, spool: Spool, owner: str) -> None:
        self._spool, self._owner = spool, owner
        self._texts = spool.notes(owner)

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def __setitem__(self, key: str, text: str) -> None:
        self._texts[key] = text
        self._spool.note(self._owner, key, text)

    def __delitem__(self, key: str) -> None:
        del self._texts[key]
        self._spool.note(self._owner, key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
