"""`hh-edge` as an operator runs it: a child process, its records and its exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_runtime.bundle.manifest import MANIFEST, seal

HH_EDGE = [sys.executable, "-c", "from edge_runtime.cli import main; main()"]
# What was promised (its exit code tells whether it kept to it), and what a busy machine takes to see a process end.
STOP_S = 3.0 + 17.0


def hh_edge(*arguments: object, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = [*HH_EDGE, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, timeout=timeout, check=False, **pipes)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start and leave running."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*HH_EDGE, *map(str, arguments)], text=True, **pipes)


def parsed(text: str) -> list[dict[str, Any]]:
    """Records of an output; an unfinished or foreign line is an error."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def of_type(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of one type."""
    return [record for record in records if record["type"] == kind]


def with_manifest(bundle: Path, target: Path, **changes: dict[str, Any]) -> Path:
    """A copy of a bundle whose manifest says something else in some of its objects, and is sealed again."""
    shutil.copytree(bundle, target)
    document = json.loads((target / MANIFEST).read_text())
    for key, values in changes.items():
        document[key] |= values
    (target / MANIFEST).write_bytes(seal(document))
    return target
