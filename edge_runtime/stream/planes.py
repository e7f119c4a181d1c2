"""Pictures as decoders give them, in planes of luma and chroma (4:2:0): NV12 and I420, taken without a detour.

The pixels are those that `hh-edge` and OpenCV's VideoCapture make of the same decoded picture, to the bit: FFmpeg's
conversion from yuv420p, at full size, with each chroma sample taken for its four pixels. Whoever hands planes over
says which matrix and range they have: a wrong one shifts every colour, and nothing later can tell.
"""

from __future__ import annotations

import threading
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidFrame

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter
    from typing_extensions import Buffer  # in collections.abc from Python 3.12 on

#: What turns luma and chroma into red, green and blue: that of standard definition, or of high definition.
Matrix = Literal["bt601", "bt709"]
#: Luma from 16 to 235 (`limited`, what most cameras send), or from 0 to 255 (`full`, as JPEG).
ColorRange = Literal["limited", "full"]

UInt8Array = NDArray[np.uint8]

# FFmpeg's numbers for them (AVColorSpace: ITU-T H.273; AVColorRange).
_MATRICES = {"bt601": 5, "bt709": 1}
_RANGES = {"limited": 1, "full": 2}


@dataclass(frozen=True, slots=True, eq=False)
class Nv12:
    """A picture in two planes: luma, and chroma with its U and V side by side.

    The arrays are neither copied nor kept: their memory may be reused once `Stream.push` has returned.

    Attributes:
        y: Luma, uint8 (height, width); rows may be padded, as a view of a larger array is.
        uv: Chroma, uint8 (rows, columns, 2) or (rows, 2 · columns) with half the luma's rows and columns, rounded up.
        matrix: `bt601` or `bt709`, as the decoder says (FFmpeg: AVFrame.colorspace).
        color_range: `limited` or `full`, as the decoder says (FFmpeg: AVFrame.color_range).

    Raises:
        InvalidFrame: A plane has another shape or type, or there is no such matrix or range.
    """

    y: UInt8Array
    uv: UInt8Array
    _: KW_ONLY
    matrix: Matrix
    color_range: ColorRange

    def __post_init__(self) -> None:
        rows, columns = _check(self, self.y)
        if getattr(self.uv, "ndim", 0) == 2:
            _check_plane(self, "uv", self.uv, (rows, 2 * columns))
        else:
            _check_plane(self, "uv", self.uv, (rows, columns, 2))

    @classmethod
    def from_buffer(
        cls,
        buffer: Buffer,
        width: int,
        height: int,
        *,
        matrix: Matrix,
        color_range: ColorRange,
        stride: int | None = None,
        uv_stride: int | None = None,
        uv_offset: int | None = None,
    ) -> Self:
        """Look at a decoder's memory as a picture; nothing is copied.

        Args:
            buffer: Bytes, a memoryview, a ctypes array: anything with the buffer protocol, contiguous.
            width: In pixels, 1 or more.
            height: In pixels, 1 or more.
            matrix: As of the class.
            color_range: As of the class.
            stride: Bytes from one row of luma to the next, `width` by default.
            uv_stride: Bytes from one row of chroma to the next; by default `stride`, made even.
            uv_offset: Byte at which chroma begins; by default behind `height` rows of luma.

        Raises:
            InvalidFrame: The picture does not fit into the buffer, or as of the class.
        """
        data, stride = _bytes_of(buffer, width, height), width if stride is None else stride
        uv_stride = stride + stride % 2 if uv_stride is None else uv_stride
        uv_offset = stride * height if uv_offset is None else uv_offset
        rows, columns = _half(height), _half(width)
        return cls(
            _plane(cls, "y", data, 0, stride, height, width),
            _plane(cls, "uv", data, uv_offset, uv_stride, rows, 2 * columns).reshape(rows, columns, 2),
            matrix=matrix,
            color_range=color_range,
        )

    def to_bgr(self) -> UInt8Array:
        """The picture as a new uint8 (height, width, 3): blue, green, red, as OpenCV has them."""
        uv = self.uv.reshape(_half(self.y.shape[0]), _half(self.y.shape[1]), 2)
        return _to_bgr((self.y, uv[..., 0], uv[..., 1]), self.matrix, self.color_range)


