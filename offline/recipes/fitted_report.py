"""What the report of a build and that of a recalibration have in common: both show what was just fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.bundle.manifest import Manifest
from export.publish import entries
from offline.calibration.fit import Fitted
from offline.report.videos import Scored

TEST_SPLIT = (
    "The test split and the ablation: a build never looks at them. hh-offline report --bundle BUNDLE --manifest "
    "data.csv --output report.html judges the finished bundle on it; --ablation adds the table of hh-offline ablate."
)


def scored_videos(fitted: Fitted) -> list[Scored]:
    """Give the validation videos with their scores, located by the new `full` operating point."""
    locator = fitted.locators.full
    return [Scored.of(one.video, one.fps, fitted.scored[one.video.name], locator) for one in fitted.validation_units]


def unsealed_manifest(document: dict[str, Any], work: Path) -> Manifest:
    """Make the manifest of a bundle that is being assembled: everything but its `bundle_id`.

    Args:
        document: The manifest so far, as plain values.
        work: The folder with its files, all but the report.
    """
    return msgspec.convert(document | {"bundle_id": "", "files": entries(work)}, Manifest)
