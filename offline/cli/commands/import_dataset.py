"""`hh-offline import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.errors import UsageError
from offline.cli.options import PATH, SEED


@click.command(name="import")
@click.argument("dataset")
@click.option("--annotations", type=PATH, required=True, help="The dataset's annotation file or folder.")
@click.option("--output", type=PATH, required=True, help="The data.csv to write.")
@click.option("--videos", type=PATH, help="Folder of the videos, searched with its subfolders.")
@click.option("--frame-counts", type=PATH, help="A file with the number of frames of each video.")
@click.option(
    "--interval",
    type=click.Choice(["half-open", "inclusive", "one-based"]),
    help="What frame numbers mean: from 0 without the last one, from 0 with it, or from 1 with it [default: as the "
    "dataset means them: msad one-based, ucf-crime and xd-violence half-open].",
)
@click.option("--split", type=click.Choice(["calibration", "validation", "test"]), help="Give all rows this split.")
@click.option("--calibration-fraction", type=float, help="Draw this fraction of each class, as split calibration.")
@SEED
def import_dataset(dataset: str, output: Path, calibration_fraction: float | None, seed: int, **request: Any) -> None:
    """Turn a public dataset's annotations into a data.csv.

    DATASET: ucf-crime, xd-violence, msad, shanghaitech, ubnormal, avenue or ped2.

    \b
    Example:
      hh-offline import ucf-crime --annotations Temporal_Anomaly_Annotation.txt --videos UCF/ --output data.csv
    """
    from offline.data.dataset import write_dataset
    from offline.data.importers import IMPORTERS, Request, summary
    from offline.data.importers import import_dataset as run_import

    if dataset not in IMPORTERS:
        raise UsageError(f"unknown dataset {dataset!r}; choose from {', '.join(IMPORTERS)}")
    rows = run_import(
        dataset,
        Request(**request),
        calibration_fraction=calibration_fraction,
        seed=seed,
        relative_to=output.parent,
    )
    write_dataset(rows, output)
    tell(f"{output}: {summary(rows)}")
