"""What tests of whole processes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_command import with_manifest


@pytest.fixture
def always(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle to which everything is an event."""
    spec = {"sigma": 0.0, "threshold": 0.0, "lookahead": 0, "calibrated": True, "f1": None}
    target = tmp_path / "bundle"
    return with_manifest(
        bundle_dir, target, locators={"full": spec, "low_latency": spec}, segment={"frames": 8, "sampled": 16}
    )
