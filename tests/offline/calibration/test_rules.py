"""By which rule a scorer is fitted: each name does what it says, and what operators marked can be learned by all."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edge_runtime import Bundle
from edge_runtime.errors import UsageError
from offline.calibration.log_odds import fit_log_odds
from offline.calibration.rules import RULE, ScorerRule, rule_of
from offline.calibration.samples import Samples
from offline.calibration.scorer import SCORERS, ScorerName, fit_scorer


@pytest.fixture(scope="module")
def samples() -> Samples:
    rng = np.random.default_rng(0)
    videos = np.repeat([f"v{i}" for i in range(16)], 4)
    labels = np.repeat(np.arange(16) % 2 == 0, 4)
    features = rng.standard_normal((64, 12)).astype(np.float32)
    features[labels, :4] += 1
    return Samples(features, labels, tuple(videos.tolist()))


def test_each_name_is_its_own_fit(samples: Samples) -> None:
    x, labels, videos = samples.features, samples.labels, samples.videos
    expected = {
        "logistic": fit_scorer(x, labels, 3),
        "log-odds": fit_log_odds(x, labels, videos, 4, "logistic", 3),
        "gaussians": fit_log_odds(x, labels, videos, 4, "gaussian", 3),
    }
    assert set(expected) == set(SCORERS)
    given = {name: ScorerRule(4, name, 3).fit(samples)[-1].coef_ for name in SCORERS}
    for name in SCORERS:
        assert np.array_equal(given[name], expected[name][-1].coef_)
    assert not np.allclose(given["logistic"], given["log-odds"])
    assert not np.allclose(given["gaussians"], given["log-odds"])


@pytest.mark.parametrize("name", SCORERS)
def test_marks_move_the_scorer_towards_them(samples: Samples, name: ScorerName) -> None:
    rng = np.random.default_rng(1)
    odd = rng.standard_normal((6, 12)).astype(np.float32)
    odd[:, 8:] += 3
    marked = Samples.marked(odd, np.ones(6, dtype=bool))
    assert len(set(marked.videos)) == 6
    together = Samples(
        np.concatenate([samples.features, odd]),
        np.concatenate([samples.labels, marked.labels]),
        samples.videos + marked.videos,
    )
    rule = ScorerRule(4, name)
    before, after = (rule.fit(one).predict_proba(odd)[:, 1].mean() for one in (samples, together))
    assert after > before


def test_a_bundle_says_its_rule_and_an_unknown_one_is_refused(bundle: Bundle) -> None:
    manifest = bundle.manifest

    def stating(**said: str) -> ScorerName:
        rest = {name: version for name, version in manifest.producer.items() if name != RULE}
        return rule_of(msgspec.structs.replace(manifest, producer=rest | said))

    assert rule_of(manifest) == "logistic"
    assert stating() == "logistic"  # as of bundles that were built before any other rule
    assert [stating(**{RULE: name}) for name in SCORERS] == list(SCORERS)
    with pytest.raises(UsageError, match=r"fitted by 'votes'.* --scorer"):
        stating(**{RULE: "votes"})
