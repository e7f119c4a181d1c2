"""The model's own answer in words: how likely its first token is "yes" against "no".

What the hunt must beat: the same model, asked outright. Every prompt is taken to mean "yes" as anomalous.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from edge_runtime.stream.segments import SegmentSpec
from models.prompts import Prompt
from offline.data.cache import Arrays

YES = ("yes", "Yes", "YES", " yes", " Yes", " YES")
NO = ("no", "No", "NO", " no", " No", " NO")


@runtime_checkable
class Speaker(Protocol):
    """A model that can be asked for its first answer token."""

    def identity(self, prompts: Sequence[Prompt], segment: SegmentSpec) -> dict[str, Any]:
        """See Mllm."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, as transformers has it."""

    def first_token_logits(
        self, frames: NDArray[np.uint8], prompts: Sequence[Prompt], segment: SegmentSpec
    ) -> NDArray[np.float32]:
        """Ask M questions about frames uint8 (F, H, W, 3); gives logits (M, vocabulary)."""


def token_ids(tokenizer: Any, words: Sequence[str]) -> tuple[int, ...]:
    """Find the ids of those spellings that are one token of their own, sorted; maybe none."""
    ids = set()
    for word in words:
        found = [int(token) for token in tokenizer(word, add_special_tokens=False)["input_ids"]]
        # A spelling in several tokens begins like other words; the unknown token means any word.
        if len(found) == 1 and found[0] != tokenizer.unk_token_id:
            ids.add(found[0])
    return tuple(sorted(ids))


class TextualAnswer:
    """Log-probabilities of "yes" and of "no" at the first answer token, under every prompt: (M, 2) a unit.

    All spellings that are one token count together.

    Raises:
        ValueError: The tokenizer has no such words; says which.
    """

    units_at_once = 1

    def __init__(self, mllm: Speaker, prompts: Sequence[Prompt], segment: SegmentSpec) -> None:
        self.mllm = mllm
        self.segment = segment
        self.prompts = tuple(prompts)
        self._model = mllm.identity(prompts, segment)
        self.yes, self.no = token_ids(mllm.tokenizer, YES), token_ids(mllm.tokenizer, NO)
        for word, ids in (("yes", self.yes), ("no", self.no)):
            if not ids:
                raise ValueError(f"the tokenizer has no single token for {word!r} in any casing")

    @property
    def identity(self) -> dict[str, Any]:
        """See offline.extraction.extract.Extractor."""
        return self._model | {"answers": [list(self.yes), list(self.no)]}

    def extract(
        self,
        units: Iterable[NDArray[np.uint8]],
        progress: Callable[[int, int], None] | None = None,
    ) -> Sequence[NDArray[np.float32]]:
        """See offline.extraction.extract.Extractor."""
        return [self._answers(frames) for frames in units]

    def maker(self) -> Callable[[Any], TextualAnswer]:
        """Give what makes the same extractor of a model, on a worker."""
        return functools.partial(TextualAnswer, prompts=self.prompts, segment=self.segment)

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """See offline.extraction.extract.Extractor."""
        return find(self.identity)

    def _answers(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self.mllm.first_token_logits(frames, self.prompts, self.segment).astype(np.float64)
        total = logsumexp(logits, axis=-1)
        answers = [logsumexp(logits[:, list(ids)], axis=-1) - total for ids in (self.yes, self.no)]
        return np.stack(answers, axis=-1).astype(np.float32)


def yes_against_no(answers: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute P(yes) / (P(yes) + P(no)), in 0..1, from log-probabilities (..., 2), yes first."""
    log_odds = answers[..., 0].astype(np.float64) - answers[..., 1]
    return np.asarray(expit(log_odds), dtype=np.float64)
