"""Pixels: whatever array a caller has, the same picture; whatever is no picture, refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import PixelSpec, check_frame, prepare

SPEC = PixelSpec(size=24)
FRAME = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def read_only(frame):
    frame = frame.copy()
    frame.setflags(write=False)
    return frame


@pytest.mark.parametrize(
    "lay_out",
    [
        read_only,
        np.asfortranarray,
        lambda frame: np.repeat(frame, 2, axis=1)[:, ::2],
        lambda frame: frame[::-1, ::-1].copy()[::-1, ::-1],
        lambda frame: frame[..., ::-1].copy()[..., ::-1],
        lambda frame: np.pad(frame, ((3, 3), (5, 5), (0, 0)))[3:-3, 5:-5],
        lambda frame: frame.view(np.ndarray).astype(">u1"),
        np.ma.masked_array,
    ],
)
@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [24, 60])
def test_the_layout_in_memory_makes_no_difference(lay_out, color, size):
    frame = lay_out(FRAME[:, :60])
    pixels = prepare(frame, PixelSpec(size=size), color)
    assert np.array_equal(pixels, prepare(FRAME[:, :60].copy(), PixelSpec(size=size), color))
    assert type(pixels) is np.ndarray
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert not np.shares_memory(pixels, frame)


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic"])
def test_against_opencv(interpolation):
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    expected = cv2.resize(FRAME[..., ::-1].copy(), (24, 24), interpolation=flag)
    assert np.array_equal(prepare(FRAME, PixelSpec(size=24, interpolation=interpolation)), expected)


@given(
    height=st.integers(1, 70), width=st.integers(1, 70), color=st.lists(st.integers(0, 255), min_size=3, max_size=3)
)
def test_any_size_keeps_a_plain_colour_and_its_channels(height, width, color):
    frame = np.full((height, width, 3), color, np.uint8)
    assert (prepare(frame, SPEC, "rgb") == color).all()
    assert (prepare(frame, SPEC, "bgr") == color[::-1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70_000), (70_000, 1), (4000, 6000)])
def test_extreme_sizes(shape):
    assert prepare(np.zeros((*shape, 3), np.uint8), SPEC).shape == (24, 24, 3)


@given(
    frame=st.one_of(
        arrays(np.uint8, array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5)),
        arrays(st.sampled_from([np.float32, np.int8, np.uint16, np.bool_]), st.just((4, 4, 3))),
        st.sampled_from([None, b"", [[[0, 0, 0]]], "frame", 7]),
    )
)
def test_what_is_no_colour_picture_is_refused(frame):
    is_picture = (
        isinstance(frame, np.ndarray)
        and frame.dtype == np.uint8
        and frame.ndim == 3
        and frame.shape[2] == 3
        and frame.size > 0
    )
    if is_picture:
        assert check_frame(frame) is frame
    else:
        with pytest.raises(InvalidFrame, match="a frame must be"):
            prepare(frame, SPEC)


@pytest.mark.parametrize("color", ["BGR", "gray", "", None])
def test_an_unknown_order_of_channels_is_not_guessed_at(color):
    with pytest.raises(InvalidFrame, match="bgr or rgb"):
        prepare(FRAME, SPEC, color)


@pytest.mark.parametrize("size", [0, -1, 8193])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"pixels\.size"):
        PixelSpec(size=size)
