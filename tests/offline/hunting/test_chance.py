"""What is said of chance is true: hunted heads against random ones, sets that are too small, file and words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.heads import HeadRef
from offline.calibration.scorer import fit_scorer
from offline.extraction.features import FeatureSet
from offline.hunting.against_random import Compared, Comparison, compare, concordance, stratified_folds
from offline.hunting.chance import KEY, Chance, Trials, chance
from offline.hunting.hunt import Hunt, Selection, by_rss, hunt, read_hunt, write_hunt
from offline.hunting.permutation import Permuted
from offline.hunting.stability import by_frequency

SELECTION = Selection(top_k=2)
TRIALS = Trials(39, Comparison(draws=12, resamples=200))


def calibration(videos: int, strength: float, seed: int = 0, segments: int = 2) -> FeatureSet:
    """Every other video is anomalous in its second segment; three of twelve heads know."""
    rng = np.random.default_rng(seed)
    n = videos * segments
    labels = (np.arange(n) // segments % 2 == 1) & (np.arange(n) % segments > 0)
    features = rng.standard_normal((n, 2, 3, 4, 6)).astype(np.float32)
    for layer, head in ((0, 1), (2, 3), (1, 0)):
        features[labels, :, layer, head] += strength
    return FeatureSet(features, labels, ("coarse", "plain"), tuple(f"v{i // segments:03d}" for i in range(n)))


def judged(features: FeatureSet, selection: Selection = SELECTION) -> Chance:
    found = hunt(features.features, features.labels, features.prompts, selection)
    return chance(features, found, selection, fit_scorer, TRIALS)


@pytest.fixture(scope="module")
def knowing() -> Chance:
    return judged(calibration(24, 2.0))


PERMUTED = Permuted(HeadRef(3, 1), 0.8, (0.6,) * 199, 1e9)
COMPARED = Compared(5, 0.8, (0.6, 0.7, 0.65), 0.05, 0.2)
SAID = Chance(40, 20, 36, 5, PERMUTED, COMPARED)


# ---- hunted and random heads


def test_heads_that_know_beat_random_ones_and_chance(knowing: Chance) -> None:
    assert knowing.known is True
    assert knowing.better is True
    assert knowing.compared is not None
    assert knowing.compared.hunted > 0.9 > knowing.compared.mean
    assert knowing.compared.hunted == max(knowing.compared.hunted, *knowing.compared.random)
    assert (knowing.videos, knowing.anomalous, knowing.heads, knowing.top_k) == (24, 12, 12, 2)


def test_useless_heads_are_not_praised() -> None:
    """A hunt that saw the held-out labels would look useful here, in each of the sets."""
    found = [judged(calibration(20, 0.0, seed)).compared for seed in range(8)]
    differences = [one.difference for one in found if one is not None]
    assert len(differences) == 8
    # Differences of such small sets scatter by 0.1; of 24, two had an interval above 0.
    assert abs(np.mean(differences)) < 0.1
    assert sum(one.low > 0 for one in found if one is not None) <= 2


def test_no_training_video_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every video's features name it: what a scorer is fitted on and what it judges have none in common."""
    features = calibration(12, 1.0)
    number = np.array([int(name[1:]) for name in features.videos])
    marked = replace(features, features=np.ascontiguousarray(features.features))
    marked.features[..., 0] = number[:, None, None, None]
    seen: list[tuple[set[int], set[int]]] = []

    class Spy:
        def __init__(self, trained: np.ndarray) -> None:
            self.trained = set(trained[:, 0].tolist())

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            seen.append((self.trained, set(x[:, 0].tolist())))
            return np.full((len(x), 2), 0.5)

    found = compare(marked, SELECTION, lambda x, y: Spy(x), TRIALS.comparison)
    assert found is not None
    assert (found.hunted, found.beaten, found.low, found.high) == (0.5, 0.0, 0.0, 0.0)
    assert len(seen) == found.folds * 13
    for trained, judged_on in seen:
        assert judged_on
        assert not trained & judged_on
        assert trained | judged_on == set(number.tolist())


def test_folds_have_both_classes_and_fall_back_to_fewer() -> None:
    for videos, folds in ((20, 5), (8, 4), (6, 3)):
        features = calibration(videos, 0.0)
        fold = stratified_folds(features, 5, np.random.default_rng(0))
        assert fold is not None
        assert len(set(fold.tolist())) == folds
        names = np.array(features.videos)
        assert all(len(set(fold[names == name].tolist())) == 1 for name in set(features.videos))
        assert all(features.labels[fold == one].any() for one in range(folds))
    assert stratified_folds(calibration(4, 0.0), 5, np.random.default_rng(0)) is None


def test_concordance_gives_the_auc_of_repeated_videos() -> None:
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(6), 4)
    labels, scores = rng.random(24) > 0.5, rng.integers(0, 6, 24) / 5
    pairs = concordance(labels, scores, video)
    for _ in range(20):
        weights = rng.integers(0, 3, 6)
        rows = np.repeat(np.arange(24), weights[video])
        positive = np.bincount(video, weights=labels, minlength=6) @ weights
        negative = np.bincount(video, weights=~labels, minlength=6) @ weights
        if positive and negative:
            auc = weights @ pairs @ weights / (positive * negative)
            assert auc == pytest.approx(roc_auc_score(labels[rows], scores[rows]))


