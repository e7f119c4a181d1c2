"""How much pictures differ: the definition, and what must not average out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.stream.difference import block_difference, check_levels
from edge_runtime.stream.pixels import UInt8Array


def by_definition(one: UInt8Array, other: UInt8Array) -> float:
    _, height, width, _ = one.shape
    apart = np.abs(one.astype(np.float64) - other)
    return max(
        float(frame[y : y + 16, x : x + 16].mean())
        for frame in apart
        for y in range(0, height, 16)
        for x in range(0, width, 16)
    )


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 50), st.integers(1, 50), st.just(3)),
    seed=st.integers(0, 2**32 - 1),
    most=st.integers(0, 255),
)
def test_it_is_the_largest_mean_of_any_block(shape: tuple[int, int, int, int], seed: int, most: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.integers(0, most + 1, shape, dtype=np.uint8) for _ in range(2))
    assert block_difference(one, other) == block_difference(other, one) == by_definition(one, other)
    assert block_difference(one, one.copy()) == 0


@given(size=st.integers(1, 70), row=st.integers(0, 69), column=st.integers(0, 69), channel=st.integers(0, 2))
def test_no_pixel_is_overlooked(size: int, row: int, column: int, channel: int) -> None:
    one = np.full((1, size, size, 3), 100, np.uint8)
    other = one.copy()
    other[0, row % size, column % size, channel] += 1
    assert block_difference(one, other) >= 1 / (16 * 16 * 3)


@pytest.mark.parametrize("place", [(0, 0), (200, 311), (432, 432)])
def test_a_small_square_in_a_large_picture_counts_whole(place: tuple[int, int]) -> None:
    """A person of 16 x 16 pixels changes the whole picture by a tenth of a grey level on average, wherever it is."""
    still = np.full((1, 448, 448, 3), 90, np.uint8)
    passed = still.copy()
    row, column = place
    passed[0, row : row + 16, column : column + 16] += 80
    assert np.abs(passed.astype(int) - still).mean() < 0.11
    # At worst the square lies on the corner of four blocks.
    assert block_difference(still, passed) >= 80 / 4


def test_no_frame_of_a_group_is_overlooked() -> None:
    one = np.zeros((2, 32, 32, 3), np.uint8)
    other = one.copy()
    other[1, -1, -1] = 255
    assert block_difference(one, other) == pytest.approx(255 / 256)


@pytest.mark.parametrize("levels", [-1, -0.001, 255.5, math.nan, math.inf, -math.inf, "2", None, True])
def test_what_is_no_bound_is_refused_in_one_line(levels: object) -> None:
    with pytest.raises(UsageError, match=r"from 0 .* to 255, got") as caught:
        check_levels(levels)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [0, 2, 0.5, 255])
def test_a_bound_is_taken_as_it_is(levels: float) -> None:
    assert check_levels(levels) == levels
