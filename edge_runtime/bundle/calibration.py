"""What the bundle's scorer learned from, as statistics: `calibration.npz`, which feedback, drift and p-values read.

No feature vector of a calibration video is in it one to one, and no picture. All features are standardised as the
scorer standardises them: z = (x - mean) / scale.

The scorer's posterior is Gaussian (Laplace's approximation at the fitted weights): precision A = diag(prior_diagonal)
+ prior_factor' prior_factor, exact as that approximation goes, whatever D is: the factor has a row a calibration
sample, and D + 1 at most. Normal segments have the covariance S = diag(covariance_diagonal) + covariance_factor'
covariance_factor around `centre`, shrunk as by Ledoit and Wolf, exact too.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge_runtime.errors import BundleRefused, one_line
from edge_runtime.files import printable

CALIBRATION = "calibration.npz"
FORMAT = 1
#: Normal segments of which it holds scores and distances, at most.
MOST_SEGMENTS = 2**20

FloatArray = NDArray[np.float64]

_SUFFIX = ".npy"
_HEADER_BYTES = 2**14
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What is known of the calibration set. D is the length of a feature vector, K·d.

    Attributes:
        prior_mean: float64 (D + 1), the scorer's weights on standardised features, its intercept last.
        prior_diagonal: float64 (D + 1), of their precision; 0 for the intercept, which is not shrunk.
        prior_factor: float64 (r, D + 1), r <= D + 1: the rest of the precision is its transpose times itself.
        mean: float64 (D), of the calibration features.
        scale: float64 (D), of each of them; above 0.
        centre: float64 (D), mean of the standardised features of normal calibration samples.
        covariance_diagonal: float64 (D), of their shrunk covariance; above 0.
        covariance_factor: float64 (q, D), q <= D: the rest of it is its transpose times itself.
        normal_scores: float64 (n), of segments of normal videos, scored by a scorer that did not see the video.
        normal_smoothed: float64 (2, n), the same smoothed by the locators `full` and `low_latency`.
        distances: float64 (n), of the same segments, from a centre and covariance that did not see the video.
        videos: int64 (n), which video each of them belongs to, counted from 0.
    """

    prior_mean: FloatArray
    prior_diagonal: FloatArray
    prior_factor: FloatArray
    mean: FloatArray
    scale: FloatArray
    centre: FloatArray
    covariance_diagonal: FloatArray
    covariance_factor: FloatArray
    normal_scores: FloatArray
    normal_smoothed: FloatArray
    distances: FloatArray
    videos: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other. ValueError says which."""
        size, count = len(self.mean), len(self.normal_scores)
        shapes = _shapes(size, count, len(self.prior_factor), len(self.covariance_factor))
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, expected is {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds a value that is not finite")
        if len(self.prior_factor) > size + 1 or len(self.covariance_factor) > size:
            raise ValueError("a factor has more rows than it can need")
        for name in ("scale", "covariance_diagonal"):
            if not (getattr(self, name) > 0).all():
                raise ValueError(f"{name} holds a value that is not above 0")
        if (self.prior_diagonal < 0).any() or (self.distances < 0).any() or (self.videos < 0).any():
            raise ValueError("prior_diagonal, distances and videos hold no value below 0")
        for name in ("normal_scores", "normal_smoothed"):
            if count and not 0 <= getattr(self, name).min() <= getattr(self, name).max() <= 1:
                raise ValueError(f"{name} holds a value outside 0..1")

    @property
    def feature_size(self) -> int:
        """D."""
        return len(self.mean)

    def standardised(self, features: NDArray[np.floating]) -> FloatArray:
        """Features as the scorer standardises them.

        Args:
            features: (b, D), as the graphs give them.

        Returns:
            float64 (b, D).
        """
        standardised: FloatArray = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return standardised

    def distance(self, features: NDArray[np.floating]) -> FloatArray:
        """Shrunk Mahalanobis distance of features from the normal ones: about sqrt(D) for a normal segment.

        Args:
            features: (b, D), as the graphs give them.

        Returns:
            float64 (b,).
        """
        return mahalanobis(self.standardised(features), self.centre, self.covariance_diagonal, self.covariance_factor)


def mahalanobis(rows: FloatArray, centre: FloatArray, diagonal: FloatArray, factor: FloatArray) -> FloatArray:
    """Mahalanobis distances under a covariance of low rank plus diagonal: O(q² D) once, O(q D) a row.

    Args:
        rows: (b, D).
        centre: (D,).
        diagonal: (D,), above 0.
        factor: (q, D).

    Returns:
        float64 (b,).
    """
    apart = rows - centre
    scaled = apart / diagonal
    squares = np.einsum("bd,bd->b", apart, scaled)
    if len(factor):
        # Woodbury's identity: q x q instead of D x D.
        inner = np.eye(len(factor)) + (factor / diagonal) @ factor.T
        half = np.linalg.solve(np.linalg.cholesky(inner), factor @ scaled.T)
        squares = squares - np.einsum("qb,qb->b", half, half)
    distances: FloatArray = np.sqrt(np.maximum(squares, 0.0))
    return distances


def arrays_of(calibration: Calibration) -> dict[str, NDArray[Any]]:
    """The arrays of the file, `format` among them."""
    return {"format": np.int64(FORMAT).reshape(())} | {
        item.name: getattr(calibration, item.name) for item in fields(calibration)
    }


def read_calibration(path: Path, feature_size: int) -> Calibration:
    """Read and check the file. It takes no more memory than what it says it holds, and that is bounded.

    Args:
        path: The file.
        feature_size: D, as the manifest has it.

    Raises:
        BundleRefused: It holds anything else, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _read_all(archive, feature_size)
        return Calibration(**arrays)
    except Exception as error:  # numpy, zipfile and zlib raise their own each
        raise BundleRefused(
            f"{CALIBRATION}: cannot be read ({printable(one_line(error))}); build the bundle again"
        ) from error


