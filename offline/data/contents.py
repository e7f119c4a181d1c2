"""What is known of a video, by the digest of its content.

Digests of remote videos are remembered in the store, so that none is fetched only to be passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from edge_runtime.errors import OutputFailed
from offline.data.cache import EntryStore, content_key
from offline.data.dataset import Video
from offline.data.places import Remote, stamp
from offline.data.segments import digest

Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Sought(Generic[Known]):
    """A video, and what is known of it.

    Attributes:
        content: The digest of its content.
        known: What was found; None where there was nothing.
        path: Of its file on this machine; where something is known of a remote video, it may not be here.
    """

    content: str
    known: Known | None
    path: Path


@contextmanager
def sought(video: Video, store: EntryStore, find: Callable[[str], Known | None]) -> Iterator[Sought[Known]]:
    """Look for what is known of a video, and have its file on the disk where that is nothing.

    Args:
        video: The video.
        store: Where digests of remote videos are remembered.
        find: Looks for what is known, by the digest of the content.

    Raises:
        SourceUnavailable: The video is not there, or cannot be read or fetched.
        OutputFailed: The store cannot be read; CacheFailed where the video cannot be kept on this machine.
    """
    key = _key(video)
    entry = None if key is None else store.get(key)
    if entry is not None:
        content = str(entry["digest"])
        if (known := find(content)) is not None:
            yield Sought(content, known, video.path)
            return
    with video.on_disk() as path:
        content = digest(path)
        # What was replaced while it was fetched is neither.
        if key is not None and entry is None and key == _key(video):
            # It saves time and nothing else: who may only read the store loses nothing.
            with contextlib.suppress(OutputFailed):
                store.put(key, {"digest": np.array(content)})
        yield Sought(content, find(content), path)


def _key(video: Video) -> str | None:
    """The name of the entry with a remote video's digest; another content under the same address has another."""
    if not isinstance(video.path, Remote):
        return None
    now = stamp(video.path)
    return content_key(format=1, place=str(video.path), size=now.size, tag=now.tag) if now.tag else None
