"""From a build's results to its report. Knows both; computes what only the report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_build_report(path: Path, *parts: Any) -> None:
    """Write the report."""
    path.write_text("<!doctype html><title>report</title>", encoding="utf-8")
