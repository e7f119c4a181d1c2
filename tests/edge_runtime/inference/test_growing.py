"""A stream's running segment in the decoder: whatever was expected of it, its end gives what all of it would."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import GrowingSpec, TensorSpec
from edge_runtime.errors import InferenceFailed, UsageError
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import FloatArray, require_growing
from edge_runtime.inference.growing import GrowingEngine, GrowingSequence
from edge_runtime.stream.pixels import UInt8Array

# Two tokens of three values a group, a run of text before each, and a question of two positions.
T, D = 2, 3
ENDS = [3, 6, 10, 15]
SPEC = GrowingSpec(
    file="growing.onnx",
    precision="fp32",
    inputs=[
        TensorSpec(name="tokens", dtype="float32", shape=["batch", "visual", D]),
        TensorSpec(name="positions", dtype="int64", shape=["added"]),
        TensorSpec(name="state", dtype="float32", shape=["batch", "known", 1]),
    ],
    outputs=[],
    ends=ENDS,
)


class Summing:
    """A decoder whose state is the sum of a group's tokens at its first position; features weigh them by position."""

    provider = "cpu"

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.broken = False

    def tokens(self, frames: UInt8Array) -> FloatArray:
        return frames[:, :, 0, :T, :].reshape(1, -1, D).astype(np.float32)

    def grow(
        self, tokens: FloatArray, positions: NDArray[np.int64], state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        assert positions[0] == state.shape[1]
        if self.broken:
            raise InferenceFailed("the graphs failed")
        self.positions += positions.tolist()
        grown = np.zeros((1, len(positions), 1), np.float32)
        places = [int(start - positions[0]) for start in (0, *ENDS[:-1]) if positions[0] <= start <= positions[-1]]
        grown[0, places, 0] = tokens.reshape(len(places), -1).sum(axis=1)
        return self.weigh(np.concatenate([state, grown], axis=1)), grown

    def weigh(self, state: FloatArray) -> FloatArray:
        return (state[0, :, 0] * np.arange(1, state.shape[1] + 1)).sum().reshape(1, 1).astype(np.float32)

    def language(self, tokens: FloatArray) -> FloatArray:
        return self.grow(tokens, np.arange(ENDS[-1]), np.zeros((1, 0, 1), np.float32))[0]

    def features(self, frames: UInt8Array) -> FloatArray:
        return self.language(self.tokens(frames))

    def abandon(self) -> None: ...

    def close(self) -> None: ...


def pictures(levels: tuple[int, ...]) -> UInt8Array:
    return np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])


def sequence() -> GrowingSequence:
    return GrowingSequence(FrameEncoder(1, 8), SPEC, T)


def test_it_is_an_engine_of_that_kind() -> None:
    assert isinstance(Summing(), GrowingEngine)


SEGMENTS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=4)


@given(SEGMENTS, st.lists(st.integers(0, 4), min_size=4, max_size=4), st.data())
def test_what_was_shown_before_never_changes_the_features(
    segments: list[tuple[int, ...]], shown: list[int], data: st.DataObject
) -> None:
    engine, grown = Summing(), sequence()
    for levels, up_to in zip(segments, shown, strict=False):
        frames = list(pictures(levels))
        for count in range(1, up_to + 1):
            engine.broken = data.draw(st.booleans())
            with contextlib.suppress(InferenceFailed):
                grown.prepare(engine, frames[:count])
        engine.broken = False
        # Most often what was expected; a segment that ends early is sampled anew.
        final = pictures(data.draw(st.sampled_from([levels, levels[::-1]])))[None]
        assert grown.features(engine, final) == Summing().features(final)


def test_a_segment_that_was_grown_costs_each_position_once_and_its_end_nothing() -> None:
    engine, grown = Summing(), sequence()
    frames = list(pictures((5, 6, 7, 8)))
    for count in range(5):
        grown.prepare(engine, frames[:count])
        assert engine.positions == list(range([0, *ENDS][count]))
    assert grown.features(engine, np.stack(frames)[None]) == Summing().features(np.stack(frames)[None])
    assert engine.positions == list(range(ENDS[-1]))


def test_only_what_differs_is_run_again() -> None:
    engine, grown = Summing(), sequence()
    grown.features(engine, pictures((5, 6, 7, 8))[None])
    engine.positions.clear()
    grown.features(engine, pictures((5, 6, 9, 8))[None])
    assert engine.positions == list(range(ENDS[1], ENDS[-1]))


def test_a_failure_leaves_what_was_before_and_the_end_runs_the_rest() -> None:
    engine, grown = Summing(), sequence()
    frames = list(pictures((5, 6, 7, 8)))
    grown.prepare(engine, frames[:1])
    engine.broken = True
    with pytest.raises(InferenceFailed):
        grown.prepare(engine, frames[:2])
    engine.broken = False
    # Nothing to build on: this one waits for the end.
    grown.prepare(engine, frames[:3])
    assert engine.positions == list(range(ENDS[0]))
    assert grown.features(engine, np.stack(frames)[None]) == Summing().features(np.stack(frames)[None])
    assert engine.positions == list(range(ENDS[-1]))


def test_features_that_are_no_numbers_are_a_failure() -> None:
    engine, grown = Summing(), sequence()
    engine.weigh = lambda state: np.full((1, 1), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(InferenceFailed, match="not finite"):
        grown.features(engine, pictures((1, 2, 3, 4))[None])


def test_an_engine_that_was_opened_without_it_says_so() -> None:
    assert require_growing(SPEC) is SPEC
    with pytest.raises(UsageError, match="growing=True"):
        require_growing(None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"ends": [3, 3]}, "must rise"), ({"ends": []}, "must rise"), ({"inputs": []}, "a state of")],
)
def test_a_manifest_that_cannot_be(changes: dict[str, object], said: str) -> None:
    stated = {"file": "growing.onnx", "precision": "fp32", "inputs": SPEC.inputs, "outputs": [], "ends": ENDS}
    with pytest.raises(ValueError, match=said):
        GrowingSpec(**(stated | changes))  # type: ignore[arg-type]
