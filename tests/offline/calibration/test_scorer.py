"""The scorer: scikit-learn's mathematics, and the graph that carries it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import FeatureError, ParityError
from edge_runtime.inference.scorer import ScorerGraph
from export import scorer as scorer_graph
from export.scorer import export_scorer
from offline.calibration.scorer import REGULARISATION, fit_scorer


def samples(n: int = 24, width: int = 20, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    features = rng.normal(size=(n, width)) * np.geomspace(0.01, 100, width)
    features[labels] += 0.5 * np.geomspace(0.01, 100, width)
    return (features * scale).astype(np.float32), labels


def test_the_probability_minimises_the_penalised_logistic_loss() -> None:
    features, labels = samples()
    scorer = fit_scorer(features, labels)
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    x = (features - mean) / std
    weight, bias = scorer[-1].coef_[0].astype(np.float64), float(scorer[-1].intercept_[0])
    probability = 1 / (1 + np.exp(-(x @ weight + bias)))
    np.testing.assert_allclose(scorer.predict_proba(features)[:, 1], probability, atol=1e-5)
    # Balanced: either class weighs as much as the other; at the minimum the gradient is zero.
    balance = np.where(labels, len(labels) / (2 * labels.sum()), len(labels) / (2 * (~labels).sum()))
    error = balance * (probability - labels)
    np.testing.assert_allclose(REGULARISATION * (x.T @ error) + weight, 0, atol=1e-3)
    np.testing.assert_allclose(REGULARISATION * error.sum(), 0, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(4, 40), width=st.integers(1, 64), seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1, 1e3]))
def test_the_graph_gives_what_scikit_learn_gives(
    n: int, width: int, seed: int, scale: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    features, labels = samples(n, width, seed, scale)
    scorer = fit_scorer(features, labels)
    path = tmp_path_factory.mktemp("scorer") / "scorer.onnx"
    difference = export_scorer(scorer, features, path)
    assert 0 <= difference <= 1e-5
    new, _ = samples(n + 7, width, seed + 1, scale)
    graph = ScorerGraph(path)
    wanted = scorer.predict_proba(new)[:, 1]
    np.testing.assert_allclose(graph.probabilities(new), wanted, atol=1e-5)
    # One row at a time, as the edge runs it.
    np.testing.assert_allclose([graph.probabilities(row[None])[0] for row in new], wanted, atol=1e-5)


def test_the_graph_has_the_bundles_interface_and_equal_bytes_each_time(tmp_path: Path) -> None:
    features, labels = samples()
    for name in ("one", "two"):
        export_scorer(fit_scorer(features, labels, seed=3), features, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    model = onnx.load(str(tmp_path / "one"))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["features"]
    assert [value.name for value in model.graph.output] == ["probabilities"]


def test_a_constant_feature_does_not_divide_by_zero(tmp_path: Path) -> None:
    features, labels = samples()
    features[:, 4] = 7.5
    assert export_scorer(fit_scorer(features, labels), features, tmp_path / "scorer.onnx") <= 1e-5


def test_a_graph_that_differs_is_refused_and_so_is_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = samples()
    scorer = fit_scorer(features, labels)
    for wrong in (0.25, float("nan")):

        class Wrong(ScorerGraph):
            def probabilities(self, values: np.ndarray, wrong: float = wrong) -> np.ndarray:
                return np.full(len(values), wrong, dtype=np.float32)

        monkeypatch.setattr(scorer_graph, "ScorerGraph", Wrong)
        with pytest.raises(ParityError, match=r"scorer\.onnx differs"):
            export_scorer(scorer, features, tmp_path / "scorer.onnx")


@pytest.mark.parametrize("label", [True, False])
def test_one_class_only_is_a_feature_error(label: bool) -> None:
    features, _ = samples()
    with pytest.raises(FeatureError, match="anomalous" if label else "normal"):
        fit_scorer(features, np.full(len(features), label))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_a_feature_error(value: float) -> None:
    features, labels = samples()
    features[3, 5] = value
    with pytest.raises(FeatureError, match="not finite"):
        fit_scorer(features, labels)


def test_labels_that_do_not_match_are_a_feature_error() -> None:
    features, labels = samples()
    with pytest.raises(FeatureError, match="24 feature vectors for 23 labels"):
        fit_scorer(features, labels[:-1])
