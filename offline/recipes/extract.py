"""The `extract` command: videos to a feature store that `hunt` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from models.prompts import PROMPTS, Prompt
from offline.console import Console
from offline.data.cache import open_store, spill_folder
from offline.data.dataset import Dataset, read_dataset
from offline.data.places import remove
from offline.data.units import Unit, UnitChoice, choose_units
from offline.data.video_cache import VideoCache
from offline.extraction.executors import Execution, executor_of, open_pool
from offline.extraction.extract import AllHeads, Extraction, extract
from offline.extraction.features import INDEX, FeatureSet, write_index
from offline.extraction.model import (
    FRAMES,
    SAMPLED,
    ModelUse,
    choose_frame_size,
    fit_into_memory,
    load_model,
    segment_spec,
)
from offline.extraction.workers import ModelRecipe

if TYPE_CHECKING:
    from offline.extraction.ray_pool import RayPool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions:
    """What is extracted, and where it goes.

    Attributes:
        model: A Hugging Face id, a folder, or `reference`.
        manifest: The data.csv.
        output: A folder, or a name ending in `.npz`.
        prompts: The phrasings of the question.
        unit: What one calibration sample is.
        validation: Whether the validation split is extracted, too.
        use: How the model is run.
        segment_frames: Frames of a segment.
        sampled: How many of them the model sees.
        skip_unreadable: Whether videos that cannot be read are left out.
        execution: Who does the work.
        video_cache: Where remote videos are kept while they are read.
    """

    model: str
    manifest: Path
    output: Path
    prompts: tuple[Prompt, ...] = PROMPTS
    unit: UnitChoice = "auto"
    validation: bool = False
    use: ModelUse = field(default_factory=ModelUse)
    segment_frames: int = FRAMES
    sampled: int = SAMPLED
    skip_unreadable: bool = False
    execution: Execution = field(default_factory=Execution)
    video_cache: VideoCache = field(default_factory=VideoCache)

    @property
    def packed(self) -> bool:
        """Whether the output is one file."""
        return self.output.suffix == ".npz"

    @property
    def folder(self) -> Path:
        """The feature store; that of a packed output lies beside it, so that it is resumable too."""
        return self.output.with_name(self.output.name + ".store") if self.packed else self.output


def extract_features(options: ExtractOptions, console: Console) -> str:
    """Extract the calibration split, and maybe the validation split.

    Returns:
        What to tell the person.

    Raises:
        HeadHuntError: A video cannot be read, the model cannot be used, the disk is full.
    """
    used = _check(options)
    with open_pool(options.execution, console) as pool:
        return _extract(options, used, pool, console)


def _extract(options: ExtractOptions, used: Dataset, pool: RayPool | None, console: Console) -> str:
    folder = options.folder
    calibration = used.split("calibration")
    mllm = load_model(options.model, options.use, console)
    segment = segment_spec(used, console, options.skip_unreadable, options.segment_frames, options.sampled)
    choose_frame_size(mllm, used, segment, options.skip_unreadable)
    if pool is None:
        fit_into_memory(mllm, mllm.demand(options.prompts, segment), options.use, spill_folder(folder), console)
    units: dict[str, Unit] = choose_units(calibration, options.unit)
    units |= {video.name: "segment" if video.timed else "video" for video in used if video.split == "validation"}
    heads = AllHeads(mllm, options.prompts, segment)
    extraction = Extraction(heads, mllm.pixels, segment, open_store(folder), options.skip_unreadable)
    # An index of an earlier run must not speak for this one until it is through.
    remove(folder / INDEX)
    recipe = ModelRecipe.of(mllm, options.model, options.use, options.prompts, segment)
    with console.bar("Features of all heads", "video") as progress:
        stored = executor_of(pool, recipe).prepare(used.videos, units, extraction, progress)
        done = extract(used, units, extraction, progress, stored)
    # What cannot be read was reported; a class may have gone with it.
    Dataset(used.path, tuple(one.video for one in done)).require_both_classes("calibration")
    features = FeatureSet.of([one for one in done if one.video.split == "calibration"], options.prompts)
    if options.packed:
        features.write(options.output)
    write_index(folder, features, done, mllm)
    return (
        f"{options.output}: {len(features.labels)} samples ({int(features.labels.sum())} anomalous) of "
        f"{len(set(features.videos))} calibration videos, {len(features.prompts)} prompts, "
        f"{mllm.geometry.layers} x {mllm.geometry.heads} heads of {mllm.geometry.head_dim}"
    )


def _check(options: ExtractOptions) -> Dataset:
    """Everything that can be refused before a model is loaded. Returns the videos to extract."""
    if options.folder.exists() and not options.folder.is_dir():
        raise UsageError(f"{options.folder}: is a file; give a folder, or a name ending in .npz")
    dataset = read_dataset(options.manifest, options.video_cache)
    dataset.require_both_classes("calibration")
    used = dataset.only("calibration", "validation") if options.validation else dataset.only("calibration")
    if not options.skip_unreadable:
        used.require_files()
    return used
