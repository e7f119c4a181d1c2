"""What a measurement gave, one small JSON file each: `benchmarks/results/NAME.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.errors import UsageError
from edge_runtime.files import write_atomic

RESULTS = Path(__file__).with_name("results")


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measurement.

    Attributes:
        name: As the campaign calls it.
        command: What a person types for it.
        quick: Whether its sizes were reduced: then its figures say that it works, and no more.
        date: Its day, UTC.
        seconds: How long all of it took.
        peak_gib: The largest resident set of its process.
        machine: See `measuring.machine`; empty where it failed.
        versions: Of what computed.
        figures: What was measured; None where it failed.
        error: The last line of one that failed.
        note: What a person adds to the figures. The next measurement begins without it.
    """

    name: str
    command: str
    quick: bool
    date: str
    seconds: float
    peak_gib: float
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: dict[str, Any] | None
    error: str | None = None
    note: str | None = None


def read_results(folder: Path) -> dict[str, Result]:
    """All of a folder by name; none where there is no such folder.

    Raises:
        UsageError: A file is no result; the message names it.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = msgspec.json.decode(path.read_bytes(), type=Result)
        except msgspec.DecodeError as error:
            raise UsageError(f"{path}: is no result of a benchmark ({error}); remove it") from error
        found[result.name] = result
    return found


def write_result(result: Result, folder: Path) -> None:
    """Write one, in place of an older one of its name.

    Raises:
        OutputFailed: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(result), indent=2)
    write_atomic(folder / f"{result.name}.json", text + b"\n")
