"""The golden segments of a bundle: two segments and what they gave at build time, for the self-test.

The archive is checked before anything in it is inflated: four arrays, of exactly the types and shapes that the
manifest implies. So reading it takes no more memory than it should, whatever it was packed to.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import BundleRefused, one_line
from edge_runtime.files import printable

GOLDEN = "golden.npz"
_MOST_SEGMENTS = 2
_SUFFIX = ".npy"
# What an array's header and its entry in the archive take is a few hundred bytes.
_FRAME_BYTES = 2**14
_CHUNK = 2**18
# The others of zipfile inflate a whole block at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class Golden:
    """Two segments and what they gave at build time.

    Attributes:
        frames: uint8 (2, F, H, W, 3).
        tokens: float32 (2, n·T, D).
        features: float32 (2, K·d).
        probabilities: float32 (2,).
    """

    frames: NDArray[np.uint8]
    tokens: NDArray[np.float32]
    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Layout:
    """One array without its first dimension, which counts segments."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def bytes(self, segments: int) -> int:
        return segments * math.prod(self.shape) * self.dtype.itemsize


def check_golden(path: Path, manifest: Manifest) -> None:
    """Check that the file holds what the manifest implies, without inflating it.

    Raises:
        BundleRefused: It does not; the message says what it holds instead.
    """
    _with_arrays(path, manifest, read=False)


def read_golden(path: Path, manifest: Manifest) -> Golden:
    """Read the golden segments, after the same checks.

    Raises:
        BundleRefused: The file is not what the manifest implies, or damaged.
    """
    return Golden(**_with_arrays(path, manifest, read=True))


def _with_arrays(path: Path, manifest: Manifest, read: bool) -> dict[str, NDArray[Any]]:
    layouts = _layouts(manifest)
    arrays: dict[str, NDArray[Any]] = {}
    counts = set()
    try:
        _check_size(path.stat().st_size, layouts)
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), layouts)
            for name, layout in layouts.items():
                info = archive.getinfo(name + _SUFFIX)
                with archive.open(info) as file:
                    segments = _check_header(file, info, name, layout)
                    counts.add(segments)
                    if read:
                        arrays[name] = _read(file, name, layout, segments)
        _check_counts(counts)
    except Exception as error:  # numpy, zipfile and zlib raise their own each
        raise BundleRefused(
            f"{GOLDEN}: cannot be read ({printable(one_line(error))}); build the bundle again"
        ) from error
    return arrays


def _layouts(manifest: Manifest) -> Mapping[str, _Layout]:
    """The four arrays as the manifest implies them. Its shapes were compared with those of the graphs before."""
    pixels = manifest.pixels
    _, rows, width = manifest.graphs.language.inputs[0].shape
    tokens = np.dtype(manifest.graphs.vision.outputs[0].dtype)
    return {
        "frames": _Layout(np.dtype(np.uint8), (manifest.segment.sampled, pixels.height, pixels.width, 3)),
        "tokens": _Layout(tokens, (int(rows), int(width))),
        "features": _Layout(np.dtype(np.float32), (manifest.feature_size,)),
        "probabilities": _Layout(np.dtype(np.float32), ()),
    }


def _check_size(size: int, layouts: Mapping[str, _Layout]) -> None:
    most = sum(layout.bytes(_MOST_SEGMENTS) + _FRAME_BYTES for layout in layouts.values())
    if size > most:
        raise ValueError(f"it has {size} bytes, its arrays and headers take {most} at most")


def _check_counts(counts: set[int]) -> None:
    if len(counts) > 1:
        raise ValueError("its arrays differ in their number of segments")


def _check_members(members: list[zipfile.ZipInfo], layouts: Mapping[str, _Layout]) -> None:
    """Refuse any other set of members, what declares too large a size, and what cannot be inflated step by step."""
    names = sorted(member.filename for member in members)
    if names != sorted(name + _SUFFIX for name in layouts):
        shown = ", ".join(names[: 2 * len(layouts)]) or "nothing"
        raise ValueError(f"it holds {shown}, expected are {', '.join(layouts)}")
    for member in members:
        most = layouts[member.filename.removesuffix(_SUFFIX)].bytes(_MOST_SEGMENTS) + _FRAME_BYTES
        if member.file_size > most:
            raise ValueError(f"{member.filename} inflates to {member.file_size} bytes, it takes {most} at most")
        if member.compress_type not in _METHODS:
            raise ValueError(f"{member.filename} is compressed by a method that is not used here")


def _check_header(file: IO[bytes], info: zipfile.ZipInfo, name: str, layout: _Layout) -> int:
    """Refuse any other array than the expected one. Returns its number of segments."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name} is of the unknown format {version}")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype != layout.dtype or fortran or shape[1:] != layout.shape or not shape:
        order = ", in Fortran's order" if fortran else ""
        wanted = f"{layout.dtype} ({', '.join(map(str, ('segments', *layout.shape)))})"
        raise ValueError(f"{name} is {dtype} {shape}{order}, expected is {wanted}")
    if not 1 <= shape[0] <= _MOST_SEGMENTS:
        raise ValueError(f"{name} has {shape[0]} segments, expected are {_MOST_SEGMENTS}")
    if info.file_size - file.tell() != layout.bytes(shape[0]):
        raise ValueError(f"{name} takes {layout.bytes(shape[0])} bytes, but has {info.file_size - file.tell()}")
    return int(shape[0])


def _read(file: IO[bytes], name: str, layout: _Layout, segments: int) -> NDArray[Any]:
    array = np.empty((segments, *layout.shape), layout.dtype)
    target = array.reshape(-1).view(np.uint8)
    at = 0
    while at < len(target):
        part = file.read(min(_CHUNK, len(target) - at))
        if not part:
            raise ValueError(f"{name} ends too early")
        target[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return array
