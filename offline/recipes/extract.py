"""The `extract` command: videos to a feature store that `hunt` reads. Knows files; not how features arise."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import UsageError
from models.prompts import PROMPTS, Prompt
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.units import Unit, UnitChoice, choose_units
from offline.extraction.extract import INDEX, AllHeads, FeatureSet, extract, write_index
from offline.recipes.build import load_model, segment_spec


def extract_features(
    *,
    model: str,
    manifest: Path,
    output: Path,
    console: Console,
    prompts: tuple[Prompt, ...] = PROMPTS,
    unit: UnitChoice = "auto",
    validation: bool = False,
    device: str = "auto",
    skip_unreadable: bool = False,
) -> str:
    """Extract the calibration split (and the validation split) into a folder, or into one `.npz`.

    An `.npz` is packed from a folder beside it, which makes it resumable too. Returns what to tell the person.
    """
    packed = output.suffix == ".npz"
    folder = output.with_name(output.name + ".store") if packed else output
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder, or a name ending in .npz")
    dataset = read_dataset(manifest)
    dataset.require_both_classes("calibration")
    used = Dataset(
        dataset.path, tuple(dataset.split("calibration")) + (tuple(dataset.split("validation")) if validation else ())
    )
    if not skip_unreadable:
        used.require_files()
    mllm = load_model(model, device, console)
    segment = segment_spec(dataset, console, skip_unreadable)
    units: dict[str, Unit] = choose_units(dataset.split("calibration"), unit)
    units |= {video.name: "segment" if video.timed else "video" for video in used if video.split == "validation"}
    store = EntryStore(folder)
    # An index of an earlier run must not speak for this one until it is through.
    (folder / INDEX).unlink(missing_ok=True)
    with console.bar("Features of all heads", "video") as progress:
        done = extract(used, units, AllHeads(mllm, prompts), mllm.pixels, segment, store, skip_unreadable, progress)
    # What cannot be read was reported; a class may have gone with it.
    Dataset(dataset.path, tuple(one.video for one in done)).require_both_classes("calibration")
    calibration = FeatureSet.of([one for one in done if one.video.split == "calibration"], prompts)
    if packed:
        calibration.write(output)
    write_index(folder, calibration, done, mllm)
    return (
        f"{output}: {len(calibration.labels)} samples ({int(calibration.labels.sum())} anomalous) of "
        f"{len(set(calibration.videos))} calibration videos, {len(prompts)} prompts, "
        f"{mllm.geometry.layers} x {mllm.geometry.heads} heads of {mllm.geometry.head_dim}"
    )
