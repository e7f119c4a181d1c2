"""The cameras of a running `hh-edge run --config cameras.json --watch`, changed from outside: JSON is YAML, too.

Shared by mediamtx_hook.py and go2rtc_hook.py. `hh-edge` adds and removes what changed, and touches no other camera.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cameras = dict[str, dict[str, Any]]


def camera_name(stream: str) -> str:
    """What a stream is called as a camera: up to 64 letters, digits, _, . and -, as it goes into file names."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", stream)[:64]


def change(path: Path, edit: Callable[[Cameras], Cameras]) -> bool:
    """Edit the file's cameras; returns whether that changed anything.

    One process at a time, and a reader sees the old file or the new one, never half of it.
    """
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configuration = json.loads(path.read_text())
        before = configuration.get("cameras", {})
        after = edit(dict(before))
        if after == before:
            return False
        configuration["cameras"] = after
        new = path.with_suffix(".new")
        new.write_text(json.dumps(configuration, indent=2) + "\n")
        os.replace(new, path)
        return True
