"""Pictures in planes: the pixels of the same picture as a camera's, whatever its memory looks like; never guessed."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import PixelSpec, prepare
from edge_runtime.stream.planes import I420, Nv12

COLORS = [("bt601", "limited"), ("bt601", "full"), ("bt709", "limited"), ("bt709", "full")]
LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def scene(height, width, seed=0):
    """Luma and chroma as in natural pictures: most of it can be shown, none of it is flat."""
    rng = np.random.default_rng(seed)
    half = (height + 1) // 2, (width + 1) // 2
    y = rng.integers(60, 190, (height, width), dtype=np.uint8)
    return y, rng.integers(110, 146, half, dtype=np.uint8), rng.integers(110, 146, half, dtype=np.uint8)


def side_by_side(u, v):
    return np.stack([u, v], axis=-1)


def by_the_standard(y, u, v, matrix, color_range):
    """ITU-R BT.601 and BT.709 in floating point, each chroma sample for its four pixels."""
    red, blue = LUMA[matrix]
    rows, columns = y.shape
    u, v = (np.repeat(np.repeat(plane.astype(float), 2, 0), 2, 1)[:rows, :columns] - 128 for plane in (u, v))
    y = y.astype(float)
    if color_range == "limited":
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([b, g, r], axis=-1), 0, 255)


def by_a_camera(y, u, v, matrix, color_range):
    """What the network cameras' reader makes of a frame from the decoder."""
    frame = VideoFrame(y.shape[1], y.shape[0], "yuv420p")
    for plane, values in zip(frame.planes, (y, u, v), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    frame.colorspace = {"bt601": 5, "bt709": 1}[matrix]
    frame.color_range = {"limited": 1, "full": 2}[color_range]
    return frame.reformat(format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray()


@pytest.mark.parametrize(("matrix", "color_range"), COLORS)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 99))
def test_planes_give_the_pixels_that_a_camera_gives(matrix, color_range, height, width, seed):
    y, u, v = scene(height, width, seed)
    said = {"matrix": matrix, "color_range": color_range}
    camera = by_a_camera(y, u, v, matrix, color_range)
    for picture in (Nv12(y, side_by_side(u, v), **said), I420(y, u, v, **said)):
        assert np.array_equal(picture.to_bgr(), camera)
        for interpolation in ("area", "bicubic"):
            spec = PixelSpec(size=24, interpolation=interpolation)
            assert np.array_equal(prepare(picture, spec), prepare(camera, spec))


@pytest.mark.parametrize(("matrix", "color_range"), COLORS)
@pytest.mark.parametrize("size", [(48, 64), (48, 80), (270, 482)])
def test_they_are_those_of_the_standard_within_ffmpegs_rounding(matrix, color_range, size):
    y, u, v = scene(*size)
    pixels = I420(y, u, v, matrix=matrix, color_range=color_range).to_bgr().astype(float)
    apart = np.abs(pixels - by_the_standard(y, u, v, matrix, color_range))
    assert apart.max() < 4
    assert apart.mean() < 1.5


def test_a_wrong_range_or_matrix_would_show():
    """Why neither has a default."""
    y, u, v = scene(48, 64)
    right = I420(y, u, v, matrix="bt601", color_range="limited").to_bgr().astype(int)
    for matrix, color_range in COLORS[1:]:
        other = I420(y, u, v, matrix=matrix, color_range=color_range).to_bgr().astype(int)
        assert np.abs(right - other).max() > 4


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    padding=st.integers(0, 9),
    before=st.integers(0, 9),
    kind=st.sampled_from(["bytes", "bytearray", "memoryview", "ctypes"]),
)
def test_memory_with_padded_rows_is_looked_at_as_it_lies(height, width, padding, before, kind):
    y, u, v = scene(height, width)
    rows, columns = u.shape
    said = {"matrix": "bt709", "color_range": "full"}
    expected = I420(y, u, v, **said).to_bgr()

    def laid_out(*planes):
        """Planes behind one another, rows padded, as bytes, and where each begins."""
        data, offsets = b"", []
        for plane in planes:
            data += b"\xee" * before
            offsets.append(len(data))
            data += np.pad(plane, ((0, 0), (0, padding)), constant_values=0xEE).tobytes()
        return data, offsets

    def of_kind(data):
        kinds = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}
        return (ctypes.c_ubyte * len(data)).from_buffer_copy(data) if kind == "ctypes" else kinds[kind](data)

    data, (luma, *offsets) = laid_out(y, u, v)
    data, offsets = data[luma:], [offset - luma for offset in offsets]
    three = I420.from_buffer(
        of_kind(data),
        width,
        height,
        stride=width + padding,
        chroma_stride=columns + padding,
        offsets=tuple(offsets),
        **said,
    )
    assert np.array_equal(three.to_bgr(), expected)
    data, (luma, offset) = laid_out(y, side_by_side(u, v).reshape(rows, 2 * columns))
    two = Nv12.from_buffer(
        of_kind(data[luma:]),
        width,
        height,
        stride=width + padding,
        uv_stride=2 * columns + padding,
        uv_offset=offset - luma,
        **said,
    )
    assert np.array_equal(two.to_bgr(), expected)


