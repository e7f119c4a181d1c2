"""JSON files of a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_runtime.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        CheckpointError: It names the file that is missing, cannot be read or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: holds no {path.name}; is it a model folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: holds no JSON object")
    return document
