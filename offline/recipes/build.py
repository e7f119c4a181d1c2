"""From labelled videos to a bundle: the method section, in order."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle import manifest as m
from edge_runtime.bundle.licences import commercial_use
from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import UsageError
from edge_runtime.files import sha256
from edge_runtime.inference.engines import builder, require_installed
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import AUTO
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.stream.difference import check_levels
from edge_runtime.stream.segments import SegmentSpec
from export.deploy import Deployed, Deployment, deploy, features_of_both
from export.parity import Parity
from export.precision.rounding import Rounded
from export.publish import GROWING, LANGUAGE, SCORER, SCORING, VISION, now, producer, publish, write_golden
from export.staging import check_space, check_target, staging_folder
from export.torch_onnx import tensor_specs
from models.family import Mllm
from models.heads import HeadRef
from models.loading import choose_device
from models.precision import dtype_name
from models.prompts import PROMPTS, Prompt
from offline.calibration.cost import Cost, ModelFeatures, measure_cost, require_bearable
from offline.calibration.fit import Fitted, fit, fitted_document, striding, timed
from offline.calibration.reuse import Reuse, ReuseCost, measure_reuse
from offline.calibration.rules import RULE, ScorerRule
from offline.calibration.scorer import ScorerName, fit_scorer
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.segments import sample_segments
from offline.data.units import Unit, UnitChoice, choose_units
from offline.extraction.extract import AllHeads, ExpertFeatures, Extracted, Extraction, extract
from offline.extraction.features import FeatureSet
from offline.extraction.model import (
    FRAMES,
    SAMPLED,
    ModelUse,
    choose_frame_size,
    fit_into_memory,
    load_model,
    segment_spec,
)
from offline.hunting.against_random import Comparison
from offline.hunting.chance import Chance, Trials, chance
from offline.hunting.deployment_noise import DeploymentNoise, Survival
from offline.hunting.depth import Trial, Units, depth_curve
from offline.hunting.evidence import Embedding, Evidence, write_evidence
from offline.hunting.hunt import Hunt, Selection, by_rss
from offline.hunting.learning_curve import learning_curve
from offline.hunting.sampling import SamplingPoint, sampling_curve
from offline.recipes.fitted_report import TEST_SPLIT, scored_videos, unsealed_manifest
from offline.report.compose import Material, compose
from offline.report.notes import bundle_notes, title_of
from offline.report.render import write

PARITY_SEGMENTS = 8
NOISE_SEGMENTS = 12
_NO_CURVES = (
    "AUC against depth and against the share of labels: they need validation videos with known event times, and a "
    "build without --no-depth-curve."
)
_NO_FRAMES_CURVE = (
    "AUC against how many frames of a segment the model sees: it needs such validation videos and a build with "
    "--frames-curve, which extracts features again with fewer frames."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Everything that decides what a build gives.

    Attributes:
        model: A Hugging Face id, a folder, or `reference`.
        manifest: The data.csv.
        output: The bundle's folder.
        precision: Of the exported graphs.
        provider: What runs them during the build; None for what suits the precision.
        force: Whether a precision that costs too much accuracy is taken all the same.
        prompts: The phrasings that are hunted under.
        prompt: The one to bake in; None for the best.
        top_k: How many experts.
        penalty: λ of RSS.
        max_layer: The deepest layer to hunt in; None for all.
        unit: What one calibration sample is.
        cache: Where features are kept; None for a folder beside the bundle.
        use: How the model is run.
        segment_frames: Frames of a segment.
        sampled: How many of them the model sees.
        stride: Frames from one segment to the next, for the locators and the edge; None where they do not overlap.
        scorer: The rule by which the scorer is fitted.
        seed: Of every draw.
        skip_unreadable: Whether videos that cannot be read are left out.
        overwrite: Whether a bundle that is there is replaced.
        chance: Whether the report says what the hunt owes to chance.
        depth_curve: Whether the report shows accuracy against depth and labels.
        deployment_noise: Whether the hunt counts what the precision does to each head; float32 does nothing.
        frames_curve: Whether it shows accuracy against sampled frames, for which features are extracted with half as
            many, a quarter and an eighth.
        reuse_unchanged: Grey levels up to which frames count as unchanged, to measure what reusing their tokens does;
            None measures nothing.
    """

    model: str
    manifest: Path
    output: Path
    precision: m.Precision = "fp32"
    provider: str | None = None
    force: bool = False
    prompts: tuple[Prompt, ...] = PROMPTS
    prompt: str | None = None
    top_k: int = 5
    penalty: float = 0.5
    max_layer: int | None = None
    unit: UnitChoice = "auto"
    cache: Path | None = None
    use: ModelUse = field(default_factory=ModelUse)
    segment_frames: int = FRAMES
    sampled: int = SAMPLED
    stride: int | None = None
    scorer: ScorerName = "logistic"
    seed: int = 0
    skip_unreadable: bool = False
    overwrite: bool = False
    chance: bool = True
    depth_curve: bool = True
    deployment_noise: bool = True
    frames_curve: bool = False
    reuse_unchanged: float | None = None

    @property
    def cache_folder(self) -> Path:
        """Where extracted features are kept, so that a killed build goes on where it was."""
        return self.target.with_name(self.target.name + ".cache") if self.cache is None else self.cache

    @property
    def target(self) -> Path:
        """`output` with a name of its own, for what stands beside it: `.` and `bundle/..` have none."""
        return Path(os.path.abspath(self.output))

    @property
    def selection(self) -> Selection:
        """How the experts are chosen."""
        return Selection(self.top_k, self.penalty, self.max_layer, self.prompt)

    @property
    def layers(self) -> int | None:
        """How many of the lowest layers are run; None for all."""
        return None if self.max_layer is None else self.max_layer + 1

    @property
    def command(self) -> str:
        """The command line that gives the same bundle again."""
        words = ["hh-offline", "build", "--model", self.model, "--manifest", str(self.manifest)]
        words += ["--output", str(self.output), "--precision", self.precision, "--seed", str(self.seed)]
        words += ["--top-k", str(self.top_k), "--penalty", str(self.penalty), "--calibration-unit", self.unit]
        if (self.segment_frames, self.sampled) != (FRAMES, SAMPLED):
            words += ["--segment-frames", str(self.segment_frames), "--sampled", str(self.sampled)]
        if self.stride is not None:
            words += ["--stride", str(self.stride)]
        if self.use.system_message is not None:
            words += ["--system-message", self.use.system_message]
        if self.use.dtype != "auto":
            words += ["--dtype", self.use.dtype]
        if self.max_layer is not None:
            words += ["--max-layer", str(self.max_layer)]
        if self.prompt is not None:
            words += ["--prompt", self.prompt]
        if self.provider is not None:
            words += ["--provider", self.provider]
        if self.scorer != "logistic":
            words += ["--scorer", self.scorer]
        if not self.chance:
            words += ["--no-chance"]
        if not self.deployment_noise:
            words += ["--no-deployment-noise"]
        if self.reuse_unchanged is not None:
            words += ["--reuse-unchanged", f"{self.reuse_unchanged:g}"]
        words += ["--force"] if self.force else []
        return shlex.join(words)


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What a build made and what it was made from.

    Attributes:
        bundle: The finished bundle.
        hunt: What the hunt found.
        fitted: Scorer and locators.
        parity: How far the graphs are from the model.
    """

    bundle: Bundle
    hunt: Hunt
    fitted: Fitted
    parity: Parity


@dataclass(frozen=True, slots=True, eq=False)
class BuildRun:
    """One build under way: what all its steps share.

    Attributes:
        options: What was asked for.
        console: Told of every step.
        dataset: The videos, as the manifest has them.
        mllm: The model.
        extraction: By all heads of the model.
        units: What one calibration sample is, by the video's name.
    """

    options: BuildOptions
    console: Console
    dataset: Dataset
    mllm: Mllm
    extraction: Extraction
    units: Mapping[str, Unit]

    @property
    def rule(self) -> ScorerRule:
        """By which scorers are fitted."""
        return ScorerRule(self.mllm.geometry.head_dim, self.options.scorer, self.options.seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Exported:
    """The graphs, with what they were compared on and what that gave."""

    deployed: Deployed
    hashes: tuple[str, ...]
    samples: NDArray[np.uint8]


def build(options: BuildOptions, console: Console) -> Built:
    """Run the whole method and write a bundle.

    Args:
        options: What to build, from what.
        console: Told of every step.

    Raises:
        HeadHuntError: Of many kinds. Nothing is at `options.output` then that was not there before, and what was
            extracted is found again by the next try.
    """
    run = _begin(options, console)
    calibration = _extract(run)
    readable = _without_unreadable(run.dataset, calibration)
    features = FeatureSet.of(calibration, options.prompts)
    with staging_folder(options.target) as work:
        selection, found, survival = _hunt(run, features, work)
        exported = _export(run, found, work)
        by_graphs = replace(run.extraction, extractor=ExpertFeatures(exported.deployed.graphs, exported.hashes))
        fitted = fit(readable, run.units, by_graphs, work, console, run.rule, options.stride)
        cost = _cost(run, found, calibration, fitted)
        document = _assemble(run, found, exported, fitted, work)
        reuse = _reuse(run, exported, fitted, work)
        document["parity"] |= {} if cost is None else cost.to_dict()
        document["parity"] |= {} if reuse is None else reuse.to_dict()
        evidence = _evidence(run, selection, found, features, fitted)
        evidence = replace(evidence, survival=survival)
        _report(run, evidence, readable, fitted, document, work)
        bundle = publish(work, options.target, document)
    return Built(bundle, found, fitted, exported.deployed.parity)


def _begin(options: BuildOptions, console: Console) -> BuildRun:
    """Refuse what can be refused before the long work, and load the model."""
    dataset = _check(options)
    console.say(f"Loading {options.model}")
    mllm = load_model(options.model, options.use, console)
    if remark := commercial_use(mllm.source.licence):
        console.say(f"note: the licence of {mllm.source.name}, {mllm.source.licence}, {remark}")
    segment = segment_spec(dataset, console, options.skip_unreadable, options.segment_frames, options.sampled)
    choose_frame_size(mllm, dataset, segment, options.skip_unreadable)
    store = EntryStore(options.cache_folder)
    demand = mllm.demand(options.prompts, segment, options.layers)
    fit_into_memory(mllm, demand, options.use, store.folder / "states", console)
    stored, loaded = PRECISIONS[options.precision].stored, mllm.dtype.itemsize
    least, most = (stored * size // loaded for size in (mllm.weights.size(mllm.vision), demand.whole))
    short_of_room = check_space(options.target, least, most)
    if short_of_room is not None:
        console.say(f"note: {short_of_room}")
    heads = AllHeads(mllm, options.prompts, segment, options.layers)
    extraction = Extraction(heads, mllm.pixels, segment, store, options.skip_unreadable)
    units = choose_units(dataset.split("calibration"), options.unit)
    return BuildRun(options, console, dataset, mllm, extraction, units)


def _check(options: BuildOptions) -> Dataset:
    if options.reuse_unchanged is not None:
        check_levels(options.reuse_unchanged)
    check_target(options.target, options.overwrite)
    if options.prompt is not None and options.prompt not in (names := [prompt.name for prompt in options.prompts]):
        raise UsageError(f"there is no prompt {options.prompt!r}; choose from {', '.join(names)}")
    if options.provider is not None and options.provider != AUTO:
        require_installed(options.provider)
    SegmentSpec(frames=options.segment_frames, sampled=options.sampled).striding(options.stride)
    dataset = read_dataset(options.manifest)
    dataset.require_both_classes("calibration")
    if not options.skip_unreadable:
        dataset.only("calibration", "validation").require_files()
    return dataset


def _extract(run: BuildRun) -> list[Extracted]:
    """Features of all heads of the calibration videos."""
    shown = run.extraction.segment.sampled
    with run.console.bar(f"Features of all heads, {shown} frames", "video") as progress:
        return extract(run.dataset.split("calibration"), run.units, run.extraction, progress)


def _without_unreadable(dataset: Dataset, calibration: list[Extracted]) -> Dataset:
    """What cannot be read was reported once, and nothing is fitted on it."""
    readable = {one.video.name for one in calibration}
    left = Dataset(dataset.path, tuple(v for v in dataset if v.split != "calibration" or v.name in readable))
    left.require_both_classes("calibration")
    return left


def _hunt(run: BuildRun, features: FeatureSet, work: Path) -> tuple[Selection, Hunt, Survival | None]:
    """How was hunted, what was found, and how all heads bear the precision where that was counted."""
    selection = run.options.selection
    found = _hunt_once(run, features, selection)
    survival = None
    if (noise := _noise(run, found.prompt, work)) is not None:
        without = found
        selection = replace(selection, noise=noise)
        found = _hunt_once(run, features, selection)
        survival = Survival(
            run.options.precision,
            noise.share,
            tuple(expert.ref for expert in without.experts),
            len(noise.errors),
            without.prompt,
        )
        for sentence in survival.sentences(found.experts):
            run.console.say(sentence)
    run.console.say(
        f"Experts {' '.join(f'({e.layer},{e.head})' for e in found.experts)}; prompt {found.prompt!r}; "
        f"{found.depth + 1} of {run.mllm.geometry.layers} layers will run"
    )
    return selection, found, survival


def _hunt_once(run: BuildRun, features: FeatureSet, selection: Selection) -> Hunt:
    title = "Hunting" if selection.noise is None else f"Hunting with the noise of {run.options.precision}"
    with run.console.bar(title, "head") as progress:
        return by_rss(features, selection, progress)


def _noise(run: BuildRun, asked: str, work: Path) -> DeploymentNoise | None:
    """What the precision does to each head under one prompt; None where it does nothing or is not looked at."""
    options, mllm, segment = run.options, run.mllm, run.extraction.segment
    if options.precision == "fp32" or not options.deployment_noise:
        return None
    if mllm.sweep.streams:
        # All layers in one graph: an engine would need the memory that the model itself has not got.
        run.console.say(
            f"{mllm.source.name} is larger than the memory: "
            f"what {options.precision} does to each head was not measured"
        )
        return None
    samples = sample_segments(
        run.dataset.only("calibration"), mllm.pixels, segment, NOISE_SEGMENTS, options.skip_unreadable
    )
    if len(samples) < 2:
        run.console.say(f"One segment is too few to measure what {options.precision} does to each head")
        return None
    geometry = mllm.geometry
    layers = options.layers or geometry.layers
    heads = [HeadRef(layer, head) for layer in range(layers) for head in range(geometry.heads)]
    prompt = next(prompt for prompt in options.prompts if prompt.name == asked)
    run.console.say(f"Exporting all heads in {options.precision}, to measure what that does to each")
    # Within the folder that goes when the build ends, however it ends.
    folder = Path(tempfile.mkdtemp(dir=work))
    try:
        job = Deployment(mllm, prompt, heads, segment, samples, folder, _provider(options))
        both = features_of_both(job, options.precision, run.console.say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    exact, deployed = (one.reshape(len(samples), layers, geometry.heads, geometry.head_dim) for one in both)
    return DeploymentNoise.of(exact, deployed)


def _provider(options: BuildOptions) -> str:
    """What runs the graphs during the build."""
    chosen = options.provider
    return builder(options.precision) if chosen is None or chosen == AUTO else chosen


def _export(run: BuildRun, found: Hunt, work: Path) -> _Exported:
    """The graphs, compared with the model on real segments."""
    options, mllm, segment = run.options, run.mllm, run.extraction.segment
    provider = _provider(options)
    run.console.say(f"Exporting the graphs in {options.precision}, run on {provider}")
    videos = run.dataset.only("calibration", "validation")
    samples = sample_segments(videos, mllm.pixels, segment, PARITY_SEGMENTS, options.skip_unreadable)
    experts = [expert.ref for expert in found.experts]
    job = Deployment(mllm, _prompt(run, found), experts, segment, samples, work, provider)
    deployed = deploy(job, options.precision, run.console.say)
    parity = deployed.parity
    run.console.say(f"Parity on {parity.segments} segments: {parity.relative:.2g} of the features' scale")
    hashes = tuple(sha256(work / name) for name in sorted(SCORING))
    return _Exported(deployed, hashes, samples)


def _cost(run: BuildRun, found: Hunt, calibration: list[Extracted], fitted: Fitted) -> Cost | None:
    """What the precision costs, against the model's own features; None for float32, whose parity says it.

    Raises:
        ParityError: More than is allowed.
    """
    options = run.options
    if options.precision == "fp32":
        return None
    run.mllm.to(choose_device(options.use.device))
    prompt = found.prompts.index(found.prompt)
    validation = _validation(run, striding(run.extraction, options.stride)) if fitted.validation_units else []
    model = ModelFeatures.of(calibration, validation, prompt, [expert.ref for expert in found.experts])
    cost = measure_cost(model, fitted, len(found.experts), run.rule)
    run.console.say(f"Cost of {options.precision}: {cost}")
    require_bearable(cost, options.precision, options.force)
    return cost


def _reuse(run: BuildRun, exported: _Exported, fitted: Fitted, work: Path) -> ReuseCost | None:
    """What reusing tokens of unchanged frames does; None where it was not asked for or cannot be judged."""
    levels = run.options.reuse_unchanged
    if levels is None:
        return None
    if not fitted.validation_units:
        run.console.say("No validation videos with temporal annotations: --reuse-unchanged was not measured.")
        return None
    reuse = Reuse(exported.deployed.graphs, ScorerGraph(work / SCORER), run.mllm.frames_per_group, levels)
    with run.console.bar("Scores with reused tokens", "video") as progress:
        extraction = striding(run.extraction, run.options.stride)
        cost = measure_reuse(fitted, extraction, reuse, run.options.seed, progress)
    run.console.say(f"Frames that differ by at most {levels:g} grey levels: {cost}")
    return cost


def _prompt(run: BuildRun, found: Hunt) -> Prompt:
    return next(prompt for prompt in run.options.prompts if prompt.name == found.prompt)


def _assemble(run: BuildRun, found: Hunt, exported: _Exported, fitted: Fitted, work: Path) -> dict[str, Any]:
    """Write the golden segments; returns the manifest without `files` and `bundle_id`, as plain values."""
    write_golden(work, _golden(exported, ScorerGraph(work / SCORER)))
    prompt, geometry = _prompt(run, found), run.mllm.geometry
    return {
        "schema_version": m.SCHEMA_VERSION,
        "created": now(),
        "producer": producer() | {"provider": exported.deployed.graphs.provider, RULE: run.options.scorer},
        "source_model": _source(run),
        "prompt": {"name": prompt.name, "text": prompt.text},
        "experts": [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts],
        "geometry": {
            "layers": geometry.layers,
            "heads": geometry.heads,
            "head_dim": geometry.head_dim,
            "width": geometry.width,
        },
        "segment": msgspec.to_builtins(run.extraction.segment.striding(run.options.stride)),
        "pixels": msgspec.to_builtins(run.extraction.pixels),
        "graphs": {
            "vision": _graph(work / VISION, exported.deployed.vision),
            "language": _graph(work / LANGUAGE, exported.deployed.language),
            "growing": _graph(work / GROWING, exported.deployed.language) | {"ends": exported.deployed.ends},
        },
        "parity": exported.deployed.parity.to_dict() | {"scorer_max_abs": fitted.scorer_difference},
    } | fitted_document(fitted)


def _source(run: BuildRun) -> dict[str, Any]:
    """Where the weights came from, and how they were asked."""
    said = run.mllm.said_before
    return (
        asdict(run.mllm.source)
        | {"dtype": dtype_name(run.mllm.dtype)}
        | ({} if said is None else {"system_message": said})
    )


def _golden(exported: _Exported, scorer: ScorerGraph) -> Golden:
    """What the first two samples give, for the edge's self-test."""
    graphs, samples = exported.deployed.graphs, exported.samples
    frames = samples[:2] if len(samples) > 1 else np.concatenate([samples, samples])
    tokens = np.concatenate([graphs.tokens(one[None]) for one in frames])
    features = np.concatenate([graphs.language(one[None]) for one in tokens])
    probabilities = np.concatenate([scorer.probabilities(one[None]) for one in features])
    return Golden(frames, tokens, features, probabilities)