def test_without_strides_planes_lie_behind_one_another():
    y, u, v = scene(11, 7)
    said = {"matrix": "bt601", "color_range": "limited"}
    expected = I420(y, u, v, **said).to_bgr()
    data = y.tobytes() + u.tobytes() + v.tobytes()
    assert np.array_equal(I420.from_buffer(data, 7, 11, **said).to_bgr(), expected)
    data = y.tobytes() + side_by_side(u, v).tobytes()
    assert np.array_equal(Nv12.from_buffer(data, 7, 11, **said).to_bgr(), expected)


def test_chroma_may_be_flat_or_in_pairs():
    y, u, v = scene(10, 12)
    pairs = side_by_side(u, v)
    said = {"matrix": "bt601", "color_range": "limited"}
    assert np.array_equal(Nv12(y, pairs, **said).to_bgr(), Nv12(y, pairs.reshape(5, 12), **said).to_bgr())


Y, U, V = scene(10, 12)
PAIRS = side_by_side(U, V)
GOOD = {"matrix": "bt601", "color_range": "limited"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Nv12(Y, PAIRS, matrix="bt2020", color_range="limited"), "matrix must be bt601 or bt709"),
        (lambda: Nv12(Y, PAIRS, matrix="bt601", color_range="tv"), "color_range must be limited or full, got 'tv'"),
        (lambda: Nv12(Y.astype(np.uint16), PAIRS, **GOOD), "y must be uint8 of shape"),
        (lambda: Nv12(Y[..., None], PAIRS, **GOOD), "y must be uint8 of shape"),
        (lambda: Nv12(b"...", PAIRS, **GOOD), "got bytes"),
        (lambda: Nv12(Y[:0], PAIRS, **GOOD), "y must be"),
        (lambda: Nv12(Y, PAIRS[:4], **GOOD), r"uv of a picture of 12 x 10 must be uint8 of shape \(5, 6, 2\)"),
        (lambda: Nv12(Y, None, **GOOD), "got NoneType"),
        (lambda: I420(Y, U, V[:, :5], **GOOD), r"v of a picture of 12 x 10 must be uint8 of shape \(5, 6\)"),
        (lambda: I420(Y, U.astype(float), V, **GOOD), "u of a picture"),
        (lambda: Nv12.from_buffer(bytes(179), 12, 10, **GOOD), "the buffer has 179 bytes"),
        (lambda: Nv12.from_buffer(bytes(180), 12, 10, stride=11, **GOOD), "12 bytes, 11 apart"),
        (lambda: Nv12.from_buffer(bytes(180), 12, 10, uv_offset=-1, **GOOD), "from byte -1"),
        (lambda: I420.from_buffer(bytes(180), 0, 10, **GOOD), "at least one pixel"),
        (lambda: I420.from_buffer("text", 12, 10, **GOOD), "one contiguous buffer"),
        (lambda: I420.from_buffer(memoryview(bytes(360))[::2], 12, 10, **GOOD), "one contiguous buffer"),
    ],
)
def test_what_is_no_picture_is_refused(make, message):
    with pytest.raises(InvalidFrame, match=message):
        make()


def test_matrix_and_range_have_to_be_said():
    with pytest.raises(TypeError, match="matrix"):
        Nv12(Y, PAIRS, color_range="limited")
    with pytest.raises(TypeError, match="color_range"):
        I420(Y, U, V, matrix="bt601")


def test_planes_have_no_order_of_channels():
    with pytest.raises(InvalidFrame, match="leave color out"):
        prepare(Nv12(Y, PAIRS, **GOOD), PixelSpec(size=8), "rgb")


def test_threads_do_not_share_a_converter():
    sizes = [(48, 64), (51, 33), (2, 2), (120, 160)]
    pictures = [I420(*scene(*size), **GOOD) for size in sizes]
    expected = [picture.to_bgr() for picture in pictures]
    wrong = []

    def work():
        for _ in range(30):
            for picture, pixels in zip(pictures, expected, strict=True):
                if not np.array_equal(picture.to_bgr(), pixels):
                    wrong.append(picture)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_stream_scores_planes_as_it_scores_the_same_picture(bundle):
    from edge_runtime import Detector

    with Detector(bundle, provider="cpu", self_test=False) as detector:
        said = []
        for way in ("planes", "bgr"):
            stream = detector.stream("gate", clock="frames")
            records = []
            for number in range(bundle.manifest.segment.frames):
                y, u, v = scene(60, 80, number)
                camera = by_a_camera(y, u, v, "bt709", "limited")
                uv = side_by_side(u, v)
                records += stream.push(
                    Nv12(y, uv, matrix="bt709", color_range="limited") if way == "planes" else camera, number / 15
                )
                # The memory is the caller's again.
                y[:], uv[:] = 0, 0
            said.append([record.to_json() for record in records + stream.flush()])
        assert said[0] == said[1]
        assert any('"type":"segment"' in line for line in said[0])
