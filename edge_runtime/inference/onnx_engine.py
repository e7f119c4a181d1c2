"""The vision and language graphs of a bundle, run one after the other by ONNX Runtime in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.external_data import external_locations
from edge_runtime.bundle.manifest import GrowingSpec
from edge_runtime.errors import UsageError
from edge_runtime.inference.engine import (
    FloatArray,
    failed,
    finite,
    join_groups,
    require_growing,
    split_groups,
    whole_sequence,
)
from edge_runtime.inference.providers import CPU, find_provider
from edge_runtime.inference.sessions import SILENT, choose_provider, load_onnxruntime, open_session
from edge_runtime.stream.pixels import UInt8Array

# What tokens may be, as ONNX Runtime and as numpy call it.
_ELEMENTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Bytes of weights from which on a graph gives its workspace back after every call. A large one computes for seconds
# and would keep half of its weights' size (1.1 of 2.2 GB measured); a small one would lose 2 to 4 % of its time.
_LARGE = 2**28


class OnnxEngine:
    """An `Engine` on ONNX Runtime: opens both graphs, and keeps them until `close`.

    Attributes:
        provider: What runs the graphs; never `auto`.
    """

    def __init__(
        self,
        vision: Path,
        language: Path,
        provider: str = "auto",
        threads: int | None = None,
        group: int = 1,
        growing: GrowingSpec | None = None,
    ) -> None:
        """Open both graphs.

        Args:
            vision: Path of the vision graph.
            language: Path of the language graph, or of its growing form.
            provider: A row of the table of providers, or `auto`.
            threads: Of one call on the CPU; None leaves it to ONNX Runtime.
            group: g, how many frames the vision graph takes together.
            growing: As of `GraphFiles`.

        Raises:
            BundleRefused: A graph cannot be loaded.
            MissingExtra: ONNX Runtime is not installed.
            ProviderUnavailable: The provider is not there, or does not load.
            UsageError: There is no such provider.
        """
        self.provider = choose_provider(provider)
        self._vision: Any = open_session(vision, self.provider, threads)
        self._language: Any = open_session(language, self.provider, threads)
        self._group = group
        self._growing = growing
        row = find_provider(self.provider)
        self._device = None if row.device == CPU else (row.device, row.card)
        self._run = load_onnxruntime().RunOptions()
        self._run.log_severity_level = SILENT
        if self.provider == CPU and max(map(_weights_size, (vision, language))) >= _LARGE:
            self._run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def abandon(self) -> None:
        """Fail every call from now on, the one in progress included; from any thread, and for good."""
        self._run.terminate = True

    def close(self) -> None:
        """Let go of both graphs; their memory is free as soon as no call is in progress."""
        self._vision = self._language = None

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """Visual tokens of segments.

        Args:
            frames: uint8 (b, F, H, W, 3).

        Returns:
            float32 (b, n·T, D), n = F / g groups of g frames.

        Raises:
            InferenceFailed: The graph failed.
            UsageError: The engine was closed.
        """
        session = _open(self._vision)  # another thread may close the engine meanwhile
        try:
            (tokens,) = session.run(["tokens"], {"frames": split_groups(frames, self._group)}, self._run)
            return join_groups(np.asarray(tokens), len(frames))
        except Exception as error:
            raise failed(error) from error

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
        if self._growing is not None:
            return self.grow(*whole_sequence(tokens, self._growing))[0]
        session = _open(self._language)
        try:
            (features,) = session.run(["features"], {"tokens": tokens}, self._run)
            return np.asarray(features, dtype=np.float32)
        except Exception as error:
            raise failed(error) from error

    def grow(
        self, tokens: FloatArray, positions: NDArray[np.int64], state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """See GrowingEngine."""
        session = _open(self._language)
        require_growing(self._growing)
        given = {"tokens": tokens, "positions": positions, "state": state}
        try:
            features, grown = session.run(["features", "grown"], given, self._run)
            return np.asarray(features, dtype=np.float32), np.asarray(grown)
        except Exception as error:
            raise failed(error) from error

    def features(self, frames: UInt8Array) -> FloatArray:
        """Expert features of segments.

        Args:
            frames: uint8 (b, F, H, W, 3).

        Returns:
            float32 (b, K·d), in expert order.

        Raises:
            InferenceFailed: A graph failed, or a value is not finite.
            UsageError: The engine was closed.
        """
        if self._device is None or self._growing is not None:
            return finite(self.language(self.tokens(frames)))
        return finite(self._features_on(self._device, frames))

    def _features_on(self, device: tuple[str, int], frames: UInt8Array) -> FloatArray:
        """Both graphs, with the tokens left in the device's memory: megabytes that nobody here reads."""
        vision, language = _open(self._vision), _open(self._language)
        try:
            first = vision.io_binding()
            first.bind_cpu_input("frames", split_groups(frames, self._group))
            first.bind_output("tokens", *device)
            vision.run_with_iobinding(first, self._run)
            (tokens,) = first.get_outputs()
            groups, each, width = tokens.shape()
            second = language.io_binding()
            # The same memory, read by segment.
            shape = (len(frames), groups // len(frames) * each, width)
            second.bind_input("tokens", *device, _ELEMENTS[tokens.data_type()], shape, tokens.data_ptr())
            second.bind_output("features")
            language.run_with_iobinding(second, self._run)
            return np.asarray(second.copy_outputs_to_cpu()[0], dtype=np.float32)
        except Exception as error:
            raise failed(error) from error


def _open(session: Any) -> Any:
    if session is None:
        raise UsageError("the engine was closed; open a new one")
    return session


def _weights_size(graph: Path) -> int:
    """Bytes of the files that a graph keeps its weights in; of itself where it has no others."""
    outside = [graph.with_name(location) for location in external_locations(graph.read_bytes())]
    return sum(path.stat().st_size for path in outside or [graph])
