"""What a bundle said about a video, in a feature store: who judges it again does not run it again."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edge_runtime import __version__
from edge_runtime.errors import OutputFailed
from edge_runtime.records import Record, read_record
from offline.data.cache import Arrays, EntryStore, content_key

log = logging.getLogger(__name__)

# Raised when the edge says something else of the same frames and its version does not.
_FORMAT = 1


class Said(NamedTuple):
    """What the stream of one video wrote.

    Attributes:
        records: In their order.
        frames: Of the file.
        fps: Its frame rate; the segments' where it states none.
    """

    records: tuple[Record, ...]
    frames: int
    fps: float


class KeptRuns:
    """Runs of one bundle in a store.

    Args:
        store: The store.
        how: Plain values that change whenever what is said about the same video could.
    """

    def __init__(self, store: EntryStore, how: dict[str, Any]) -> None:
        self.store, self._how, self._told = store, how, False

    def get(self, name: str, content: str) -> Said | None:
        """Find what was said about a video.

        Args:
            name: Of the file, without its ending: records carry it.
            content: The digest of its content.

        Returns:
            None where there is nothing that can be read.
        """
        entry = self.store.get(self._key(name, content))
        return None if entry is None else _said(entry)

    def put(self, name: str, content: str, said: Said) -> None:
        """Keep it, where the store can be written; it saves time and nothing else."""
        # Not as they are written to an output: scores would be rounded.
        lines = "\n".join(json.dumps(msgspec.to_builtins(record)) for record in said.records)
        records = np.frombuffer(lines.encode("ascii"), np.uint8)
        entry = {"records": records, "frames": np.array(said.frames), "fps": np.array(said.fps)}
        try:
            self.store.put(self._key(name, content), entry)
        except OutputFailed as error:
            if not self._told:
                self._told = True
                log.warning("what the bundle says is not kept for the next time: %s", error)

    def _key(self, name: str, content: str) -> str:
        return content_key(format=_FORMAT, run=self._how, software=__version__, name=name, video=content)


def _said(entry: Arrays) -> Said | None:
    try:
        lines = entry["records"].tobytes().splitlines()
        return Said(tuple(read_record(line) for line in lines), int(entry["frames"]), float(entry["fps"]))
    except (KeyError, ValueError):
        # Of another version, or damaged: it is run again.
        return None
