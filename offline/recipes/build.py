"""From labelled videos to a bundle: the method section, in order. Knows the steps; each step knows its own work."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle import manifest as m
from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import DatasetError, SourceUnavailable, UsageError
from edge_runtime.files import sha256
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.precisions import parity_tolerance
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_graphs
from export.parity import Parity, measure_parity, require_parity
from export.publish import LANGUAGE, SCORER, VISION, now, producer, publish, write_golden
from export.staging import check_target, staging_folder
from export.torch_onnx import tensor_specs
from models.family import Mllm
from models.loading import REFERENCE, choose_device, load
from models.prompts import PROMPTS, Prompt
from models.reference import is_trained
from offline.calibration.fit import Fitted, fit, fitted_document, timed
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.segments import clips
from offline.data.units import UnitChoice, choose_units
from offline.extraction.extract import AllHeads, ExpertFeatures, FeatureSet, extract, median_rate
from offline.hunting.hunt import Hunt, hunt

SAMPLED, FRAMES, DEFAULT_FPS = 16, 48, 30.0
PARITY_SEGMENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Everything that decides what a build gives."""

    model: str
    manifest: Path
    output: Path
    precision: m.Precision = "fp32"
    prompts: tuple[Prompt, ...] = PROMPTS
    prompt: str | None = None
    top_k: int = 5
    penalty: float = 0.5
    max_layer: int | None = None
    unit: UnitChoice = "auto"
    cache: Path | None = None
    device: str = "auto"
    seed: int = 0
    skip_unreadable: bool = False
    overwrite: bool = False
    depth_curve: bool = True

    @property
    def cache_folder(self) -> Path:
        """Where extracted features are kept, so that a killed build goes on where it was."""
        return self.target.with_name(self.target.name + ".cache") if self.cache is None else self.cache

    @property
    def target(self) -> Path:
        """`output` with a name of its own, for what stands beside it: `.` and `bundle/..` have none."""
        return Path(os.path.abspath(self.output))


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What a build made and what it was made from."""

    bundle: Bundle
    hunt: Hunt
    fitted: Fitted
    parity: Parity


def build(options: BuildOptions, console: Console) -> Built:
    """Run the whole method and write a bundle.

    Raises HeadHuntError of many kinds; nothing is at `options.output` then that was not there before, and
    what was extracted is found again by the next try.
    """
    dataset = _check(options)
    used = Dataset(dataset.path, (*dataset.split("calibration"), *dataset.split("validation")))
    console.say(f"Loading {options.model}")
    mllm = load_model(options.model, options.device, console)
    segment = segment_spec(dataset, console, options.skip_unreadable)
    store = EntryStore(options.cache_folder)
    units = choose_units(dataset.split("calibration"), options.unit)

    heads = AllHeads(mllm, options.prompts)
    with console.bar("Features of all heads", "video") as progress:
        calibration = extract(
            dataset.split("calibration"), units, heads, mllm.pixels, segment, store, options.skip_unreadable, progress
        )
    # What cannot be read was reported once, and is no part of the build from here on.
    readable = {one.video.name for one in calibration}
    dataset = Dataset(dataset.path, tuple(v for v in dataset if v.split != "calibration" or v.name in readable))
    dataset.require_both_classes("calibration")
    features = FeatureSet.of(calibration, options.prompts)
    with console.bar("Hunting", "head") as progress:
        found = hunt(
            features.features,
            features.labels,
            features.prompts,
            top_k=options.top_k,
            penalty=options.penalty,
            max_layer=options.max_layer,
            prompt=options.prompt,
            videos=features.videos,
            progress=progress,
        )
    experts = [expert.ref for expert in found.experts]
    prompt = next(prompt for prompt in options.prompts if prompt.name == found.prompt)
    console.say(
        f"Experts {' '.join(f'({e.layer},{e.head})' for e in experts)}; prompt {prompt.name!r}; "
        f"{found.depth + 1} of {mllm.geometry.layers} layers will run"
    )

    with staging_folder(options.target) as work:
        console.say("Exporting the graphs")
        mllm.to("cpu")
        export_graphs(mllm, prompt, experts, segment.sampled, work)
        graphs = OnnxEngine(work / VISION, work / LANGUAGE, provider="cpu", group=mllm.frames_per_group)
        samples = sample_segments(used, mllm, segment, PARITY_SEGMENTS, options.skip_unreadable)
        parity = measure_parity(mllm, graphs, prompt, experts, samples, parity_tolerance(options.precision))
        require_parity(parity)
        console.say(f"Parity on {parity.segments} segments: {parity.relative:.2g} of the features' scale")

        hashes = [sha256(work / name) for name in sorted(path.name for path in work.iterdir())]
        extractor = ExpertFeatures(graphs, hashes)
        fitted = fit(
            dataset,
            units,
            extractor,
            mllm.pixels,
            segment,
            store,
            work,
            console,
            seed=options.seed,
            skip_unreadable=options.skip_unreadable,
        )
        write_golden(work, golden(graphs, ScorerGraph(work / SCORER), samples))
        document = manifest_document(mllm, prompt, found, segment, options.precision, parity, fitted, work)
        from offline.recipes.build_report import write_build_report

        validation = None
        if options.depth_curve and fitted.validation_units:
            judged = timed(dataset.split("validation"))
            by_segment = choose_units(judged, "segment")
            mllm.to(choose_device(options.device))
            with console.bar("Features of all heads, validation", "video") as progress:
                validation = extract(
                    judged, by_segment, heads, mllm.pixels, segment, store, options.skip_unreadable, progress
                )
        console.say("Writing the report")
        write_build_report(
            work / m.REPORT,
            options,
            document,
            found,
            dataset,
            features,
            mllm.geometry.layers,
            validation,
            fitted,
            console,
        )
        bundle = publish(work, options.target, document)
    return Built(bundle, found, fitted, parity)


def _check(options: BuildOptions) -> Dataset:
    """Everything that can be refused before the long work begins. Returns the dataset."""
    check_target(options.target, options.overwrite)
    if options.prompt is not None and options.prompt not in (names := [prompt.name for prompt in options.prompts]):
        raise UsageError(f"there is no prompt {options.prompt!r}; choose from {', '.join(names)}")
    parity_tolerance(options.precision)
    dataset = read_dataset(options.manifest)
    dataset.require_both_classes("calibration")
    used = Dataset(dataset.path, (*dataset.split("calibration"), *dataset.split("validation")))
    if not options.skip_unreadable:
        used.require_files()
    return dataset


def load_model(name: str, device: str, console: Console) -> Mllm:
    """Load a model, and say so where it is the reference model without training."""
    if name == REFERENCE and not is_trained():
        console.say(
            "note: the built-in reference model is untrained here; what is hunted in it proves the plumbing only"
        )
    return load(name, device)


def segment_spec(dataset: Dataset, console: Console, skip_unreadable: bool = False) -> SegmentSpec:
    """48 frames a segment, 16 of them sampled, at the median rate of the calibration videos."""
    fps = median_rate(dataset.split("calibration"), skip_unreadable)
    if fps is None:
        console.say(f"No calibration video states its frame rate; the bundle assumes {DEFAULT_FPS} frames a second")
    return SegmentSpec(frames=FRAMES, sampled=SAMPLED, fps=DEFAULT_FPS if fps is None else fps)


def sample_segments(
    videos: Dataset, mllm: Mllm, segment: SegmentSpec, count: int, skip_unreadable: bool = False
) -> NDArray[np.uint8]:
    """Pixels of `count` real segments, normal and anomalous videos in turn: uint8 (count, F, S, S, 3).

    From as many videos as possible, and only then from one again. The first is of a normal video, the second of
    an anomalous one, where there are both. Fewer where the videos hold fewer. Raises DatasetError for none.
    """
    kinds = ([v for v in videos if not v.anomalous], [v for v in videos if v.anomalous])
    order = [video for pair in zip_longest(*kinds) for video in pair if video is not None]
    # Nothing is opened before its turn.
    waiting = [clips(video.path, mllm.pixels, segment) for video in order]
    chosen: list[NDArray[np.uint8]] = []
    while waiting and len(chosen) < count:
        running = []
        for segments in waiting:
            try:
                clip = next(segments, None) if len(chosen) < count else None
            except SourceUnavailable:
                if not skip_unreadable:
                    raise
                continue
            if clip is not None:
                chosen.append(clip.pixels)
                running.append(segments)
        waiting = running
    if not chosen:
        raise DatasetError(f"{videos.path}: no video holds a segment to compare the export on")
    return np.stack(chosen)


def golden(graphs: OnnxEngine, scorer: ScorerGraph, samples: NDArray[np.uint8]) -> Golden:
    """What the first two of `samples` give, for the edge's self-test."""
    frames = samples[:2] if len(samples) > 1 else np.concatenate([samples, samples])
    tokens = np.concatenate([graphs.tokens(one[None]) for one in frames])
    features = np.concatenate([graphs.language(one[None]) for one in tokens])
    probabilities = np.concatenate([scorer.probabilities(one[None]) for one in features])
    return Golden(frames, tokens, features, probabilities)


