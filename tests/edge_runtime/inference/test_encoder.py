"""Each group of frames encoded once: recognised by its pixels, in whatever order and however often it comes."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import FloatArray
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
