"""What a site has shown of one camera, as a small file: written whole or not at all, refused where it is damaged.

An .npz without pickles, of at most 2 MiB. Its header binds it to a version, a bundle, a camera, and to what gave the
scores; zip's checksums tell a changed byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import move_aside, printable, shown_path, write_atomic
from edge_runtime.strict_json import parse_object

log = logging.getLogger(__name__)

#: Of the format.
VERSION = 1
#: A larger file is none of these, and is not read.
MOST_BYTES = 2**21

_HEADER = "header"
Parts = dict[str, dict[str, NDArray[Any]]]


class Keeper:
    """Writes files in a thread of its own, so that no disk delays who scores. Any thread may call anything.

    What cannot be written is told once, until it works again.
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, Callable[[], bytes]] = {}
        self._changed = threading.Condition()
        self._closing = self._failing = False
        self._thread: threading.Thread | None = None

    def put(self, path: Path, content: Callable[[], bytes]) -> None:
        """Have a file written, soon; of several contents that wait for one file the newest is.

        Args:
            path: The file.
            content: Makes it, in the other thread.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="site", daemon=True)
                self._thread.start()
            self._waiting[path] = content
            self._changed.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, as far as there is time: the run must end though a disk hangs."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("what was learned of the site could not be written in time; the next run knows less of it")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting)
                if not self._waiting:
                    return
                path = next(iter(self._waiting))
                content = self._waiting.pop(path)
            self._write(path, content)

    def _write(self, path: Path, content: Callable[[], bytes]) -> None:
        try:
            write(path, content())
            self._failing = False
        except (HeadHuntError, OSError) as error:
            # The next attempt comes in minutes.
            if not self._failing:
                log.warning("%s; what is usual at the site is kept in memory meanwhile", one_line(error))
            self._failing = True


def state_path(folder: Path, camera: str) -> Path:
    """Where a camera's file lies: its name as far as it is plain, and a hash of it, as names may be anything."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", camera)[:40].strip("-") or "camera"
    return folder / f"{plain}-{hashlib.sha256(camera.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}.npz"


def pack(bundle_id: str, camera: str, scores_of: str, parts: Mapping[str, Mapping[str, NDArray[Any]]]) -> bytes:
    """A file's content.

    Args:
        bundle_id: Whose features they are.
        camera: Its name.
        scores_of: What gave the scores: scorer and locator.
        parts: Arrays by part and name.
    """
    arrays = {f"{part}.{name}": array for part, of_part in parts.items() for name, array in of_part.items()}
    header: dict[str, object] = {"version": VERSION, "bundle_id": bundle_id, "camera": camera, "scores_of": scores_of}
    header["arrays"] = sorted(arrays)
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write what `pack` gave.

    Raises:
        OutputFailed: The disk is full or not writable.
    """
    write_atomic(path, content)


def read(path: Path, bundle_id: str, camera: str, scores_of: str) -> Parts:
    """What is known of a camera, as far as it still holds; what is told is logged.

    A damaged file is set aside (`.damaged` behind its name, one a camera), and the camera begins anew. So does it
    where the file is of another bundle, version or camera. Where only the scores come from something else, `drift`
    alone is returned.

    Args:
        path: As of `state_path`.
        bundle_id: As of `pack`.
        camera: As of `pack`.
        scores_of: As of `pack`.

    Returns:
        Arrays by part and name; empty where nothing holds. They are not checked yet.
    """
    try:
        content = _content(path)
        if content is None:
            return {}
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            _check_sizes(archive.zip)
            header = parse_object(archive[_HEADER].tobytes())
            arrays = {name: archive[name] for name in archive.files if name != _HEADER}
            _check_whole(header, arrays)
    except OSError as error:
        log.warning(
            "%s: %s: cannot be read (%s); what is usual at the site is learned anew",
            printable(camera),
            shown_path(path),
            error.strerror or one_line(error),
        )
        return {}
    except Exception as error:  # noqa: BLE001 - numpy, zipfile and zlib raise their own each
        set_aside(path, camera, one_line(error))
        return {}
    for name, value in (("version", VERSION), ("bundle_id", bundle_id), ("camera", camera)):
        if header.get(name) != value:
            log.info("%s: what %s knows is of another %s; it begins anew", printable(camera), shown_path(path), name)
            return {}
    parts: Parts = {}
    for name, array in arrays.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = array
    if header.get("scores_of") != scores_of:
        log.info("%s: scorer or locator changed: p-values and budget begin anew", printable(camera))
        return {"drift": parts["drift"]} if "drift" in parts else {}
    return parts


def set_aside(path: Path, camera: str, reason: str) -> None:
    """Move a file that cannot be used out of the way, and say so."""
    log.warning(
        "%s: %s: cannot be read (%s); %s, and what is usual at the site is learned anew",
        printable(camera),
        shown_path(path),
        printable(reason),
        move_aside(path),
    )


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    return content


def _check_whole(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    # Each array has a checksum; but where the archive's directory is damaged, one may be missing. Earlier versions
    # did not say which there are.
    if header.get("arrays", sorted(arrays)) != sorted(arrays):
        raise ValueError("not all of its arrays are there")


def _check_sizes(archive: zipfile.ZipFile) -> None:
    # Before anything is inflated.
    if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
        raise ValueError(f"it inflates to more than {MOST_BYTES} bytes")
