"""How well frames are told apart, at every threshold."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report import charts
from offline.report.content import Report
from offline.report.sections.parts import ONE_CLASS, Drawn, Section, not_none
from offline.report.tables import pool_frames


def curves(report: Report) -> Iterator[Section]:
    """Show every operating point, split by split."""
    threshold = report.operating_point.threshold
    drawn, remarks = [], []
    for split in ("test", "validation"):
        videos = [video for video in report.videos if video.split == split]
        if not videos:
            continue
        pooled = pool_frames(videos)
        if pooled is None:
            remarks.append(f"ROC and precision-recall of the {split} split are not defined: {ONE_CLASS}.")
            continue
        drawn.append(
            Drawn(
                f"{split.capitalize()}: every operating point",
                charts.operating_curves(
                    f"curves-{split}", "ROC curve and precision-recall curve", pooled.series, threshold
                ),
                f"{not_none(pooled.frames)} frames of {pooled.videos} videos. AUC "
                f"{not_none(pooled.auc_smoothed)} smoothed, "
                f"{not_none(pooled.auc_raw)} raw. Good curves pass close to the upper left (ROC) and the upper right "
                "(precision-recall) corner; the grey lines are chance, the dots are the calibrated threshold.",
            )
        )
    if drawn or remarks:
        yield Section(
            "curves",
            "How well frames are told apart",
            "Frames of all videos with known event times; gaps are left out.",
            tuple(drawn),
            remarks=tuple(remarks),
        )