def test_where_all_heads_are_hunted_there_is_nothing_to_compare_with() -> None:
    found = judged(calibration(12, 1.0), Selection(top_k=12))
    assert found.compared is None
    assert any("there are no others" in sentence for sentence in found.sentences)


def test_layers_beyond_the_deepest_are_not_looked_at() -> None:
    features = calibration(12, 1.0)
    shallow = judged(features, replace(SELECTION, max_layer=1))
    cut = judged(replace(features, features=features.features[:, :, :2]), SELECTION)
    assert shallow == cut
    assert shallow.heads == 8


def test_the_same_seed_gives_the_same(knowing: Chance) -> None:
    assert judged(calibration(24, 2.0)) == knowing


# ---- what is said


def test_what_is_said_of_a_hunt_that_pays() -> None:
    heads, hunted = SAID.sentences
    assert heads.startswith("The heads know something")
    assert "best of 36 heads (layer 3, head 1)" in heads
    assert "p = 0.005" in heads
    assert hunted.startswith("The hunt pays.")
    assert "5 hunted heads reach an AUC of 0.80" in hunted
    assert "100 % of them are worse" in hunted
    assert "+0.15 (+0.05 to +0.20" in hunted


def test_what_is_said_where_nothing_was_found() -> None:
    useless = replace(SAID, permuted=replace(PERMUTED, auc=0.6), compared=replace(COMPARED, low=-0.1))
    heads, _, too_small = useless.sentences
    assert heads.startswith("Nothing shows that any head knows")
    assert "p = 1.000" in heads
    assert too_small == (
        "With 40 videos (20 anomalous) this calibration set is too small to tell whether the 5 hunted heads beat "
        "random ones; label more."
    )
    harm = replace(SAID, compared=replace(COMPARED, hunted=0.5, low=-0.3, high=-0.1))
    assert harm.better is False
    assert "does harm" in harm.sentences[-1]


@pytest.mark.parametrize(
    "small",
    [replace(SAID, anomalous=4), replace(SAID, permuted=replace(PERMUTED, permuted=(0.5,) * 9), compared=None)],
)
def test_small_sets_never_tell(small: Chance) -> None:
    assert (small.known, small.better) == (None, None)
    assert sum("too small to tell whether" in sentence for sentence in small.sentences) == 2


def test_one_video_of_a_class_gives_a_sentence_and_no_figure() -> None:
    features = calibration(2, 1.0, segments=6)
    found = judged(features)
    assert (found.permuted, found.compared) == (None, None)
    (sentence,) = found.sentences
    assert sentence.startswith("1 normal and 1 anomalous videos")
    assert "cannot be computed" in sentence


# ---- the file


def test_it_comes_back_from_the_file_and_the_hunt_stays_readable(knowing: Chance, tmp_path: Path) -> None:
    features, path = calibration(8, 1.0), tmp_path / "hunt.json"
    found = hunt(features.features, features.labels, features.prompts, SELECTION)
    for one in (knowing, replace(knowing, permuted=None, compared=None)):
        write_hunt(found, path, {KEY: one.to_dict()})
        assert Chance.from_dict(json.loads(path.read_text())[KEY]) == one
        assert read_hunt(path).experts == found.experts
    content = knowing.to_dict()
    assert knowing.permuted is not None
    assert content["permuted"]["p"] == knowing.permuted.p
    assert content["sentences"] == list(knowing.sentences)


@pytest.mark.parametrize("damage", [3, {}, SAID.to_dict() | {"videos": "many"}, SAID.to_dict() | {"anomalous": 99}])
def test_a_damaged_one_is_refused(damage: object) -> None:
    with pytest.raises(ValueError):
        Chance.from_dict(damage)


# ---- another choice than the paper's


def test_the_choice_that_is_judged_is_the_one_that_is_made_in_every_fold() -> None:
    features, asked = calibration(24, 1.5), []

    def choose(part: FeatureSet, selection: Selection, progress: object = None) -> Hunt:
        asked.append(set(part.videos))
        return by_rss(part, selection).choosing([HeadRef(0, 0), HeadRef(1, 1)])

    found = compare(features, SELECTION, fit_scorer, TRIALS.comparison, choose=choose)
    assert found is not None
    # Of five folds each video is left out of one, and the heads that know nothing are no better than random ones.
    assert sorted(name for part in asked for name in set(features.videos) - part) == sorted(set(features.videos))
    assert found.hunted < judged(features).compared.hunted  # type: ignore[union-attr]


def test_a_choice_that_needs_more_videos_than_a_fold_has_is_not_compared() -> None:
    features = calibration(8, 1.0, segments=2)
    assert compare(features, SELECTION, fit_scorer, TRIALS.comparison) is not None
    assert compare(features, SELECTION, fit_scorer, TRIALS.comparison, choose=by_frequency(4)) is None
