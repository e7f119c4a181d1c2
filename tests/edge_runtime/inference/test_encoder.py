"""Each group of frames encoded once: recognised by its pixels, in whatever order and however often it comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import FloatArray
from edge_runtime.stream.difference import block_difference
from edge_runtime.stream.pixels import UInt8Array

T, D = 2, 3


class Counting:
    """Tokens that hold the group's own pixels, and how many groups were asked for, call by call."""

    def __init__(self, group: int = 1) -> None:
        self.group = group
        self.calls: list[int] = []
        self.broken = False

    def tokens(self, frames: UInt8Array) -> FloatArray:
        if self.broken:
            raise InferenceFailed("the graphs failed")
        groups = frames.reshape(-1, self.group, *frames.shape[2:])
        self.calls.append(len(groups))
        firsts = groups.reshape(len(groups), -1)[:, : T * D].astype(np.float32)
        return firsts.reshape(len(frames), -1, D)


def pictures(*levels: int) -> UInt8Array:
    return np.stack([np.full((4, 4, 3), level, np.uint8) for level in levels])


@pytest.mark.parametrize("group", [1, 2])
def test_frames_encoded_ahead_are_not_encoded_again(group: int) -> None:
    engine, encoder = Counting(group), FrameEncoder(group, 8)
    frames = pictures(1, 2, 3, 4)
    for known in range(1, 5):
        encoder.prepare(engine, list(frames[:known]))
    assert sum(engine.calls) == 4 // group
    found = encoder.tokens(engine, frames[None])
    assert sum(engine.calls) == encoder.encoded == 4 // group
    assert np.array_equal(found, Counting(group).tokens(frames[None]))


def test_equal_frames_are_one_and_others_than_expected_are_encoded() -> None:
    engine, encoder = Counting(), FrameEncoder(1, 8)
    encoder.prepare(engine, list(pictures(1, 1, 2)))
    assert engine.calls == [2]
    found = encoder.tokens(engine, pictures(1, 9, 1, 2)[None])
    assert engine.calls == [2, 1]
    assert np.array_equal(found, Counting().tokens(pictures(1, 9, 1, 2)[None]))


def test_the_newest_are_remembered() -> None:
    engine, encoder = Counting(), FrameEncoder(1, 2)
    encoder.tokens(engine, pictures(1, 2, 3)[None])
    encoder.tokens(engine, pictures(2, 3)[None])
    assert engine.calls == [3]
    encoder.tokens(engine, pictures(1, 3)[None])
    assert engine.calls == [3, 1]


def test_a_failure_leaves_nothing_behind() -> None:
    engine, encoder = Counting(), FrameEncoder(1, 4)
    engine.broken = True
    with pytest.raises(InferenceFailed):
        encoder.prepare(engine, list(pictures(1)))
    engine.broken = False
    encoder.tokens(engine, pictures(1)[None])
    assert engine.calls == [1]


# -- frames that did not change ------------------------------------------------------------------------------------


def reusing(levels: float, group: int = 1, groups: int = 1000) -> FrameEncoder:
    return FrameEncoder(group, groups, levels)


def encoded_of(found: FloatArray) -> list[int]:
    """Whose tokens each picture of one level took, by the level that `Counting` put into them."""
    return [int(level) for level in found[0, ::T, 0]]


@given(
    levels=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    bound=st.integers(0, 20),
    length=st.integers(1, 8),
)
def test_nothing_takes_the_tokens_of_what_differs_by_more(levels: list[int], bound: int, length: int) -> None:
    """Plain pictures differ by their levels: an oracle that anyone can compute."""
    engine, encoder = Counting(), reusing(bound)
    newest, known = None, {}
    for start in range(0, len(levels), length):
        part = levels[start : start + length]
        took = encoded_of(encoder.tokens(engine, pictures(*part)[None]))
        for level, lender in zip(part, took, strict=True):
            assert abs(level - lender) <= bound
            if level not in known:
                if newest is None or abs(level - newest) > bound:
                    newest = level
                known[level] = newest
            assert lender == known[level]
    assert encoder.encoded == sum(engine.calls) == len(set(known.values()))
    assert (encoder.asked, encoder.reused) == (len(levels), len(levels) - encoder.encoded)


