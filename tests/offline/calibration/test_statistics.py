"""calibration.npz: what is written is exact, and what is read back is what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from edge_runtime.bundle.calibration import CALIBRATION, Calibration, arrays_of, read_calibration
from edge_runtime.bundle.manifest import Locators
from edge_runtime.errors import BundleRefused
from export.publish import write_calibration
from offline.calibration.locator import default_locators
from offline.calibration.rules import ScorerRule
from offline.calibration.samples import Samples
from offline.calibration.scorer import REGULARISATION, fit_scorer
from offline.calibration.statistics import statistics
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.extraction.extract import Extracted

SIZE = 12
RULE = ScorerRule(SIZE)
LOCATORS: Locators = default_locators()


def extracted(name: str, events: tuple[tuple[int, int], ...], seed: int, segments: int = 5) -> Extracted:
    """A video of `segments` segments of 10 frames; features of anomalous ones lie apart."""
    rng = np.random.default_rng(seed)
    video = Video(
        name=name,
        path=Path(name),
        label="anomalous" if events else "normal",
        split="calibration",
        events=events,
        frames=10 * segments,
    )
    spans = np.array([(10 * i, 10 * i + 10) for i in range(segments)])
    labels = np.array([video.overlaps(int(a), int(b)) for a, b in spans])
    features = rng.normal(size=(segments, SIZE)) * np.arange(1, SIZE + 1) + 3 + labels[:, None] * 2.0
    return Extracted(video, "segment", 10 * segments, 25.0, spans, features.astype(np.float32))


def calibration_set(videos: int = 4) -> list[Extracted]:
    normal = [extracted(f"n{i}", (), i) for i in range(videos)]
    return [*normal, *(extracted(f"a{i}", ((10, 40),), 100 + i) for i in range(videos))]


def made(videos: int = 4, validation: tuple[Extracted, ...] = ()) -> tuple[Calibration, object]:
    known = calibration_set(videos)
    samples = np.concatenate([one.features for one in known])
    labels = np.concatenate([one.labels for one in known])
    scorer = fit_scorer(samples, labels)
    scored = {
        one.video.name: VideoScores.of_segments(
            one.video.name, one.frames, one.spans, scorer.predict_proba(one.features)[:, 1]
        )
        for one in validation
    }
    return statistics(scorer, known, validation, scored, LOCATORS, RULE), scorer


@pytest.mark.parametrize("videos", [1, 2, 4])
def test_the_precision_is_the_objectives_second_derivative(videos: int) -> None:
    """With fewer samples than weights, and with more."""
    found, _ = made(videos)
    known = calibration_set(videos)
    z = found.standardised(np.concatenate([one.features for one in known]))
    x = np.column_stack([z, np.ones(len(z))])
    labels = np.concatenate([one.labels for one in known])
    weight = np.where(labels, len(labels) / 2 / labels.sum(), len(labels) / 2 / (~labels).sum())

    def gradient(w: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-x @ w))
        return x.T @ (weight * (p - labels)) + np.append(w[:-1], 0) / REGULARISATION

    wanted = np.column_stack(
        [
            (gradient(found.prior_mean + step) - gradient(found.prior_mean - step)) / 2e-5
            for step in 1e-5 * np.eye(SIZE + 1)
        ]
    )
    precision = np.diag(found.prior_diagonal) + found.prior_factor.T @ found.prior_factor
    np.testing.assert_allclose(precision, wanted, atol=1e-5, rtol=1e-6)
    assert len(found.prior_factor) <= SIZE + 1


def test_the_weights_are_those_of_the_scorer() -> None:
    found, scorer = made()
    features = calibration_set()[5].features
    logits = np.column_stack([found.standardised(features), np.ones(len(features))]) @ found.prior_mean
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), scorer.predict_proba(features)[:, 1], atol=1e-6)


@pytest.mark.parametrize("videos", [2, 5])
def test_distances_are_those_of_ledoit_and_wolf(videos: int) -> None:
    found, _ = made(videos)
    known = calibration_set(videos)
    labels = np.concatenate([one.labels for one in known])
    normal = found.standardised(np.concatenate([one.features for one in known]))[~labels]
    oracle = LedoitWolf().fit(normal)
    features = np.random.default_rng(7).normal(size=(6, SIZE)) * 9
    wanted = np.sqrt(oracle.mahalanobis(found.standardised(features)))
    np.testing.assert_allclose(found.distance(features), wanted, rtol=1e-9)


def test_normal_segments_are_judged_by_what_did_not_see_their_video() -> None:
    """A video that differs from all others is not far from itself, but is from them."""
    known = calibration_set()
    odd = extracted("odd", (), 50)
    odd = Extracted(odd.video, odd.unit, odd.frames, odd.fps, odd.spans, odd.features + 40)
    known = [*known, odd]
    samples = np.concatenate([one.features for one in known])
    labels = np.concatenate([one.labels for one in known])
    found = statistics(fit_scorer(samples, labels), known, (), {}, LOCATORS, RULE)
    mine = found.videos == 4
    assert mine.sum() == 5
    assert (found.distances[mine] > 2 * found.distance(odd.features)).all()


def test_every_normal_segment_has_its_scores_and_anomalous_videos_none() -> None:
    found, _ = made(4, (extracted("v0", (), 30, 7), extracted("v1", ((10, 20),), 31)))
    assert len(found.normal_scores) == len(found.distances) == 4 * 5 + 7
    assert np.bincount(found.videos).tolist() == [5, 5, 5, 5, 7]
    assert found.normal_smoothed.shape == (2, 27)


def test_it_is_read_back_as_written(tmp_path: Path) -> None:
    found, _ = made()
    write_calibration(tmp_path, found)
    again = read_calibration(tmp_path / CALIBRATION, SIZE)
    for name, array in arrays_of(found).items():
        assert np.array_equal(arrays_of(again)[name], array)
    first = (tmp_path / CALIBRATION).read_bytes()
    write_calibration(tmp_path, again)
    assert (tmp_path / CALIBRATION).read_bytes() == first


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scale": np.zeros(SIZE)}, "scale holds a value that is not above 0"),
        ({"mean": np.full(SIZE, np.nan)}, "mean holds a value that is not finite"),
        ({"mean": np.zeros(SIZE, np.float32)}, "mean is float32"),
        ({"centre": np.zeros(SIZE + 1)}, "centre has the shape"),
        ({"prior_factor": np.zeros((SIZE + 5, SIZE + 1))}, "more rows than it can need"),
        ({"normal_scores": np.full(20, 2.0)}, "outside 0..1"),
        ({"videos": np.full(20, -1)}, "no value below 0"),
        ({"distances": np.zeros(3)}, "distances has the shape"),
        ({"format": np.int64(2)}, "the format 2, known is 1"),
        ({"more": np.zeros(1)}, "it holds .*, expected are"),
        ({"mean": np.array([object()] * SIZE)}, "mean is object"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, np.ndarray], reason: str) -> None:
    found, _ = made()
    np.savez(tmp_path / CALIBRATION, **(arrays_of(found) | change))
    with pytest.raises(BundleRefused, match=reason) as caught:
        read_calibration(tmp_path / CALIBRATION, SIZE)
    assert str(caught.value).startswith("calibration.npz: cannot be read (")


def test_another_size_and_damage_are_refused(tmp_path: Path) -> None:
    found, _ = made()
    write_calibration(tmp_path, found)
    with pytest.raises(BundleRefused, match=r"calibration\.npz"):
        read_calibration(tmp_path / CALIBRATION, SIZE + 1)
    content = (tmp_path / CALIBRATION).read_bytes()
    (tmp_path / CALIBRATION).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleRefused, match=r"calibration\.npz"):
        read_calibration(tmp_path / CALIBRATION, SIZE)


def test_marked_samples_count_as_calibration_samples() -> None:
    """The weights' precision has a row for each, and marks alone do not make normal segments."""
    known = calibration_set(2)[:1] + calibration_set(2)[2:3]
    rng = np.random.default_rng(9)
    marked = Samples.marked(rng.normal(size=(1, SIZE)).astype(np.float32), np.array([False]))
    together = Samples.of(known, marked)
    found = statistics(fit_scorer(together.features, together.labels), known, (), {}, LOCATORS, RULE, marked)
    without = statistics(fit_scorer(*_plain(known)), known, (), {}, LOCATORS, RULE)
    assert len(found.prior_factor) == len(without.prior_factor) + 1
    assert len(found.normal_scores) == len(without.normal_scores) == 5


def _plain(known: list[Extracted]) -> tuple[np.ndarray, np.ndarray]:
    plain = Samples.of(known)
    return plain.features, plain.labels
