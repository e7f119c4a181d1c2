"""What a reader must know before the figures: where the model comes from, and on what it was calibrated."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.bundle.manifest import Manifest
from models.reference import is_trained
from models.reference.architecture import SHAPES


def title_of(manifest: Path) -> str:
    """Say what to call a dataset: its file's name, or its folder's where the file is just the data.csv."""
    return manifest.absolute().parent.name or manifest.stem if manifest.stem == "data" else manifest.stem


def bundle_notes(manifest: Manifest, *, judged_on_test: bool) -> tuple[str, ...]:
    """Write the sentences for the top of a report.

    Args:
        manifest: Of the bundle.
        judged_on_test: Whether the report holds figures of videos that chose nothing.
    """
    notes = []
    model = manifest.source_model.name
    if model in SHAPES:
        notes.append(
            f"The model is the built-in model {model}, which is small and was trained on generated scenes only: "
            "good for trying everything out, not for real cameras."
            if is_trained(model)
            else f"The model is the built-in model {model} without training: the figures prove the plumbing only."
        )
    if not manifest.locators.full.calibrated:
        notes.append("The locator is not calibrated: there were no validation videos with times of both kinds.")
    elif judged_on_test:
        notes.append(
            "The locator was calibrated on its build's validation videos, so its figures on them are favourable; "
            "those of the test split are the ones to judge by."
        )
    else:
        notes.append(
            "The locator was calibrated on its build's validation videos, so its figures on them are favourable; "
            "judge a bundle on the test split, with hh-offline report."
        )
    return tuple(notes)
