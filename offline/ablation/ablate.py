"""The paper's ablation table, and what the paper leaves out, on any manifest, from one extraction.

After the rows are fitted, videos are scored one by one: the features of all heads of a whole dataset need not fit
into memory.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_runtime.errors import DatasetError, UsageError
from models.family import Mllm
from models.prompts import PROMPTS, Prompt
from offline.ablation.judge import LEVEL, Judge
from offline.ablation.peers import (
    baseline_rows,
    ceiling_rows,
    segment_scores,
    textual_method,
    textual_scores,
    token_rows,
)
from offline.ablation.result import Ablation, Row
from offline.ablation.rows import FULL, Method, head_methods
from offline.ablation.textual import Speaker, TextualAnswer
from offline.calibration.visual import TokenScorers
from offline.console import Console
from offline.data.cache import EntryStore, open_store, spill_folder
from offline.data.dataset import Dataset, Split, Video, read_dataset
from offline.data.scores import VideoScores
from offline.data.tasks import HandOut
from offline.data.units import Unit, UnitChoice, choose_units
from offline.data.video_cache import VideoCache
from offline.evaluation.bootstrap import Interval
from offline.evaluation.figures import class_of
from offline.evaluation.trivial import Measuring, measure_baselines
from offline.evaluation.verdict import TOKENS_ALONE, Rival, language_verdict
from offline.evaluation.yardsticks import Series
from offline.extraction.executors import Execution, Executor, executor_of, hand_out, open_pool
from offline.extraction.extract import AllHeads, Extracted, Extraction, Extractor, extract
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
from offline.extraction.visual import ModelTokens
from offline.extraction.workers import ModelRecipe
from offline.hunting.hunt import Hunt, Selection, by_rss

if TYPE_CHECKING:
    from offline.extraction.ray_pool import RayPool

BOOTSTRAP_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AblateOptions:
    """Everything that decides what an ablation gives.

    Attributes:
        model: A Hugging Face id, a folder, or `reference`.
        manifest: The data.csv.
        split: The videos to judge on.
        prompts: The phrasings that are hunted under.
        top_k: How many experts.
        penalty: λ of RSS.
        draws: How often random heads are drawn.
        unseen: Kinds of anomaly (as `class_of` names them) on which every row's AUC is given apart.
        unit: What one calibration sample is.
        cache: Where features are kept; without it nothing is.
        use: How the model is run.
        segment_frames: Frames of a segment.
        sampled: How many of them the model sees.
        seed: Of every draw.
        skip_unreadable: Whether videos that cannot be read are left out.
        execution: Who extracts features.
        video_cache: Where remote videos are kept while they are read.
    """

    model: str
    manifest: Path
    split: Split = "test"
    prompts: tuple[Prompt, ...] = PROMPTS
    top_k: int = 5
    penalty: float = 0.5
    draws: int = 20
    unseen: tuple[str, ...] = ()
    unit: UnitChoice = "auto"
    cache: Path | None = None
    use: ModelUse = field(default_factory=ModelUse)
    segment_frames: int = FRAMES
    sampled: int = SAMPLED
    seed: int = 0
    skip_unreadable: bool = False
    execution: Execution = field(default_factory=Execution)
    video_cache: VideoCache = field(default_factory=VideoCache)

    def __post_init__(self) -> None:
        if self.split == "calibration":
            raise UsageError("the rows are fitted on the calibration split, so it can judge none; use another split")
        if self.draws < 1:
            raise UsageError(f"{self.draws} draws of random heads; at least one is needed")
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise UsageError(f"penalty {self.penalty} is out of range; expected a finite number >= 0")


def ablate(options: AblateOptions, console: Console) -> Ablation:
    """Fit all rows on the calibration split, calibrate each on the validation split, judge them on `split`.

    With a cache, a killed run finds what it had extracted, and so do `build` and another ablation.

    Raises:
        HeadHuntError: Of many kinds; what can be refused is refused before the long work.
    """
    dataset = _check(options)
    with open_pool(options.execution, console) as pool:
        return _ablate(options, dataset, pool, console)


def _ablate(options: AblateOptions, dataset: Dataset, pool: RayPool | None, console: Console) -> Ablation:
    console.say(f"Loading {options.model}")
    mllm = load_model(options.model, options.use, console)
    geometry = mllm.geometry
    if options.top_k > geometry.layers * geometry.heads:
        raise UsageError(
            f"{options.top_k} experts were asked for, but the model has {geometry.layers * geometry.heads} heads"
        )
    segment = segment_spec(dataset, console, options.skip_unreadable, options.segment_frames, options.sampled)
    choose_frame_size(mllm, dataset, segment, options.skip_unreadable)
    with _store(options.cache) as store:
        if pool is None:
            demand, spill = mllm.demand(options.prompts, segment), spill_folder(store.folder)
            fit_into_memory(mllm, demand, options.use, spill, console)
        heads = AllHeads(mllm, options.prompts, segment)
        extraction = Extraction(heads, mllm.pixels, segment, store, options.skip_unreadable)
        recipe = ModelRecipe.of(mllm, options.model, options.use, options.prompts, segment)
        workers = _Workers(executor_of(pool, recipe), hand_out(pool, recipe))
        work = _Work(options, mllm, extraction, console, workers)
        calibration = work.calibration(dataset)
        features = FeatureSet.of(calibration, options.prompts)
        found = work.hunt(features)
        console.say("Fitting the rows")
        methods = head_methods(features, found, options.draws, options.seed)

        scores, readable = work.score_heads(methods, _to_score(dataset, options.split))
        dataset = Dataset(dataset.path, (*(one.video for one in calibration), *readable))
        _require_splits(dataset, options)
        validation = [video for video in dataset.split("validation") if video.timed]
        judged = list(dataset.split(options.split))

        rows = [(method, scores[method.name]) for method in methods]
        rows += work.tokens(calibration, readable)
        rows.append(work.textual(readable))
        rows += work.baselines(dataset.split("calibration"), validation, judged)
        rows += ceiling_rows((*validation, *judged), scores[FULL][FULL])

    judge = Judge(validation, judged, unseen=options.unseen, draws=BOOTSTRAP_DRAWS, seed=options.seed)
    results = []
    with console.bar("Judging", "row") as progress:
        for done, (method, candidates) in enumerate(rows):
            progress(done, len(rows), method.name)
            results.append(judge.row(method, candidates))
        progress(len(rows), len(rows))
    return Ablation(
        run=_run(options, mllm, found, features, validation, judged),
        unseen=options.unseen,
        rows=tuple(results),
        notes=(*_notes(options, validation, judged), *_verdict(results)),
    )


class _Workers(NamedTuple):
    """Who computes features, and who measures videos without a model; None for this process."""

    executor: Executor
    hand_out: HandOut | None


class _Work:
    """The steps that read videos, with what they share."""

    def __init__(
        self, options: AblateOptions, mllm: Mllm, extraction: Extraction, console: Console, workers: _Workers
    ) -> None:
        self._options, self._mllm, self._extraction, self._console = options, mllm, extraction, console
        self._executor, self._hand_out = workers

    def calibration(self, dataset: Dataset) -> list[Extracted]:
        """Extract the features of the calibration videos, in the units that a build would use."""
        videos = dataset.split("calibration")
        with self._console.bar("Features of all heads, calibration", "video") as progress:
            units = choose_units(videos, self._options.unit)
            stored = self._executor.prepare(videos.videos, units, self._extraction, progress)
            extracted = extract(videos, units, self._extraction, progress, stored)
        Dataset(dataset.path, tuple(one.video for one in extracted)).require_both_classes("calibration")
        return extracted

    def hunt(self, features: FeatureSet) -> Hunt:
        """Run the full method's hunt, in all layers."""
        with self._console.bar("Hunting", "head") as progress:
            return by_rss(features, Selection(self._options.top_k, self._options.penalty), progress)

    def score_heads(
        self, methods: Sequence[Method], videos: Sequence[Video]
    ) -> tuple[dict[str, dict[str, Series]], list[Video]]:
        """Score videos by row, candidate and name, and list those that could be read."""
        scores: dict[str, dict[str, dict[str, VideoScores]]] = {
            method.name: {name: {} for name in method.probes} for method in methods
        }
        readable = []
        for one in self._one_by_one(self._extraction.extractor, videos, "Scoring with all rows"):
            readable.append(one.video)
            for method in methods:
                for name, probe in method.probes.items():
                    scores[method.name][name][one.video.name] = segment_scores(one, probe.probabilities(one.features))
        return {row: dict(candidates) for row, candidates in scores.items()}, readable

    def tokens(
        self, calibration: Sequence[Extracted], videos: Sequence[Video]
    ) -> list[tuple[Method, dict[str, Series]]]:
        """Make the rows of the visual tokens alone, fitted on the same units of the calibration videos."""
        extractor = ModelTokens(self._mllm)
        units = {one.video.name: one.unit for one in calibration}
        with self._console.bar("Visual tokens alone, calibration", "video") as progress:
            extraction = replace(self._extraction, extractor=extractor)
            videos_known = [one.video for one in calibration]
            stored = self._executor.prepare(videos_known, units, extraction, progress)
            known = extract(videos_known, units, extraction, progress, stored)
        scorers = TokenScorers.fit(known, self._options.seed)
        found = self._one_by_one(extractor, videos, "Visual tokens alone")
        return token_rows([scorers.scores_of(one) for one in found])

    def textual(self, videos: Sequence[Video]) -> tuple[Method, dict[str, Series]]:
        """Make the row of the model's own words, or say why there is none."""
        if not isinstance(self._mllm, Speaker):
            return textual_method("this model's family cannot be asked for its first answer token"), {}
        try:
            asked = TextualAnswer(self._mllm, self._options.prompts, self._extraction.segment)
        except ValueError as error:
            return textual_method(str(error)), {}
        answers = list(self._one_by_one(asked, videos, "Asking the model"))
        return textual_method(), textual_scores(answers, [prompt.name for prompt in asked.prompts])

    def baselines(
        self, calibration: Dataset, validation: Sequence[Video], judged: Sequence[Video]
    ) -> list[tuple[Method, dict[str, Series]]]:
        """Make the rows of the trivial baselines."""
        videos = {video.name: video for video in (*validation, *judged)}
        frames, store = self._extraction.segment.frames, self._extraction.store
        measuring = Measuring(frames, self._options.unit, store, self._hand_out)
        measured = measure_baselines(list(videos.values()), calibration, self._console, measuring)
        return baseline_rows(validation, measured)

    def _one_by_one(self, extractor: Extractor, videos: Sequence[Video], title: str) -> Iterator[Extracted]:
        """The segments of every readable video, of which only one is in memory."""
        extraction = replace(self._extraction, extractor=extractor)
        units: dict[str, Unit] = {video.name: "segment" for video in videos}
        with self._console.bar(title, "video") as progress:
            stored = self._executor.prepare(videos, units, extraction, progress)
            for number, video in enumerate(videos):
                progress(number, len(videos), video.name)
                yield from extract([video], units, extraction, stored=stored)
            progress(len(videos), len(videos))