def _graph(path: Path, rounded: Rounded) -> dict[str, Any]:
    inputs, outputs = tensor_specs(path)
    return {
        "file": path.name,
        "precision": rounded.precision,
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
    } | ({"kept": list(rounded.kept)} if rounded.kept else {})


def _evidence(run: BuildRun, selection: Selection, found: Hunt, features: FeatureSet, fitted: Fitted) -> Evidence:
    """What reports show of the hunt: its maps, and accuracy against depth and labels where that can be judged."""
    options, console = run.options, run.console
    hunted = Evidence(found, Embedding.of(found, features), chance=_chance(run, selection, found, features))
    if not ((options.depth_curve or options.frames_curve) and fitted.validation_units):
        return hunted
    run.mllm.to(choose_device(options.use.device))
    validation = _validation(run, run.extraction)
    if not validation:
        return hunted

    # Curves compare depths and amounts of labels, by the paper's rule whatever that of the bundle is.
    def fit_one(samples: Any, labels: Any) -> Any:
        return fit_scorer(samples, labels, options.seed)

    trial = Trial(features, Units.of(validation), fit_one)
    evidence = hunted
    if options.depth_curve:
        with console.bar("AUC against depth", "depth") as progress:
            depth = depth_curve(found, trial, decoder_layers=run.mllm.geometry.layers, progress=progress)
        learned = learning_curve(trial, selection, options.seed)
        evidence = replace(evidence, depth=tuple(depth), learned=learned)
    if options.frames_curve:
        evidence = replace(evidence, sampling=tuple(_sampling(run, trial)))
    return evidence


