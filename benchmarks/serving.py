"""A real Triton server on this machine, that of the wheel nvidia-pytriton: models run in its Python backend."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.bundle.reader import Bundle
from export.triton.configs import Serving
from export.triton.repository import write_repository
from offline.recipes.triton import packages_here

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests/support")]


def served(
    bundle: Bundle,
    work: Path,
    threads: int,
    max_batch: int,
    delay_ms: float = 2.0,
    jpeg: Mapping[str, str] | None = None,
) -> Any:
    """A bundle's models on a server of their own.

    Args:
        bundle: Opened.
        work: Where the repository, the backend and the log go.
        threads: Of each graph.
        max_batch: How many segments it takes together.
        delay_ms: How long one waits for others.
        jpeg: Parameters of the models that take JPEG; none without.

    Returns:
        A context manager, `TritonServer` of the tests: `address`, `port`, `kill()`, `start()`.
    """
    from triton_server import TritonServer, make_backends

    serving = Serving(
        backend="python",
        device="cpu",
        threads=threads,
        max_batch=max_batch,
        delay_us=round(1000 * delay_ms),
        python_path=packages_here(),
    )
    write_repository(bundle, work / "models", serving, jpeg=jpeg)
    return TritonServer(make_backends(work), work / "models")