def _shapes(size: int, count: int, prior_rows: int, covariance_rows: int) -> dict[str, tuple[int, ...]]:
    return {
        "prior_mean": (size + 1,),
        "prior_diagonal": (size + 1,),
        "prior_factor": (prior_rows, size + 1),
        "mean": (size,),
        "scale": (size,),
        "centre": (size,),
        "covariance_diagonal": (size,),
        "covariance_factor": (covariance_rows, size),
        "normal_scores": (count,),
        "normal_smoothed": (2, count),
        "distances": (count,),
        "videos": (count,),
    }


def _read_all(archive: zipfile.ZipFile, size: int) -> dict[str, NDArray[Any]]:
    most: Mapping[str, tuple[int, ...]] = _shapes(size, MOST_SEGMENTS, size + 1, size) | {"format": ()}
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    if names != sorted(name + _SUFFIX for name in most):
        raise ValueError(f"it holds {', '.join(names[: 2 * len(most)]) or 'nothing'}, expected are {', '.join(most)}")
    arrays = {}
    for member in members:
        name = member.filename.removesuffix(_SUFFIX)
        limit = 8 * int(np.prod(most[name], dtype=np.int64)) + _HEADER_BYTES
        if member.file_size > limit:
            raise ValueError(f"{name} inflates to {member.file_size} bytes, it takes {limit} at most")
        if member.compress_type not in _METHODS:
            raise ValueError(f"{name} is compressed by a method that is not used here")
        arrays[name] = _read(archive, member, name, len(most[name]))
    if (version := int(arrays.pop("format"))) != FORMAT:
        raise ValueError(f"it has the format {version}, known is {FORMAT}")
    if len(arrays["mean"]) != size:
        raise ValueError(f"it is of {len(arrays['mean'])} features, the manifest says {size}")
    return arrays


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, dimensions: int) -> NDArray[Any]:
    wanted = np.dtype(np.int64 if name in ("videos", "format") else np.float64)
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} is of the unknown format {version}")
        shape, fortran, dtype = _HEADERS[version](file)
        if dtype != wanted or fortran or len(shape) != dimensions:
            raise ValueError(f"{name} is {dtype} {shape}, expected is {wanted} of {dimensions} dimensions")
        # No more than the archive's own directory says, which was checked.
        content = file.read(member.file_size - file.tell())
    if len(content) != wanted.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{name} has {len(content)} bytes for the shape {shape}")
    return np.frombuffer(content, wanted).reshape(shape)