def _chance(run: BuildRun, selection: Selection, found: Hunt, features: FeatureSet) -> Chance | None:
    """Whether the heads know anything and the hunt pays, by the paper's scorer; None where it was not asked for."""
    if not run.options.chance:
        return None
    trials = Trials(comparison=Comparison(seed=run.options.seed))
    with run.console.bar("Hunted against chance", "head") as progress:
        known = chance(features, found, selection, fit_scorer, trials, progress)
    for sentence in known.sentences:
        run.console.say(sentence)
    return known


def _validation(run: BuildRun, extraction: Extraction) -> list[Extracted]:
    """Features of all heads of the validation videos whose times are known."""
    judged = timed(run.dataset.split("validation"))
    shown = extraction.segment.sampled
    with run.console.bar(f"Features of all heads, validation, {shown} frames", "video") as progress:
        return extract(judged, choose_units(judged, "segment"), extraction, progress)


def _sampling(run: BuildRun, trial: Trial) -> list[SamplingPoint]:
    """Accuracy against sampled frames: all of it again with fewer."""
    options, segment, group = run.options, run.extraction.segment, run.mllm.frames_per_group

    def with_frames(sampled: int) -> Trial:
        fewer = msgspec.structs.replace(segment, sampled=sampled)
        heads = AllHeads(run.mllm, options.prompts, fewer, options.layers)
        again = replace(run, extraction=replace(run.extraction, extractor=heads, segment=fewer))
        calibration = FeatureSet.of(_extract(again), options.prompts)
        return replace(trial, calibration=calibration, validation=Units.of(_validation(run, again.extraction)))

    return sampling_curve(segment.sampled, trial, with_frames, group, options.selection)


def _report(
    run: BuildRun, evidence: Evidence, dataset: Dataset, fitted: Fitted, document: dict[str, Any], work: Path
) -> None:
    """Write `report.html` into the bundle, and keep what was hunted, for later reports of this bundle."""
    run.console.say("Writing the report")
    manifest, store = unsealed_manifest(document, work), run.extraction.store
    write_evidence(store, manifest, evidence)
    material = Material(
        title=f"{title_of(run.options.manifest)}: what {manifest.source_model.name} sees",
        manifest=manifest,
        scored=scored_videos(fitted),
        calibration=dataset.split("calibration"),
        evidence=evidence,
        notes=bundle_notes(manifest, judged_on_test=False),
        absent=(
            TEST_SPLIT,
            *(() if evidence.depth else (_NO_CURVES,)),
            *(() if evidence.sampling else (_NO_FRAMES_CURVE,)),
        ),
        commands=(run.options.command,),
    )
    write(compose(material, store, run.console), work / m.REPORT)
