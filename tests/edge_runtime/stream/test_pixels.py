"""Pixels: whatever array a caller has, the same picture; whatever is no picture, refused."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import PixelSpec, check_frame, prepare

SPEC = PixelSpec(size=24)
SMOOTH = [PixelSpec(size=(24, 60), interpolation="bicubic"), PixelSpec(size=60, interpolation="bilinear")]
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
@pytest.mark.parametrize("spec", [SPEC, PixelSpec(size=60), *SMOOTH], ids=str)
def test_the_layout_in_memory_makes_no_difference(lay_out, color, spec):
    frame = lay_out(FRAME[:, :60])
    pixels = prepare(frame, spec, color)
    assert np.array_equal(pixels, prepare(FRAME[:, :60].copy(), spec, color))
    assert type(pixels) is np.ndarray
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert not np.shares_memory(pixels, frame)


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic"])
def test_against_opencv(interpolation):
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    expected = cv2.resize(FRAME[..., ::-1].copy(), (24, 24), interpolation=flag)
    assert np.array_equal(prepare(FRAME, PixelSpec(size=24, interpolation=interpolation)), expected)


@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 99))
@example(height=90, width=120, seed=0)
@example(height=96, width=100, seed=0)
def test_area_is_opencvs_up_to_one_grey_level_and_mostly_equal(height, width, seed):
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = cv2.resize(frame, (24, 24), interpolation=cv2.INTER_AREA).astype(int)
    apart = np.abs(prepare(frame, SPEC, "rgb") - expected)
    assert apart.max() <= 1
    assert (apart == 0).mean() > 0.75


@pytest.mark.parametrize("size", [(24, 24), (60, 80), (90, 31), (61, 200)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "lanczos"])
def test_against_pillow(kind, size):
    picture = Image.fromarray(FRAME[..., ::-1].copy())
    expected = np.asarray(picture.resize(size[::-1], Image.Resampling[kind.upper()]))
    assert np.array_equal(prepare(FRAME, PixelSpec(size=size, interpolation=kind)), expected)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "lanczos"])
def test_smoothing_interpolations_leave_no_false_pattern_of_a_fine_one(kind):
    """Stripes of one pixel shrunk to a seventh: OpenCV's cubic takes single pixels and shows stripes of its own."""
    stripes = np.zeros((700, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(prepare(stripes, PixelSpec(size=100, interpolation=kind))[:, 5:-5]) <= 10
    assert np.ptp(prepare(stripes, PixelSpec(size=101, interpolation="cubic"))[:, 5:-5]) > 100


@pytest.mark.parametrize(
    ("shape", "size"), [((60, 80), (12, 16)), ((80, 60), (16, 12)), ((50, 80), (10, 16)), ((3, 900), (1, 16))]
)
def test_frames_go_through_their_longest_edge_in_proportion(shape, size):
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    between = prepare(frame, PixelSpec(size=size, interpolation="bicubic"))
    expected = prepare(between, PixelSpec(size=24, interpolation="bicubic"), "rgb")
    found = prepare(frame, PixelSpec(size=24, interpolation="bicubic", longest_edge=16))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, prepare(frame, PixelSpec(size=24, interpolation="bicubic")))


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    color=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    spec=st.sampled_from([SPEC, *SMOOTH, PixelSpec(size=24, interpolation="bicubic", longest_edge=64)]),
)
def test_any_size_keeps_a_plain_colour_and_its_channels(height, width, color, spec):
    frame = np.full((height, width, 3), color, np.uint8)
    assert (prepare(frame, spec, "rgb") == color).all()
    assert (prepare(frame, spec, "bgr") == color[::-1]).all()


@pytest.mark.parametrize("spec", [SPEC, PixelSpec(size=24, interpolation="bicubic", longest_edge=8192)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70_000), (70_000, 1), (4000, 6000)])
def test_extreme_sizes(shape, spec):
    assert prepare(np.zeros((*shape, 3), np.uint8), spec).shape == (24, 24, 3)


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


def test_the_way_of_resizing_in_words():
    assert SPEC.resizing == "area"
    assert PixelSpec(size=24, interpolation="lanczos", longest_edge=64).resizing.startswith("lanczos by way of")


def test_smaller_frames_are_not_enlarged_to_their_longest_edge():
    direct = PixelSpec(size=24, interpolation="bicubic")
    assert np.array_equal(prepare(FRAME, msgspec.structs.replace(direct, longest_edge=80)), prepare(FRAME, direct))
    assert not np.array_equal(
        prepare(FRAME, msgspec.structs.replace(direct, longest_edge=79)), prepare(FRAME, direct)
    )


@pytest.mark.parametrize("edge", [0, -1, 8193])
def test_a_longest_edge_that_is_none_is_refused(edge):
    with pytest.raises(ValueError, match=r"pixels\.longest_edge"):
        PixelSpec(size=24, longest_edge=edge)