@given(seed=st.integers(0, 2**32 - 1), noise=st.integers(0, 6), bound=st.floats(0, 6), group=st.sampled_from([1, 2]))
def test_noise_is_reused_exactly_where_the_definition_says(seed: int, noise: int, bound: float, group: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(100, 110, (1, 20, 20, 3))
    frames = (base + random.integers(-noise, noise + 1, (8, 20, 20, 3))).astype(np.uint8)
    engine, encoder = Counting(group), reusing(bound, group)
    found = encoder.tokens(engine, frames[None])
    pairs = frames.reshape(-1, group, 20, 20, 3)
    lenders = [0]
    for place in range(1, len(pairs)):
        same = next((j for j in range(place) if np.array_equal(pairs[j], pairs[place])), None)
        if same is not None:
            lenders.append(lenders[same])
        elif block_difference(pairs[max(lenders)], pairs[place]) <= bound:
            lenders.append(max(lenders))
        else:
            lenders.append(place)
    wanted = Counting(group).tokens(pairs[lenders].reshape(1, -1, 20, 20, 3))
    assert np.array_equal(found, wanted)


def test_whatever_is_new_in_a_segment_is_encoded_in_one_call() -> None:
    engine, encoder = Counting(), reusing(5)
    encoder.tokens(engine, pictures(0, 10, 20, 30)[None])
    encoder.tokens(engine, pictures(32, 50, 52, 70)[None])
    encoder.tokens(engine, pictures(71, 70, 74, 73)[None])
    assert engine.calls == [4, 2]


def test_a_slow_change_does_not_add_up() -> None:
    """A picture that brightens by one level a frame is encoded anew at every fourth, however slowly it comes."""
    engine, encoder = Counting(), reusing(3)
    took = encoded_of(encoder.tokens(engine, pictures(*range(100))[None]))
    assert took == [level - level % 4 for level in range(100)]
    assert encoder.encoded == 25


def test_a_still_scene_is_encoded_once_however_long_it_lasts() -> None:
    random = np.random.default_rng(0)
    engine, encoder = Counting(), FrameEncoder.of_stream(1, 4, 2)
    for _ in range(50):
        noise = random.integers(0, 3, (4, 20, 20, 3), dtype=np.uint8)
        encoder.tokens(engine, (noise + 90)[None])
    assert engine.calls == [1]
    assert (encoder.asked, encoder.reused) == (200, 199)


@pytest.mark.parametrize("group", [1, 2])
@given(levels=st.lists(st.integers(0, 30), min_size=12, max_size=12))
def test_encoding_ahead_reuses_what_encoding_together_does(group: int, levels: list[int]) -> None:
    together, ahead = (FrameEncoder.of_stream(group, 4, 4) for _ in range(2))
    engine = Counting(group)
    for start in range(0, 12, 4):
        frames = pictures(*levels[start : start + 4])
        for known in range(1, 5):
            ahead.prepare(engine, list(frames[:known]))
        assert np.array_equal(ahead.tokens(engine, frames[None]), together.tokens(engine, frames[None]))
    assert (ahead.encoded, ahead.asked, ahead.reused) == (together.encoded, together.asked, together.reused)


def test_a_failure_lends_no_tokens() -> None:
    engine, encoder = Counting(), reusing(5)
    encoder.tokens(engine, pictures(50)[None])
    engine.broken = True
    with pytest.raises(InferenceFailed):
        encoder.tokens(engine, pictures(51, 100, 102)[None])
    engine.broken = False
    assert encoded_of(encoder.tokens(engine, pictures(102, 51)[None])) == [102, 51]
    assert (encoder.asked, encoder.encoded) == (3, 3)


def test_identical_frames_take_tokens_at_zero_and_no_others() -> None:
    engine, encoder = Counting(), reusing(0)
    assert encoded_of(encoder.tokens(engine, pictures(7, 8, 7, 8, 8)[None])) == [7, 8, 7, 8, 8]
    assert encoder.encoded == 2


def test_tokens_that_are_not_finite_are_lent_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, encoder = Counting(), reusing(5)
    monkeypatch.setattr(engine, "tokens", lambda frames: np.full((1, T, D), np.nan, np.float32))
    with pytest.raises(InferenceFailed, match="not finite"):
        encoder.tokens(engine, pictures(50)[None])
    monkeypatch.undo()
    assert encoded_of(encoder.tokens(engine, pictures(51)[None])) == [51]
