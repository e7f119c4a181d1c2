"""The hunt finds what was planted, breaks ties as promised, refuses nonsense, and its file comes back equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError, OutputFailed, UsageError
from models.heads import HeadRef
from offline.hunting.hunt import Expert, Hunt, Selection, hunt, read_hunt, select, write_hunt
from offline.hunting.saliency import Saliency

PROMPTS = ("coarse", "detailed", "yes-no")
PLANTED = [HeadRef(4, 2), HeadRef(1, 0), HeadRef(2, 5)]  # by strength
N, L, H, D = 24, 6, 7, 10
LABELS = np.arange(N) % 3 == 0


@pytest.fixture
def features() -> NDArray[np.float32]:
    """Noise, three heads that know the class under every prompt, and one that knows it under one prompt only."""
    x = np.random.default_rng(0).standard_normal((N, len(PROMPTS), L, H, D), dtype=np.float32)
    for strength, ref in zip((12.0, 9.0, 7.0), PLANTED, strict=True):
        x[LABELS, :, ref.layer, ref.head] += strength / np.sqrt(D)
    x[LABELS, 1, 5, 6] += 12.0 / np.sqrt(D)
    return x


def refs(found: Hunt) -> list[HeadRef]:
    return [expert.ref for expert in found.experts]


def uniform_saliency(seed: int, prompts: int, layers: int, heads: int) -> Saliency:
    return Saliency(*np.random.default_rng(seed).random((4, prompts, layers, heads)))


# ---- what it finds


def test_planted_heads_are_found_in_rank_order(features: NDArray[np.float32]) -> None:
    found = hunt(features, LABELS, PROMPTS, Selection(top_k=3))
    assert refs(found) == PLANTED
    assert found.depth == 4
    assert (found.layers, found.heads, found.head_dim) == (L, H, D)
    for expert in found.experts:
        assert expert.rss == found.rss[expert.layer, expert.head]


def test_the_penalty_keeps_out_a_head_that_depends_on_the_prompt(features: NDArray[np.float32]) -> None:
    fickle = HeadRef(5, 6)
    lenient = hunt(features, LABELS, PROMPTS, Selection(top_k=4, penalty=0.0))
    strict = hunt(features, LABELS, PROMPTS, Selection(top_k=4, penalty=2.0))
    assert refs(lenient)[3] == fickle
    assert fickle not in refs(strict)


def test_the_prompt_is_the_one_under_which_the_experts_are_best(features: NDArray[np.float32]) -> None:
    features[LABELS, 2, 4, 2] += 3.0
    found = hunt(features, LABELS, PROMPTS, Selection(top_k=1))
    means = [found.score[m, 4, 2] for m in range(3)]
    assert found.prompt == PROMPTS[int(np.argmax(means))]
    named = hunt(features, LABELS, PROMPTS, Selection(top_k=1, prompt="detailed"))
    assert named.prompt == "detailed"
    assert refs(named) == refs(found)


def test_one_prompt_ranks_by_its_score_alone(features: NDArray[np.float32]) -> None:
    found = hunt(features[:, :1], LABELS, PROMPTS[:1], Selection(top_k=3))
    np.testing.assert_array_equal(found.rss, found.score[0])
    assert refs(found) == PLANTED


def test_a_shallow_hunt_is_the_hunt_in_a_shallow_model(features: NDArray[np.float32]) -> None:
    features[:, :, 4:] = np.nan  # not looked at
    shallow = hunt(features, LABELS, PROMPTS, Selection(top_k=2, max_layer=3))
    cut = hunt(features[:, :, :4], LABELS, PROMPTS, Selection(top_k=2))
    assert refs(shallow) == refs(cut) == PLANTED[1:]
    assert shallow.layers == 4
    assert shallow.prompt == cut.prompt
    np.testing.assert_array_equal(shallow.score, cut.score)


def test_up_to_is_a_hunt_with_max_layer(features: NDArray[np.float32]) -> None:
    full = hunt(features, LABELS, PROMPTS, Selection(top_k=2))
    again = hunt(features, LABELS, PROMPTS, Selection(top_k=2, max_layer=3))
    assert full.up_to(3).experts == again.experts
    assert full.up_to(3).prompt == again.prompt
    assert full.up_to(5).experts == full.experts


@given(seed=st.integers(0, 500), top_k=st.integers(1, 12), penalty=st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_experts_are_the_best_by_rss_and_ties_go_to_the_lower_head(seed: int, top_k: int, penalty: float) -> None:
    raw = uniform_saliency(seed, 2, 3, 4)
    coarse = Saliency(**{name: np.round(metric * 2) for name, metric in raw.items()})  # many ties
    found = select(coarse, PROMPTS[:2], D, Selection(top_k=top_k, penalty=penalty))
    by_hand = sorted((-found.rss[layer, head], layer, head) for layer in range(3) for head in range(4))
    assert refs(found) == [HeadRef(layer, head) for _, layer, head in by_hand[:top_k]]


def test_where_nothing_is_told_apart_the_first_heads_and_the_first_prompt_win() -> None:
    features = np.ones((N, 2, 2, 3, 4), dtype=np.float32)
    found = hunt(features, LABELS, ("b", "a"), Selection(top_k=4))
    assert refs(found) == [HeadRef(0, 0), HeadRef(0, 1), HeadRef(0, 2), HeadRef(1, 0)]
    assert [expert.rss for expert in found.experts] == [0.0] * 4
    assert found.prompt == "b"


def test_the_same_hunt_twice_is_the_same(features: NDArray[np.float32]) -> None:
    once, twice = (hunt(features, LABELS, PROMPTS) for _ in range(2))
    assert once.experts == twice.experts
    np.testing.assert_array_equal(once.score, twice.score)


# ---- what it refuses


def test_a_value_that_is_not_finite_is_named(features: NDArray[np.float32]) -> None:
    features[7, 2, 3, 5, 1] = np.inf
    videos = [f"clip{n}.mp4" for n in range(N)]
    with pytest.raises(FeatureError, match=r"'clip7.mp4', prompt 'yes-no', layer 3, head 5: 1 feature value"):
        hunt(features, LABELS, PROMPTS, videos=videos)
    with pytest.raises(FeatureError, match="video 7, prompt"):
        hunt(features, LABELS, PROMPTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 43}, "43 experts .* 42 heads"),
        ({"top_k": 15, "max_layer": 1}, "15 experts .* 14 heads"),
        ({"top_k": 0}, "top_k 0"),
        ({"max_layer": 6}, "max_layer 6 .* 0 to 5"),
        ({"max_layer": -1}, "max_layer -1"),
        ({"penalty": -0.1}, "penalty -0.1"),
        ({"penalty": float("nan")}, "penalty nan"),
        ({"penalty": float("inf")}, "penalty inf"),
        ({"prompt": "poetic"}, "'poetic' is unknown.*'coarse', 'detailed', 'yes-no'"),
    ],
)
def test_arguments_out_of_range(features: NDArray[np.float32], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hunt(features, LABELS, PROMPTS, Selection(**arguments))


def test_all_heads_may_be_experts(features: NDArray[np.float32]) -> None:
    assert len(hunt(features, LABELS, PROMPTS, Selection(top_k=L * H)).experts) == L * H


def test_shapes_that_disagree(features: NDArray[np.float32]) -> None:
    with pytest.raises(FeatureError, match="0 anomalous"):
        hunt(features, np.zeros(N, dtype=np.bool_), PROMPTS)
    with pytest.raises(FeatureError, match=r"expected bool \(24,\)"):
        hunt(features, LABELS[1:], PROMPTS)
    with pytest.raises(FeatureError, match="2 prompt names"):
        hunt(features, LABELS, PROMPTS[:2])
    with pytest.raises(FeatureError, match=r"3 prompt names \(2 different\)"):
        hunt(features, LABELS, ("a", "b", "a"))
    with pytest.raises(FeatureError, match="1 video names"):
        hunt(features, LABELS, PROMPTS, videos=["a.mp4"])
    with pytest.raises(FeatureError, match=r"float32 \(24, 3, 6, 7\)"):
        hunt(features[..., 0], LABELS, PROMPTS)
    with pytest.raises(FeatureError, match="int32"):
        hunt(features.astype(np.int32), LABELS, PROMPTS)


def test_heads_and_experts_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="start at 0"):
        HeadRef(-1, 0)
    with pytest.raises(ValueError, match="start at 0"):
        Expert(0, -2, 0.5)
    with pytest.raises(ValueError, match="rss is nan"):
        Expert(0, 0, float("nan"))
    assert sorted([HeadRef(1, 0), HeadRef(0, 9)]) == [HeadRef(0, 9), HeadRef(1, 0)]


# ---- the file


def test_the_file_has_the_documented_form_and_comes_back_equal(features: NDArray[np.float32], tmp_path: Path) -> None:
    found = hunt(features, LABELS, PROMPTS)
    path = tmp_path / "hunt.json"
    write_hunt(found, path)
    content = json.loads(path.read_text())
    assert list(content) == [
        "layers",
        "heads",
        "head_dim",
        "prompts",
        "penalty",
        "saliency",
        "score",
        "rss",
        "experts",
    ]
    assert list(content["saliency"]) == ["lda", "kl", "mmd", "nmi"]
    assert np.shape(content["saliency"]["nmi"]) == np.shape(content["score"]) == (3, L, H)
    assert list(content["experts"][0]) == ["layer", "head", "rss"]
    assert list(tmp_path.iterdir()) == [path]

    back = read_hunt(path)
    assert back.experts == found.experts
    assert (back.prompt, back.prompts, back.penalty) == (found.prompt, found.prompts, found.penalty)
    for (_, ours), (_, theirs) in zip(found.saliency.items(), back.saliency.items(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back.score, found.score)
    np.testing.assert_array_equal(back.rss, found.rss)


def test_a_prompt_named_by_hand_is_named_again(tmp_path: Path) -> None:
    path = tmp_path / "hunt.json"
    write_hunt(select(uniform_saliency(0, 3, 2, 4), PROMPTS, D), path)
    for name in PROMPTS:
        assert read_hunt(path, prompt=name).prompt == name
    with pytest.raises(UsageError, match="unknown"):
        read_hunt(path, prompt="poetic")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hunt.json"
    path.write_text("before")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OutputFailed, match="No space left"):
        write_hunt(select(uniform_saliency(0, 3, 2, 4), PROMPTS, D), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputFailed, match="nowhere"):
        write_hunt(select(uniform_saliency(0, 3, 2, 4), PROMPTS, D), tmp_path / "nowhere" / "hunt.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("rss"), "'rss' is missing"),
        (lambda c: c.update(layers=9), r"\(3, 9, 4\)"),
        (lambda c: c["rss"].pop(), "parts disagree"),
        (lambda c: c["saliency"]["kl"][0].pop(), "hunt again"),
        (lambda c: c["experts"][0].update(rss=0.125), "the map says"),
        (lambda c: c["experts"][0].update(layer=7), "outside 2 x 4"),
        (lambda c: c["experts"].append(c["experts"][0]), "none of them twice"),
        (lambda c: c["score"][0][0].__setitem__(0, None), "not finite|hunt again"),
        (lambda c: c.update(prompts=["a", "a", "b"]), "each named once"),
        (lambda c: c.update(experts=[]), "at least one"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "hunt.json"
    write_hunt(select(uniform_saliency(0, 3, 2, 4), PROMPTS, D), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(FeatureError, match=f"hunt.json: .*({message})"):
        read_hunt(path)


def test_a_file_that_is_no_hunt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hunt.json"
    with pytest.raises(FeatureError, match="cannot be read"):
        read_hunt(path)
    for text, message in (("{", "not JSON"), ("[]", "hunt again"), ('{"layers": 1}', "missing")):
        path.write_text(text)
        with pytest.raises(FeatureError, match=message):
            read_hunt(path)
