"""JSON files of a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_runtime.errors import CheckpointError
from edge_runtime.strict_json import parse_object


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        CheckpointError: There is no such file, or it holds something else; names the file.
    """
    try:
        return parse_object(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: holds no {path.name}; is it a model folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
