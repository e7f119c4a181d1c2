"""The yardstick of the visual tokens: fitted as scikit-learn's pipeline is, on the scorer's own units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import FeatureError, InferenceFailed
from offline.calibration.visual import TokensAlone, TokenScorers, measure_tokens
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, Video, read_dataset
from offline.data.units import choose_units
from offline.evaluation.run import Running
from offline.evaluation.verdict import TOKENS_ALONE, TOKENS_MEAN, TOKENS_SPREAD
from offline.extraction.extract import Extracted, extract
from offline.recipes.visual import tokens_of

QUIET = Console(quiet=True)
WIDTH = 6


def _one(name: str, anomalous: bool, rng: np.random.Generator, units: int = 4, overlap: int = 1) -> Extracted:
    events = ((0, 10 * units // 2),) if anomalous else ()
    video = Video(Path(name), name, "anomalous" if anomalous else "normal", "calibration", events)
    spans = np.array([(10 * unit, 10 * unit + 10) for unit in range(units)], dtype=np.int64)
    features = rng.normal(size=(units, 2, WIDTH)).astype(np.float32)
    return Extracted(video, "segment", 10 * units, 15.0, spans, features, overlap)


def test_scores_are_those_of_scikit_learns_pipeline() -> None:
    rng = np.random.default_rng(0)
    calibration = [_one(f"c{n}", bool(n % 2), rng) for n in range(6)]
    judged = _one("t", True, rng)
    found = TokenScorers.fit(calibration).scores_of(judged)
    assert set(found) == set(TOKENS_ALONE)
    labels = np.concatenate([one.labels for one in calibration])
    for row, columns in ((TOKENS_MEAN, slice(0, WIDTH)), (TOKENS_SPREAD, slice(0, 2 * WIDTH))):
        known = np.concatenate([one.features.reshape(-1, 2 * WIDTH)[:, columns] for one in calibration])
        plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
        with threadpool_limits(limits=1):
            plain.fit(known, labels)
            wanted = plain.predict_proba(judged.features.reshape(-1, 2 * WIDTH)[:, columns])[:, 1]
        scores = [score for _, _, score in found[row].segments]
        np.testing.assert_allclose(np.array(scores, dtype=np.float64), wanted, atol=1e-7)
        assert [[start, end] for start, end, _ in found[row].segments] == judged.spans.tolist()


def test_steps_of_segments_that_overlap_get_the_mean_of_all_that_cover_them() -> None:
    rng = np.random.default_rng(1)
    scorers = TokenScorers.fit([_one(f"c{n}", bool(n % 2), rng) for n in range(4)])
    apart = _one("t", False, rng)
    alone = [score or 0.0 for _, _, score in scorers.scores_of(apart)[TOKENS_MEAN].segments]
    overlapping = scorers.scores_of(replace(apart, overlap=2))[TOKENS_MEAN].segments
    wanted = [alone[0], *((a + b) / 2 for a, b in pairwise(alone))]
    np.testing.assert_allclose([score or 0.0 for _, _, score in overlapping], wanted)


def test_nothing_is_fitted_on_one_class_or_on_nothing() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(FeatureError, match="no calibration video"):
        TokenScorers.fit([])
    with pytest.raises(FeatureError, match="normal"):
        TokenScorers.fit([_one("c", False, rng)])


# ---- of a bundle


@pytest.fixture(scope="module")
def dataset(dataset_csv: Path) -> Dataset:
    return read_dataset(dataset_csv)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EntryStore:
    return EntryStore(tmp_path_factory.mktemp("store"))


def test_a_bundles_rows_are_fitted_on_its_own_calibration_units(
    bundle: Bundle, dataset: Dataset, store: EntryStore
) -> None:
    judged = dataset.split("test").videos
    with tokens_of(bundle, Running(provider="cpu", stride=24), store) as tokens:
        found = measure_tokens(judged, dataset.split("calibration"), QUIET, tokens)
        assert found.remarks == ()
        calibration = dataset.split("calibration").videos
        apart = replace(tokens().extraction, segment=bundle.manifest.segment)
        known = extract(calibration, choose_units(calibration), apart)
        scored = extract(judged, {video.name: "segment" for video in judged}, tokens().extraction)
    assert sum(len(one.labels) for one in known) == bundle.manifest.scorer.samples
    scorers = TokenScorers.fit(known)
    assert {one.overlap for one in scored} == {2}
    for one in scored:
        assert scorers.scores_of(one) == {row: found.scores[row][one.video.name] for row in TOKENS_ALONE}


def test_what_was_measured_is_not_computed_again(
    bundle: Bundle, dataset: Dataset, store: EntryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dataset.split("test").videos, dataset.split("calibration"), QUIET

    def refuse(*_: object) -> None:
        raise InferenceFailed("the graph was run")

    with tokens_of(bundle, Running(provider="cpu"), store) as tokens:
        first = measure_tokens(*given, tokens)
        monkeypatch.setattr(tokens().extraction.extractor, "extract", refuse)
        assert first.scores
        assert measure_tokens(*given, tokens) == first
    with tokens_of(bundle, Running(provider="cpu")) as tokens:
        monkeypatch.setattr(tokens().extraction.extractor, "extract", refuse)
        # Without the store it would have to be run; and a graph that fails is a remark.
        assert measure_tokens(*given, tokens).remarks == ("visual tokens alone not computed: the graph was run",)


def test_what_cannot_be_measured_is_a_remark(
    bundle: Bundle, dataset: Dataset, store: EntryStore, tmp_path: Path
) -> None:
    judged, known = dataset.split("test").videos, dataset.split("calibration")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    damaged = replace(known, videos=(*known.videos, replace(known.videos[0], name="broken.mp4", path=broken)))
    with tokens_of(bundle, Running(provider="cpu"), store) as tokens:
        for videos, calibration, reason in (
            (judged, Dataset(dataset.path, ()), "the manifest has no calibration split"),
            (judged, Dataset(dataset.path, known.videos[:1]), "the calibration split has no "),
            (judged, damaged, "broken.mp4"),
            ([replace(judged[0], path=tmp_path / "x.mp4")], known, "1 of 1 video files are not there"),
            ([replace(judged[0], path=broken)], known, "broken.mp4"),
        ):
            found = measure_tokens(videos, calibration, QUIET, tokens)
            assert found.scores == {}
            (remark,) = found.remarks
            assert remark.startswith("visual tokens alone not computed: ")
            assert reason in remark
    # A calibration video that cannot be read is left out where that was asked for.
    with tokens_of(bundle, Running(provider="cpu", skip_unreadable=True), store) as tokens:
        assert measure_tokens(judged, damaged, QUIET, tokens) == measure_tokens(judged, known, QUIET, tokens)


def test_samples_of_videos_without_times_are_whole_videos(
    bundle: Bundle, dataset: Dataset, store: EntryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[int] = []
    fit = TokenScorers.fit

    def counted(calibration: Sequence[Extracted], seed: int = 0) -> Any:
        units.extend(len(one.labels) for one in calibration)
        return fit(calibration, seed)

    monkeypatch.setattr(TokenScorers, "fit", counted)
    untimed: Iterable[Video] = (replace(video, events=()) for video in dataset.split("calibration"))
    with tokens_of(bundle, Running(provider="cpu"), store) as tokens:
        assert isinstance(tokens(), TokensAlone)
        found = measure_tokens(dataset.split("test").videos, Dataset(dataset.path, tuple(untimed)), QUIET, tokens)
    assert found.remarks == ()
    assert units == [1] * len(dataset.split("calibration"))