@contextmanager
def _store(cache: Path | None) -> Iterator[EntryStore]:
    if cache is not None:
        yield open_store(cache)
        return
    with tempfile.TemporaryDirectory(prefix="hh-ablate-") as folder:
        yield EntryStore(Path(folder))


def _check(options: AblateOptions) -> Dataset:
    """Everything that can be refused before a model is loaded. Returns the dataset."""
    dataset = read_dataset(options.manifest, options.video_cache)
    _require_splits(dataset, options)
    choose_units(dataset.split("calibration"), options.unit)
    if not options.skip_unreadable:
        used = (*dataset.split("calibration"), *_to_score(dataset, options.split))
        Dataset(dataset.path, used).require_files()
    return dataset


def _require_splits(dataset: Dataset, options: AblateOptions) -> None:
    """DatasetError where a split cannot do its work, UsageError for kinds of anomaly that are not there."""
    for split in ("calibration", options.split):
        dataset.require_both_classes(split)
    for split, use in (("validation", "smoothing and thresholds are calibrated"), (options.split, "rows are judged")):
        timed = [video for video in dataset.split(split) if video.timed]
        if not any(video.anomalous for video in timed):
            raise DatasetError(
                f"{dataset.path}: split {split!r} has no anomalous video whose events have times, and {use} on it; "
                "give their events, or move such videos there"
            )
        if all(video.anomalous and _covered(video) for video in timed):
            raise DatasetError(
                f"{dataset.path}: split {split!r} has no normal frame, and {use} on it; add a normal video"
            )
    kinds = sorted({class_of(video) for video in dataset.split(options.split) if video.anomalous and video.timed})
    for kind in options.unseen:
        if kind not in kinds:
            raise UsageError(
                f"no video with known times in split {options.split!r} shows {kind!r}; there are {', '.join(kinds)}"
            )