@dataclass(frozen=True, slots=True, eq=False)
class I420:
    """A picture in three planes: luma, U and V (FFmpeg's yuv420p; with U and V exchanged, YV12).

    The arrays are neither copied nor kept: their memory may be reused once `Stream.push` has returned.

    Attributes:
        y: Luma, uint8 (height, width); rows may be padded, as a view of a larger array is.
        u: Chroma, uint8, half the luma's rows and columns, rounded up.
        v: As `u`.
        matrix: `bt601` or `bt709`, as the decoder says (FFmpeg: AVFrame.colorspace).
        color_range: `limited` or `full`, as the decoder says (FFmpeg: AVFrame.color_range); yuvj420p is `full`.

    Raises:
        InvalidFrame: A plane has another shape or type, or there is no such matrix or range.
    """

    y: UInt8Array
    u: UInt8Array
    v: UInt8Array
    _: KW_ONLY
    matrix: Matrix
    color_range: ColorRange

    def __post_init__(self) -> None:
        half = _check(self, self.y)
        _check_plane(self, "u", self.u, half)
        _check_plane(self, "v", self.v, half)

    @classmethod
    def from_buffer(
        cls,
        buffer: Buffer,
        width: int,
        height: int,
        *,
        matrix: Matrix,
        color_range: ColorRange,
        stride: int | None = None,
        chroma_stride: int | None = None,
        offsets: tuple[int, int] | None = None,
    ) -> Self:
        """Look at a decoder's memory as a picture; nothing is copied.

        Args:
            buffer: Bytes, a memoryview, a ctypes array: anything with the buffer protocol, contiguous.
            width: In pixels, 1 or more.
            height: In pixels, 1 or more.
            matrix: As of the class.
            color_range: As of the class.
            stride: Bytes from one row of luma to the next, `width` by default.
            chroma_stride: Bytes from one row of U or V to the next; by default half of `stride`, rounded up.
            offsets: Bytes at which U and V begin; by default U behind `height` rows of luma, V behind U.

        Raises:
            InvalidFrame: The picture does not fit into the buffer, or as of the class.
        """
        data, stride = _bytes_of(buffer, width, height), width if stride is None else stride
        chroma_stride = _half(stride) if chroma_stride is None else chroma_stride
        rows, columns = _half(height), _half(width)
        u, v = (stride * height, stride * height + chroma_stride * rows) if offsets is None else offsets
        return cls(
            _plane(cls, "y", data, 0, stride, height, width),
            _plane(cls, "u", data, u, chroma_stride, rows, columns),
            _plane(cls, "v", data, v, chroma_stride, rows, columns),
            matrix=matrix,
            color_range=color_range,
        )

    def to_bgr(self) -> UInt8Array:
        """The picture as a new uint8 (height, width, 3): blue, green, red, as OpenCV has them."""
        return _to_bgr((self.y, self.u, self.v), self.matrix, self.color_range)


class _Reformatters(threading.local):
    """One converter a thread: it keeps its tables from picture to picture, and none is safe to share."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self.own: VideoReformatter = VideoReformatter()


_reformatters: _Reformatters | None = None


def _to_bgr(planes: tuple[UInt8Array, UInt8Array, UInt8Array], matrix: Matrix, color_range: ColorRange) -> UInt8Array:
    from av import VideoFrame

    global _reformatters  # noqa: PLW0603  made on first use: importing PyAV takes a while
    if _reformatters is None:
        _reformatters = _Reformatters()
    height, width = planes[0].shape
    frame = VideoFrame(width, height, "yuv420p")
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
        rows[: plane.shape[0], : plane.shape[1]] = plane
    frame.colorspace, frame.color_range = _MATRICES[matrix], _RANGES[color_range]
    # As cameras are read (video/network.py): the same pixels. NV12 itself would go another way through FFmpeg, with
    # other chroma, up to 25 grey levels apart.
    converted = _reformatters.own.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
    return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def _half(count: int) -> int:
    return (count + 1) // 2


def _check(picture: Nv12 | I420, y: object) -> tuple[int, int]:
    """Refuse what is no luma, matrix or range; returns the rows and columns of chroma."""
    kind = type(picture).__name__
    for name, value, known in (
        ("matrix", picture.matrix, get_args(Matrix)),
        ("color_range", picture.color_range, get_args(ColorRange)),
    ):
        if value not in known:
            raise InvalidFrame(f"{kind}: {name} must be {' or '.join(known)}, got {value!r}; the decoder says which")
    if not isinstance(y, np.ndarray) or y.dtype != np.uint8 or y.ndim != 2 or 0 in y.shape:
        raise InvalidFrame(f"{kind}: y must be uint8 of shape (height, width), got {_said(y)}")
    return _half(y.shape[0]), _half(y.shape[1])


def _check_plane(picture: Nv12 | I420, name: str, plane: object, shape: tuple[int, ...]) -> None:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.shape != shape:
        size = f"{picture.y.shape[1]} x {picture.y.shape[0]}"
        raise InvalidFrame(
            f"{type(picture).__name__}: {name} of a picture of {size} must be uint8 of shape {shape}, got "
            f"{_said(plane)}; chroma has half the rows and columns, rounded up"
        )


def _said(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _bytes_of(buffer: Buffer, width: int, height: int) -> UInt8Array:
    if min(width, height) < 1:
        raise InvalidFrame(f"a picture has at least one pixel each way, got {width} x {height}")
    try:
        return np.frombuffer(memoryview(buffer), np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidFrame(f"a picture's memory must be one contiguous buffer ({error})") from error


def _plane(
    kind: type[Nv12 | I420], name: str, data: UInt8Array, offset: int, stride: int, rows: int, columns: int
) -> UInt8Array:
    """A plane as a view of the buffer."""
    end = offset + stride * (rows - 1) + columns
    if offset < 0 or stride < columns or end > data.size:
        raise InvalidFrame(
            f"{kind.__name__}: {name} has {rows} rows of {columns} bytes, {stride} apart, from byte {offset}; "
            f"the buffer has {data.size} bytes"
        )
    # The last row need not be padded.
    return np.lib.stride_tricks.as_strided(data[offset:], (rows, columns), (stride, 1), writeable=False)
