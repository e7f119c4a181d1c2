"""The search for what stays: as little as is needed, the decoder before the tower, and never what is no number."""

from __future__ import annotations

import math

from export.precision.search import LIMITS, Noise, search

NOISE = Noise({"tower": 0.01, "projector": 0.03}, {"gate": 0.01, "down": 0.4, "sink": float("nan")})
EVERYTHING = frozenset({"tower", "projector", "gate", "down", "sink"})


def searched(cosines: dict[frozenset[str], float], other: float = 0.5) -> tuple[frozenset[str], list[frozenset[str]]]:
    tried: list[frozenset[str]] = []

    def attempt(kept: frozenset[str]) -> float:
        tried.append(kept)
        return cosines.get(kept, other)

    return search(NOISE, attempt, lambda _text: None), tried


def test_what_suffers_by_itself_is_never_rounded():
    kept, tried = searched({}, other=0.999)
    assert kept == {"down", "sink"}
    assert tried == [EVERYTHING, kept]


def test_the_decoder_is_given_back_before_the_tower():
    kept, tried = searched({EVERYTHING: 1.0, frozenset({"gate", "down", "sink"}): 0.995})
    assert kept == {"gate", "down", "sink"}
    assert tried[-1] == kept
    assert all("tower" not in one for one in tried[1:])


def test_where_nothing_passes_everything_stays_and_that_is_what_was_written_last():
    kept, tried = searched({EVERYTHING: 1.0})
    assert kept == tried[-1] == EVERYTHING
    assert len(tried) == len(set(tried)) + 1, "the first attempt is repeated at the end, and no other"


def test_what_bfloat16_loses_by_itself_is_not_held_against_int8():
    kept, _ = searched({EVERYTHING: 0.95}, other=0.91)
    assert kept == {"down", "sink"}


def test_not_a_number_never_passes():
    kept, _ = searched({EVERYTHING: 1.0}, other=math.nan)
    assert kept == EVERYTHING


def test_the_last_limits_keep_everything():
    assert NOISE.kept(LIMITS[-1], LIMITS[-1]) == EVERYTHING