def _covered(video: Video) -> bool:
    """Whether the events leave no normal frame, as far as the manifest tells."""
    return video.frames is not None and sum(end - start for start, end in video.events) == video.frames


def _to_score(dataset: Dataset, split: Split) -> list[Video]:
    """Validation videos with known times, and the judged split; each once."""
    videos = {video.name: video for video in dataset.split("validation") if video.timed}
    return list((videos | {video.name: video for video in dataset.split(split)}).values())


def _run(
    options: AblateOptions,
    mllm: Mllm,
    found: Hunt,
    features: FeatureSet,
    validation: Sequence[Video],
    judged: Sequence[Video],
) -> dict[str, object]:
    return {
        "model": asdict(mllm.source),
        "manifest": str(options.manifest),
        "split": options.split,
        "prompts": {prompt.name: prompt.text for prompt in options.prompts},
        "prompt": found.prompt,
        "experts": [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts],
        "top_k": options.top_k,
        "penalty": options.penalty,
        "draws": options.draws,
        "seed": options.seed,
        "intervals": {"over": "videos", "draws": BOOTSTRAP_DRAWS, "level": LEVEL},
        "calibration": {
            "unit": options.unit,
            "videos": len(set(features.videos)),
            "samples": len(features.labels),
            "anomalous": int(features.labels.sum()),
        },
        "validation": {"videos": len(validation), "anomalous": sum(video.anomalous for video in validation)},
        "judged": {
            "videos": len(judged),
            "anomalous": sum(video.anomalous for video in judged),
            "untimed": [video.name for video in judged if not video.timed],
        },
    }


