"""The model's own answer: probabilities of its first token, against a plain softmax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from oracle import seeing

from models.families.internvl import InternVL
from models.loading import load
from models.prompts import PROMPTS
from offline.ablation.textual import NO, YES, Speaker, TextualAnswer, token_ids, yes_against_no


@pytest.fixture(scope="module")
def mllm(tmp_path_factory: pytest.TempPathFactory) -> InternVL:
    found = load(str(write_checkpoint(tmp_path_factory.mktemp("speaker") / "model", Shape())), "cpu")
    assert isinstance(found, InternVL)
    return found


class _Tokenizer:
    """Knows some words as one token each; spells all others in two."""

    def __init__(self, words: dict[str, int], unknown: int | None = None) -> None:
        self._words, self.unk_token_id = words, unknown

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [self._words[text]] if text in self._words else [90, 91]}


def test_casings_count_together_and_foreign_tokens_do_not() -> None:
    tokenizer = _Tokenizer({"yes": 7, "Yes": 3, " yes": 3, " Yes": 0}, unknown=0)
    assert token_ids(tokenizer, YES) == (3, 7)
    assert token_ids(tokenizer, NO) == ()
    # Without an unknown token, id 0 is a word like any other.
    assert token_ids(_Tokenizer({"no": 0}), NO) == (0,)


def test_probabilities_are_those_of_a_softmax(mllm: InternVL) -> None:
    assert isinstance(mllm, Speaker)
    asked = TextualAnswer(mllm, PROMPTS[:2], seeing(3))
    assert set(asked.yes).isdisjoint(asked.no)
    size = mllm.pixels.size
    frames = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    answers = asked.extract([frames])[0]
    assert answers.shape == (2, 2)
    for prompt, answer in zip(PROMPTS[:2], answers, strict=True):
        with torch.inference_mode():
            logits = mllm.plain(**mllm.plain_inputs(frames[None], prompt, seeing(3)), logits_to_keep=1).logits[0, -1]
        chances = logits.double().softmax(-1).numpy()
        yes, no = chances[list(asked.yes)].sum(), chances[list(asked.no)].sum()
        assert np.exp(answer) == pytest.approx([yes, no], rel=1e-4)
        assert yes_against_no(answer) == pytest.approx(yes / (yes + no), rel=1e-4)


def test_model_without_such_words_is_refused(mllm: InternVL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllm, "_tokenizer", _Tokenizer({"yes": 1}))
    with pytest.raises(ValueError, match="no single token for 'no'"):
        TextualAnswer(mllm, PROMPTS, seeing(3))


def test_identity_changes_with_what_is_asked(mllm: InternVL) -> None:
    one, two = (TextualAnswer(mllm, PROMPTS[:count], seeing(3)).identity for count in (1, 2))
    assert one != two
    assert one != TextualAnswer(mllm, PROMPTS[:1], seeing(4)).identity


@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_yes_against_no_is_a_probability(yes: float, no: float) -> None:
    first, second = yes_against_no(np.array([[yes, no], [no, yes]]))
    assert 0 <= first <= 1
    assert first + second == pytest.approx(1)
    assert (first > 0.5) <= (yes > no)


def test_folder_is_not_needed_twice(mllm: InternVL, tmp_path: Path) -> None:
    """The same model elsewhere is the same extractor, so that its answers are found again."""
    other = load(str(write_checkpoint(tmp_path / "copy", Shape())), "cpu")
    assert isinstance(other, InternVL)
    one, same = (TextualAnswer(model, PROMPTS, seeing(3)).identity for model in (mllm, other))
    assert one == same
