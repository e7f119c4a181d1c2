"""The JSON of `ablate --json`, read back.

The file may come from another version or another program: what is missing or of another kind is an error that
names the file and the key. Nothing is filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.errors import DatasetError
from edge_runtime.strict_json import parse_json
from offline.ablation.result import Ablation, Row
from offline.report.content import AblationTable, Table

_OWN = ("unseen_kinds", "notes", "rows")
_AGAIN = "make it with hh-offline ablate --json"


def read_ablation(path: Path) -> Ablation:
    """Read what `Ablation.to_dict` wrote.

    Raises:
        DatasetError: It is something else; one line that names the file and the key.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}; {_AGAIN}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON ({error}); {_AGAIN}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: holds no JSON object; {_AGAIN}")
    rows = _part(path, content, "rows", tuple[Row, ...])
    unseen = _part(path, content, "unseen_kinds", tuple[str, ...])
    notes = _part(path, content, "notes", tuple[str, ...])
    if not rows:
        raise DatasetError(f"{path}: key 'rows' is empty; {_AGAIN}")
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DatasetError(f"{path}: key 'rows' holds {twice!r} twice; {_AGAIN}")
    run = {key: value for key, value in content.items() if key not in _OWN}
    return Ablation(run=run, unseen=unseen, rows=rows, notes=notes)


def ablation_table(path: Path) -> AblationTable:
    """Read the file as a report shows it: the rows, what they were judged on, and its notes.

    Raises:
        DatasetError: As `read_ablation`, and where the file does not say what was judged.
    """
    found = read_ablation(path)
    split = _part(path, found.run, "split", str)
    manifest = _part(path, found.run, "manifest", str)
    model = _part(path, found.run, "model", dict[str, str])
    judged = _part(path, found.run, "judged", dict[str, Any])
    for key in ("name", "revision"):
        _part(path, model, key, str, "model.")
    videos = _part(path, judged, "videos", int, "judged.")
    return AblationTable(
        table=_for_a_page(found.table()),
        judged_on=f"Judged on {videos} videos: the {split} split of {manifest}, with {model['name']}.",
        revision=model["revision"],
        notes=found.notes,
    )


def _for_a_page(table: Table) -> Table:
    """Intervals on a line of their own. Nothing where there is no figure: the last column says why."""
    return Table(
        table.columns,
        tuple(
            tuple("" if c is None else c.replace(" [", "\n[") if isinstance(c, str) else c for c in row[:-1])
            + row[-1:]
            for row in table.rows
        ),
    )


def _part(path: Path, content: Any, key: str, kind: Any, before: str = "") -> Any:
    if key not in content:
        raise DatasetError(f"{path}: key '{before}{key}' is missing; {_AGAIN}")
    try:
        return msgspec.convert(content[key], kind)
    except (msgspec.ValidationError, RecursionError) as error:
        # msgspec ends its message with the place, as "… - at `$[0].auc.value`".
        fault, _, place = str(error).partition(" - at `$")
        where = f"{before}{key}{place.rstrip('`')}"
        raise DatasetError(f"{path}: key '{where}': {fault}; {_AGAIN}") from None