def _verdict(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the language model adds to the visual tokens: one sentence, or none where that is undefined."""
    of = {row.name: row for row in rows}
    rivals = {}
    for name in TOKENS_ALONE:
        auc, difference = of[name].auc, of[name].difference
        minus = None
        if difference is not None and difference.low is not None and difference.high is not None:
            # A row's difference is itself minus the full method.
            minus = Interval(-difference.high, -difference.low, BOOTSTRAP_DRAWS)
        rivals[name] = Rival(None if auc is None else auc.value, minus)
    full = of[FULL].auc
    sentence = language_verdict(None if full is None else full.value, rivals)
    return () if sentence is None else (sentence,)


def _notes(options: AblateOptions, validation: Sequence[Video], judged: Sequence[Video]) -> tuple[str, ...]:
    notes = [
        f"Frame figures of smoothed scores on split {options.split!r} ({len(judged)} videos, "
        f"{sum(video.anomalous for video in judged)} anomalous). Every row has smoothing and threshold of its own, "
        f"calibrated on {len(validation)} validation videos, except where it says otherwise.",
        f"[low, high]: {LEVEL:.0%} bootstrap interval over videos, {BOOTSTRAP_DRAWS} draws, the same for all rows; "
        "differences are paired. Heads, scorers and locators stay as they are in it. ±: standard deviation over "
        "draws of heads.",
        "Scorers are fitted on the features of the torch model. What runs on the edge is fitted on the exported "
        "graphs' features, which differ at the level of rounding.",
    ]
    if untimed := [video.name for video in judged if not video.timed]:
        notes.append(f"Left out, timing unknown: {len(untimed)} videos ({', '.join(untimed[:5])}).")
    if options.split == "validation":
        notes.append("These are the videos that the locators were calibrated on: the figures are favourable.")
    return tuple(notes)