def manifest_document(
    mllm: Mllm,
    prompt: Prompt,
    found: Hunt,
    segment: SegmentSpec,
    precision: m.Precision,
    parity: Parity,
    fitted: Fitted,
    work: Path,
) -> dict[str, Any]:
    """The manifest without `files` and `bundle_id`, as plain values."""
    geometry = mllm.geometry

    def graph(name: str) -> dict[str, Any]:
        inputs, outputs = tensor_specs(work / name)
        return {
            "file": name,
            "precision": precision,
            "inputs": msgspec.to_builtins(inputs),
            "outputs": msgspec.to_builtins(outputs),
        }

    return {
        "schema_version": m.SCHEMA_VERSION,
        "created": now(),
        "producer": producer(),
        "source_model": asdict(mllm.source),
        "prompt": {"name": prompt.name, "text": prompt.text},
        "experts": [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts],
        "geometry": {
            "layers": geometry.layers,
            "heads": geometry.heads,
            "head_dim": geometry.head_dim,
            "width": geometry.width,
        },
        "segment": msgspec.to_builtins(segment),
        "pixels": msgspec.to_builtins(mllm.pixels),
        "graphs": {"vision": graph(VISION), "language": graph(LANGUAGE)},
        "parity": parity.to_dict() | {"scorer_max_abs": fitted.scorer_difference},
    } | fitted_document(fitted)
