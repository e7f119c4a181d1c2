"""The ablation: the full method is what a build fits, a planted head wins, and no row makes a number up."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.stream.segments import SegmentSpec
from models.families.internvl import InternVL
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from offline.ablation.ablate import AblateOptions, ablate
from offline.ablation.judge import Judge
from offline.ablation.peers import squashed, textual_method
from offline.ablation.result import Ablation, Figure
from offline.ablation.rows import FULL, Method, Probe, head_methods
from offline.calibration.locator import ScoredVideo, calibrate
from offline.calibration.scorer import fit_scorer
from offline.cli import cli
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Video, read_dataset
from offline.data.scores import VideoScores
from offline.data.segments import read_segments
from offline.evaluation.baselines import MEASURES, measure, scores_of
from offline.evaluation.bootstrap import Resampling
from offline.evaluation.figures import evaluate_scores
from offline.evaluation.verdict import TOKENS_MEAN, TOKENS_SPREAD
from offline.evaluation.yardsticks import PERFECT_SEGMENTS, PERFECT_SHARES
from offline.extraction.extract import AllHeads, Extracted, Extraction, extract
from offline.extraction.features import FeatureSet, read_heads
from offline.extraction.model import ModelUse
from offline.hunting.hunt import Selection, hunt

# The coarse and the detailed one, by which rows of their own go.
TWO = (PROMPTS[0], PROMPTS[-1])
QUIET = Console(quiet=True)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The model is so small that threads only wait for each other, for a minute on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ablated") / "model", Shape())


@pytest.fixture(scope="module")
def options(model: Path, dataset_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> AblateOptions:
    return AblateOptions(
        model=str(model),
        manifest=dataset_csv,
        prompts=TWO,
        top_k=3,
        draws=3,
        unseen=("test",),
        cache=tmp_path_factory.mktemp("ablated") / "cache",
        use=ModelUse(device="cpu"),
    )


@pytest.fixture(scope="module")
def ablation(options: AblateOptions) -> Ablation:
    return ablate(options, QUIET)


def test_full_row_is_what_a_build_would_fit(ablation: Ablation, options: AblateOptions) -> None:
    """The same figures from the parts of a build, put together by hand."""
    mllm = load(options.model, "cpu")
    dataset = read_dataset(options.manifest)
    segment = SegmentSpec(frames=48, sampled=16, fps=15.0)
    units = {video.name: "segment" for video in dataset}
    assert options.cache is not None
    extracted = {
        one.video.name: one
        for one in extract(
            dataset, units, Extraction(AllHeads(mllm, TWO, segment), mllm.pixels, segment, EntryStore(options.cache))
        )
    }
    calibration = FeatureSet.of([extracted[video.name] for video in dataset.split("calibration")], TWO)
    found = hunt(calibration.features, calibration.labels, calibration.prompts, Selection(top_k=3))
    assert ablation.run["experts"] == [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts]

    def experts(features: np.ndarray) -> np.ndarray:
        m = found.prompts.index(found.prompt)
        return np.concatenate([features[:, m, e.layer, e.head] for e in found.experts], axis=1)

    scorer = fit_scorer(experts(calibration.features), calibration.labels)

    def scored(one: Extracted) -> VideoScores:
        values = scorer.predict_proba(experts(one.features))[:, 1].tolist()
        spans = one.spans.tolist()
        return VideoScores(one.video.name, one.frames, tuple((*s, v) for s, v in zip(spans, values, strict=True)))

    scores = {name: scored(one) for name, one in extracted.items()}
    locator = calibrate([ScoredVideo.of(v, scores[v.name]) for v in dataset.split("validation")]).full
    smoothed = {name: one.smoothed(locator.sigma, locator.lookahead) for name, one in scores.items()}
    judged = evaluate_scores(
        dataset.split("test"),
        scores,
        smoothed,
        thresholds={"full": locator.threshold},
        resampling=Resampling(draws=1000),
    )
    series, row = judged.series["smoothed"], ablation[FULL]
    assert (row.sigma, row.threshold) == (locator.sigma, locator.threshold)
    assert row.auc is not None
    assert row.ap is not None
    assert row.f1 is not None
    assert row.auc == Figure.of(series.auc, series.intervals["auc"])
    assert row.ap == Figure.of(series.pr_auc_trapezoid, series.intervals["pr_auc_trapezoid"])
    assert series.f1["full"] is not None
    assert row.f1.value == series.f1["full"].f1
    assert row.raw_auc == judged.series["raw"].auc
    assert row.heads == tuple(expert.ref for expert in found.experts)


def test_rows_that_share_the_full_scorer_share_its_ranking(ablation: Ablation) -> None:
    full = ablation[FULL]
    for threshold in ("0.25", "0.50", "0.75"):
        row = ablation[f"fixed threshold {threshold}"]
        assert (row.auc, row.ap, row.threshold) == (full.auc, full.ap, float(threshold))
        assert row.difference is not None
        assert row.difference.value == row.difference.low == row.difference.high == 0
    unsmoothed = ablation["without smoothing"].auc
    assert unsmoothed is not None
    assert unsmoothed.value == full.raw_auc


def test_every_row_is_there_with_figures(ablation: Ablation) -> None:
    names = [row.name for row in ablation.rows]
    assert len(names) == len(set(names)) == 29
    for row in ablation.rows:
        assert row.reason is None
        for figure in (row.auc, row.ap, row.f1, row.unseen):
            assert figure is not None
            assert figure.value is not None
            assert 0 <= figure.value <= 1
    # Here every anomalous test video is of the one kind that was asked for.
    assert ablation[FULL].unseen == ablation[FULL].auc
    assert len(ablation["random 3 heads"].candidates) == 3
    layers = ablation["best single layer"]
    best = max(layers.candidates, key=lambda one: -1.0 if one.validation_auc is None else one.validation_auc)
    assert layers.chosen == best.name


def test_shown_everywhere_without_nan(ablation: Ablation) -> None:
    content = json.loads(json.dumps(ablation.to_dict(), allow_nan=False))
    assert [row["name"] for row in content["rows"]] == [row.name for row in ablation.rows]
    table, text = ablation.table(), ablation.to_text()
    for row, shown in zip(ablation.rows, table.rows, strict=True):
        assert shown[0] == row.name
        assert row.auc is not None
        assert shown[1] == row.auc.text()
        assert row.auc.text() in text


def test_second_run_asks_no_model_and_finds_the_same(
    ablation: Ablation, options: AblateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the features are in the cache")

    for name in ("head_features", "segment_tokens", "first_token_logits"):
        monkeypatch.setattr(InternVL, name, refuse)
    assert ablate(options, QUIET).to_dict() == ablation.to_dict()


def test_baselines_keep_their_own_ranking(ablation: Ablation, options: AblateOptions) -> None:
    videos = list(read_dataset(options.manifest).split("test"))
    for name in MEASURES:
        raw = {video.name: scores_of(measure(video.path, video.name), name) for video in videos}
        assert (
            ablation[name].raw_auc == evaluate_scores(videos, raw, resampling=Resampling(draws=0)).series["raw"].auc
        )


def test_visual_tokens_alone_are_fitted_as_the_scorer_is(ablation: Ablation, options: AblateOptions) -> None:
    """The same figures from transformers' own tokens and the scorer's own fit, put together by hand."""
    mllm = load(options.model, "cpu")
    assert isinstance(mllm, InternVL)
    dataset = read_dataset(options.manifest)

    def statistics(video: Video) -> np.ndarray:
        segments = read_segments(video.path, mllm.pixels, SegmentSpec(frames=48, sampled=16, fps=15.0))
        tokens = [mllm.visual_tokens(one.pixels).flatten(0, 1).double().numpy() for one in segments]
        return np.array([[one.mean(axis=0), one.std(axis=0)] for one in tokens])

    calibration = list(dataset.split("calibration"))
    known = [statistics(video) for video in calibration]
    labels = [
        video.overlaps(48 * n, min(48 * n + 48, video.frames or 0))
        for video, of in zip(calibration, known, strict=True)
        for n in range(len(of))
    ]
    test = list(dataset.split("test"))
    judged = [statistics(video) for video in test]
    for row, rows in ((TOKENS_MEAN, slice(0, 1)), (TOKENS_SPREAD, slice(0, 2))):
        scorer = fit_scorer(np.concatenate(known)[:, rows].reshape(len(labels), -1), np.array(labels))
        scores = {
            video.name: VideoScores.of_segments(
                video.name,
                video.frames or 0,
                [(48 * n, min(48 * n + 48, video.frames or 0)) for n in range(len(of))],
                scorer.predict_proba(of[:, rows].reshape(len(of), -1).astype(np.float32))[:, 1],
            )
            for video, of in zip(test, judged, strict=True)
        }
        wanted = evaluate_scores(test, scores, resampling=Resampling(draws=0)).series["raw"].auc
        assert ablation[row].raw_auc == pytest.approx(wanted, abs=1e-9)
        assert ablation[row].group == "further"


def test_a_sentence_compares_the_full_method_with_the_better_of_the_two(ablation: Ablation) -> None:
    full, rows = ablation[FULL].auc, [ablation[TOKENS_MEAN], ablation[TOKENS_SPREAD]]
    assert full is not None
    assert full.value is not None
    best = max(row.auc.value for row in rows if row.auc is not None and row.auc.value is not None)
    sentence = ablation.notes[-1]
    assert sentence in ablation.to_text()
    assert "on these data" in sentence or sentence.startswith("The language model adds ")
    if full.value <= best:
        assert sentence == (
            f"The language model adds nothing on these data: visual tokens alone reach AUC {best:.3f}, the method "
            f"{full.value:.3f}."
        )
    else:
        assert f"{full.value - best:.3f} [" in sentence


def test_no_row_beats_what_the_segments_allow(ablation: Ablation) -> None:
    shares, segments = ablation[PERFECT_SHARES], ablation[PERFECT_SEGMENTS]
    assert {row.name for row in ablation.rows if row.group == "ceiling"} == {PERFECT_SHARES, PERFECT_SEGMENTS}
    assert shares.auc is not None
    assert shares.auc.value is not None
    for row in ablation.rows:
        assert row.auc is not None
        assert row.auc.value is not None
        assert row.auc.value <= shares.auc.value + 1e-12
    assert (shares.raw_auc, shares.sigma) == (shares.auc.value, 0.0)
    assert segments.raw_auc is not None
    assert segments.raw_auc > 0.5


def test_whole_videos_as_calibration_samples(options: AblateOptions) -> None:
    result = ablate(replace(options, unit="video", draws=1), QUIET)
    videos = len(read_dataset(options.manifest).split("calibration"))
    assert result.run["calibration"]["unit"] == "video"
    assert result.run["calibration"]["samples"] == result.run["calibration"]["videos"] == videos


# --- a planted head ---


def _videos(rng: np.random.Generator, split: str, count: int, segments: int = 8) -> list[Video]:
    return [
        Video(
            Path(f"/{split}{n}.mp4"),
            f"{split}{n}.mp4",
            "anomalous" if n % 2 else "normal",
            split,  # type: ignore[arg-type]
            events=((48 * (start := int(rng.integers(0, segments - 3))), 48 * (start + 3)),) if n % 2 else (),
            frames=48 * segments,
        )
        for n in range(count)
    ]


def _planted(rng: np.random.Generator, video: Video, heads: list[HeadRef], strength: float) -> Extracted:
    """Noise in 2 prompts x 4 layers x 5 heads x 6, and the truth in some heads."""
    assert video.frames is not None
    spans = np.array([(s, s + 48) for s in range(0, video.frames, 48)], dtype=np.int64)
    features = rng.normal(size=(len(spans), 2, 4, 5, 6)).astype(np.float32)
    for number, (start, end) in enumerate(spans.tolist()):
        if video.overlaps(start, end):
            for ref in heads:
                features[number, :, ref.layer, ref.head] += strength
    return Extracted(video, "segment", video.frames, 30.0, spans, features)


@pytest.fixture(scope="module")
def planted() -> dict[str, object]:
    rng = np.random.default_rng(3)
    heads = [HeadRef(1, 2), HeadRef(2, 4)]
    data = {
        split: [_planted(rng, v, heads, 1.2) for v in _videos(rng, split, 12)]
        for split in ("calibration", "validation", "test")
    }
    calibration = FeatureSet.of(data["calibration"], TWO)
    found = hunt(calibration.features, calibration.labels, calibration.prompts, Selection(top_k=2))
    methods = head_methods(calibration, found, draws=6, seed=0)
    judge = Judge([e.video for e in data["validation"]], [e.video for e in data["test"]], draws=50)
    rows = {}
    for method in methods:
        series = {
            name: {
                e.video.name: VideoScores(
                    e.video.name,
                    e.frames,
                    tuple(
                        (*span, p)
                        for span, p in zip(e.spans.tolist(), probe.probabilities(e.features).tolist(), strict=True)
                    ),
                )
                for e in (*data["validation"], *data["test"])
            }
            for name, probe in method.probes.items()
        }
        rows[method.name] = judge.row(method, series)
    return {"heads": heads, "rows": rows, "methods": {m.name: m for m in methods}, "found": found}


def test_planted_heads_win(planted: dict) -> None:  # type: ignore[type-arg]
    rows, methods = planted["rows"], planted["methods"]
    assert set(methods[FULL].probes[FULL].heads) == set(planted["heads"])
    full, random = rows[FULL], rows["random 2 heads"]
    last = rows["all heads of the last layer"]
    assert full.auc.value > 0.95
    assert abs(last.auc.value - 0.5) < 0.2  # nothing was planted in it
    assert last.auc.value - 0.1 < random.auc.value < full.auc.value - 0.1
    assert last.difference.high < 0
    assert rows["best single layer"].chosen in ("layer 1", "layer 2")
    assert rows["best single layer"].auc.value > last.auc.value + 0.2


def test_mean_row_is_the_mean_of_its_draws(planted: dict) -> None:  # type: ignore[type-arg]
    row = planted["rows"]["random 2 heads"]
    aucs = [one.auc for one in row.candidates]
    assert len(aucs) == 6
    assert row.auc.value == pytest.approx(np.mean(aucs))
    assert row.auc.spread == pytest.approx(np.std(aucs, ddof=1))
    assert row.difference.value == pytest.approx(np.mean(aucs) - planted["rows"][FULL].auc.value)
    draws = [probe.heads for probe in planted["methods"]["random 2 heads"].probes.values()]
    assert all(len(set(heads)) == 2 for heads in draws)
    assert len(set(draws)) > 1


def test_rows_of_one_prompt_are_hunts_under_it_alone(planted: dict) -> None:  # type: ignore[type-arg]
    """And where the prompts have no such name, the row says so instead of taking another."""
    rng = np.random.default_rng(4)
    features = rng.normal(size=(20, 2, 3, 4, 5)).astype(np.float32)
    labels = np.arange(20) % 2 == 0
    features[labels, 0, 1, 1] += 1
    features[labels, 1, 2, 2] += 1
    data = FeatureSet(features, labels, ("coarse", "other"), tuple(f"v{n}" for n in range(20)))
    methods = {m.name: m for m in head_methods(data, hunt(features, labels, data.prompts, Selection(top_k=2)), 1, 0)}
    alone = hunt(features[:, :1], labels, ("coarse",), Selection(top_k=2))
    assert methods["single coarse prompt"].probes["coarse"].heads == tuple(e.ref for e in alone.experts)
    oracle = methods["oracle prompt (detailed)"]
    assert not oracle.probes
    assert oracle.reason is not None
    assert "'detailed'" in oracle.reason


def test_heads_are_read_in_order() -> None:
    features = np.arange(2 * 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 2, 3, 4, 5)
    read = read_heads(features, 1, [HeadRef(2, 0), HeadRef(0, 3)])
    assert np.array_equal(read, np.concatenate([features[:, 1, 2, 0], features[:, 1, 0, 3]], axis=1))


def test_row_without_scores_needs_a_reason() -> None:
    judge = Judge([], [])
    row = judge.row(textual_method("it has no words"), {})
    assert (row.auc, row.reason) == (None, "it has no words")
    with pytest.raises(ValueError, match="neither scores nor a reason"):
        judge.row(textual_method(), {})
    probe = Probe(0, (HeadRef(0, 0),), object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rule"):
        Method("x", "paper", "y", probes={"a": probe, "b": probe})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_squashing_keeps_order_and_range(values: list[float]) -> None:
    scores = {"v": VideoScores("v", len(values), tuple((i, i + 1, x) for i, x in enumerate(values)))}
    before = np.array(values)
    after = np.array([score for _, _, score in squashed(scores, ["v"])["v"].segments], dtype=float)
    assert ((after >= 0) & (after <= 1)).all()
    # But for the last digit of two values that differ in theirs.
    assert (np.diff(after[np.argsort(before)]) >= -1e-15).all()


# --- refusals ---


def _edited(dataset_csv: Path, tmp_path: Path, **changes: dict[str, str]) -> Path:
    """The manifest with the cells of some rows, found by the start of their names, replaced."""
    with dataset_csv.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for start, cells in changes.items():
            if row["path"].startswith(start):
                row.update(cells)
        row["path"] = str(dataset_csv.parent / row["path"])
    with (tmp_path / "data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "data.csv"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": {"label": "normal", "events": ""}}, "split 'test' has no anomalous video"),
        ({"test1": {"events": ""}}, "split 'test' has no anomalous video whose events have times"),
        ({"validation": {"split": "test"}}, "split 'validation' has no anomalous video whose events have times"),
        ({"calibration": {"label": "normal", "events": ""}}, "split 'calibration' has no anomalous video"),
    ],
)
def test_splits_that_cannot_do_their_work_are_refused_first(
    dataset_csv: Path, tmp_path: Path, changes: dict[str, dict[str, str]], message: str
) -> None:
    manifest = _edited(dataset_csv, tmp_path, **changes)
    with pytest.raises(DatasetError, match=message):
        ablate(AblateOptions(model="no/such/model", manifest=manifest), QUIET)


def test_arguments_out_of_range_are_refused(model: Path, dataset_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can judge none"):
        AblateOptions(model="m", manifest=dataset_csv, split="calibration")
    with pytest.raises(UsageError, match="penalty nan"):
        AblateOptions(model="m", manifest=dataset_csv, penalty=float("nan"))
    with pytest.raises(UsageError, match="shows 'climbing'; there are test"):
        ablate(AblateOptions(model="m", manifest=dataset_csv, unseen=("climbing",)), QUIET)
    untimed = _edited(dataset_csv, tmp_path, calibration={"events": ""})
    with pytest.raises(UsageError, match="its events have no times"):
        ablate(AblateOptions(model="no/such/model", manifest=untimed, unit="segment"), QUIET)
    with pytest.raises(UsageError, match="the model has 12 heads"):
        ablate(AblateOptions(model=str(model), manifest=dataset_csv, top_k=13), QUIET)


def test_command_prints_the_table_and_writes_json(
    options: AblateOptions,
    ablation: Ablation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command hands its arguments over and shows what comes back; the work itself is tested above."""
    given_options = []

    def recorded(received: AblateOptions, _: Console) -> Ablation:
        given_options.append(received)
        return ablation

    monkeypatch.setattr("offline.ablation.ablate.ablate", recorded)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({prompt.name: prompt.text for prompt in TWO}))
    arguments = [
        "ablate",
        "--model",
        options.model,
        "--manifest",
        str(options.manifest),
        "--cache",
        str(options.cache),
    ]
    arguments += ["--prompts", str(prompts), "--top-k", "3", "--draws", "3", "--kinds-unseen", "test", "--quiet"]
    arguments += ["--device", "cpu", "--json", str(tmp_path / "out.json")]
    assert run_command(cli, arguments) == 0
    assert given_options == [options]
    assert run_command(cli, [*arguments, "--calibration-unit", "video"]) == 0
    assert given_options.pop() == replace(options, unit="video")
    assert capsys.readouterr().out == f"{ablation.to_text()}\n" * 2
    assert json.loads((tmp_path / "out.json").read_text())["prompts"] == {p.name: p.text for p in TWO}
    assert run_command(cli, [*arguments[:5], "--kinds-unseen", "test", "--split", "calibration"]) == 2
