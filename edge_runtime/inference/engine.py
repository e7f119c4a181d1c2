"""What runs the two graphs of a bundle, as a protocol: ONNX Runtime here, a server elsewhere, a table in a test.

An engine turns the sampled frames of segments into expert features. The scorer is not part of it: a few thousand
multiplications stay in this process, whatever runs the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import GrowingSpec, Manifest
from edge_runtime.errors import InferenceFailed, OutOfMemory, UsageError, first_line
from edge_runtime.files import printable
from edge_runtime.stream.pixels import UInt8Array

FloatArray = NDArray[np.float32]

# Arenas of ONNX Runtime, OpenVINO, C++, CUDA with cuBLAS and cuDNN, OpenCL.
_NO_MEMORY = re.compile(
    "failed to allocate (?:[0-9]+ bytes of )?memory|smaller than requested bytes|bad[_ ]alloc|out of memory"
    "|ALLOC_FAILED|out of gpu resources|CL_OUT_OF_",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """The graphs that an engine opens.

    Attributes:
        vision: Path of the vision graph.
        language: Path of the language graph, or of its growing form.
        group: g, how many frames the vision graph takes together.
        precisions: Of both graphs.
        growing: What the bundle says of the growing form, where `language` is that.
        manifest: Of the bundle that they are; None where they are none yet.
    """

    vision: Path
    language: Path
    group: int = 1
    precisions: tuple[str, str] = ("fp32", "fp32")
    growing: GrowingSpec | None = None
    manifest: Manifest | None = None


@runtime_checkable
class Engine(Protocol):
    """Frames to tokens to expert features. Any thread may call any method; batches are segments."""

    @property
    def provider(self) -> str:
        """What really runs the graphs, by its name in the table of providers."""

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """Visual tokens of segments.

        Args:
            frames: uint8 (b, F, H, W, 3), RGB, at the bundle's picture size.

        Returns:
            float32 (b, n·T, D), n = F / g groups of g frames.

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed.
        """

    def language(self, tokens: FloatArray) -> FloatArray:
        """Expert features of visual tokens.

        Args:
            tokens: float32 (b, n·T, D).

        Returns:
            float32 (b, K·d), in expert order.

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed.
        """

    def features(self, frames: UInt8Array) -> FloatArray:
        """Both in one call: the path of every scored segment.

        Args:
            frames: uint8 (b, F, H, W, 3).

        Returns:
            float32 (b, K·d), in expert order.

        Raises:
            InferenceFailed: A graph failed, or a value is not finite.
            UsageError: The engine was closed.
        """

    def abandon(self) -> None:
        """Fail every call from now on, the one in progress included; from any thread, and for good."""

    def close(self) -> None:
        """Give the memory back. Calls after this raise UsageError; closing twice is closing once."""


@runtime_checkable
class LossyEngine(Protocol):
    """An engine that may change frames on their way, to save a network.

    Attributes:
        loss: How far the golden features are from the builder's then, as a share of their scale; 0 where it does not.
    """

    loss: float

    @property
    def lossless(self) -> TwoSteps:
        """The same graphs, given frames as they are."""

    def features(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""


def engine_key(engine: Engine) -> dict[str, str | float]:
    """Plain values by which engines differ that give other values for the same frames, beyond a graph's own."""
    key: dict[str, str | float] = {"provider": engine.provider}
    if isinstance(engine, LossyEngine) and engine.loss:
        key["loss"] = engine.loss
    return key


class TwoSteps(Protocol):
    """What is compared with the builder's: each graph by itself."""

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""

    def language(self, tokens: FloatArray) -> FloatArray:
        """See Engine."""


def split_groups(frames: UInt8Array, group: int) -> UInt8Array:
    """What a vision graph takes of segments: uint8 (b, F, H, W, 3) to (b·n, g, H, W, 3)."""
    _, _, height, width, channels = frames.shape
    return frames.reshape(-1, group, height, width, channels)


def join_groups(tokens: FloatArray, segments: int) -> FloatArray:
    """What it gives, by segment: (b·n, T, D) to (b, n·T, D)."""
    return tokens.reshape(segments, -1, tokens.shape[2])


def whole_sequence(tokens: FloatArray, growing: GrowingSpec) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """All positions at once, as what `grow` of a growing engine takes."""
    nothing = np.zeros((len(tokens), 0, growing.state_width), np.float32)
    return tokens, np.arange(growing.ends[-1], dtype=np.int64), nothing


def require_growing(growing: GrowingSpec | None) -> GrowingSpec:
    """Pass on what an engine was opened with.

    Raises:
        UsageError: It was not opened with the growing form.
    """
    if growing is None:
        raise UsageError("the engine was opened without the growing form of the decoder; open it with growing=True")
    return growing


def finite(features: FloatArray) -> FloatArray:
    """Pass features on that are all numbers.

    Raises:
        InferenceFailed: One is not.
    """
    if not np.isfinite(features).all():
        raise InferenceFailed("the language graph gave features that are not finite")
    return features


def failed(error: Exception, what: str = "the graphs failed") -> InferenceFailed:
    """What an engine raises where its library failed, in one line."""
    kind = OutOfMemory if is_out_of_memory(error) else InferenceFailed
    return kind(f"{what}: {printable(first_line(error))}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library failed for want of memory, its own or a card's. Libraries say so in words alone."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None
