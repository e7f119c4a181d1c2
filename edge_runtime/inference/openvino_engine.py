"""The vision and language graphs of a bundle, run one after the other by OpenVINO in this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import GrowingSpec
from edge_runtime.errors import (
    BundleRefused,
    InferenceFailed,
    MissingExtra,
    ProviderUnavailable,
    UsageError,
    first_line,
)
from edge_runtime.files import printable
from edge_runtime.inference.engine import (
    FloatArray,
    failed,
    finite,
    is_out_of_memory,
    join_groups,
    require_growing,
    split_groups,
    whole_sequence,
)
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import OPENVINO
from edge_runtime.stream.pixels import UInt8Array

_TELEMETRY = "openvino_telemetry"
# Name and version of the attribute of that meaning in OpenVINO's own graph format.
_STORED_NARROW = "decompression_0"


def load_openvino() -> Any:
    """The openvino module.

    Raises:
        MissingExtra: It is not installed; the message holds the pip command.
    """
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise MissingExtra('openvino is not installed; run: pip install "headhunt-edge[openvino]"') from error
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Import in this context what would tell its makers that it was imported.

    The openvino package reports to an analytics server of Google's unless told not to, and writes an id into the home
    folder. It does without where its reporting part is not installed: None in its place looks like that.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


class OpenVinoEngine:
    """An `Engine` on OpenVINO's CPU plugin: compiles both graphs, and keeps them until `close`.

    Attributes:
        provider: `openvino`.
    """

    def __init__(
        self,
        vision: Path,
        language: Path,
        threads: int | None = None,
        group: int = 1,
        precisions: tuple[str, str] = ("fp32", "fp32"),
        growing: GrowingSpec | None = None,
    ) -> None:
        """Compile both graphs.

        Args:
            vision: Path of the vision graph.
            language: Path of the language graph, or of its growing form.
            threads: Of one call; None leaves it to OpenVINO.
            group: g, how many frames the vision graph takes together.
            precisions: Of both graphs: what each is told to compute in.
            growing: As of `GraphFiles`.

        Raises:
            BundleRefused: A graph cannot be loaded.
            MissingExtra: OpenVINO is not installed.
            UsageError: Less than one thread.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads starts at 1, got {threads}")
        self.provider = OPENVINO
        self._openvino = load_openvino()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        core = self._openvino.Core()

        def compiled(path: Path, precision: str) -> _Graph:
            return _Graph(core, path, options | _computing(core, precision))

        self._vision: _Graph | None
        self._language: _Graph | None
        # Compiling a graph keeps little more than one core busy.
        with ThreadPoolExecutor(2) as pool:
            self._vision, self._language = pool.map(compiled, (vision, language), precisions)
        self._group = group
        self._growing = growing

    def abandon(self) -> None:
        """See Engine."""
        for graph in (self._vision, self._language):
            if graph is not None:
                graph.abandon()

    def close(self) -> None:
        """See Engine; the memory is free as soon as no call is in progress."""
        self._vision = self._language = None

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""
        graph = _open(self._vision)  # another thread may close the engine meanwhile
        try:
            (tokens,) = graph.run(self._openvino, split_groups(frames, self._group))
            return join_groups(tokens, len(frames))
        except Exception as error:
            raise failed(error) from error

    def language(self, tokens: FloatArray) -> FloatArray:
        """See Engine."""
        if self._growing is not None:
            return self.grow(*whole_sequence(tokens, self._growing))[0]
        graph = _open(self._language)
        try:
            return graph.run(self._openvino, tokens)[0]
        except Exception as error:
            raise failed(error) from error

    def grow(
        self, tokens: FloatArray, positions: NDArray[np.int64], state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """See GrowingEngine."""
        graph = _open(self._language)
        require_growing(self._growing)
        try:
            features, grown = graph.run(self._openvino, tokens, positions, state)
        except Exception as error:
            raise failed(error) from error
        return features, grown

    def features(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""
        return finite(self.language(self.tokens(frames)))


class _Graph:
    """One compiled graph and its requests: each call in progress has one, and finished ones are used again."""

    def __init__(self, core: Any, path: Path, options: dict[str, Any]) -> None:
        try:
            model = core.read_model(str(path))
            _keep_narrow(model)
            self._compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors
            if is_out_of_memory(error):
                raise ProviderUnavailable(
                    f"openvino has no memory for {path.name} ({printable(first_line(error))}); free some"
                ) from error
            raise BundleRefused(f"{path.name}: OpenVINO cannot load it ({printable(first_line(error))})") from error
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._running: list[Any] = []
        self._abandoned = False

    def run(self, openvino: Any, *values: NDArray[Any]) -> list[FloatArray]:
        """All inputs to all outputs, in the graph's order. Raises whatever OpenVINO raises."""
        with self._request() as request:
            for place, one in enumerate(values):
                # Typed and shaped as given: OpenVINO would convert plain arrays without a word.
                request.set_input_tensor(place, openvino.Tensor(np.ascontiguousarray(one)))
            request.start_async()
            request.wait()
            # The request's own memory is written again by its next call.
            return [np.array(one.data, dtype=np.float32) for one in request.output_tensors]

    def abandon(self) -> None:
        """Fail every call from now on, those in progress included."""
        with self._lock:
            self._abandoned = True
            for request in self._running:
                request.cancel()

    @contextmanager
    def _request(self) -> Iterator[Any]:
        with self._lock:
            if self._abandoned:
                raise InferenceFailed("the run was abandoned")
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
            self._running.append(request)
        try:
            yield request
        finally:
            with self._lock:
                self._running.remove(request)
                self._idle.append(request)


def _keep_narrow(model: Any) -> None:
    """Mark weights of 16 bits to stay as they lie in the file.

    Left alone, OpenVINO widens them to float32 before it packs them for its kernels, and keeps all of it: three to
    four times the file in memory of its own, instead of one copy beside pages of the file.
    """
    for node in model.get_ops():
        if node.get_type_name() == "Convert" and node.input_value(0).get_node().get_type_name() == "Constant":
            # As OpenVINO's own files mark what is stored narrower than it is meant. Its value is never looked at.
            node.get_rt_info()[_STORED_NARROW] = ""


def _computing(core: Any, precision: str) -> dict[str, str]:
    """What a graph is told to compute in.

    Left alone, OpenVINO takes bfloat16 where the processor has it; but the scorer was fitted on what the bundle's own
    precision gives.
    """
    wanted = PRECISIONS[precision].openvino
    known = [one.lower() for one in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    native = wanted in known or f"fp{wanted[1:]}" in known
    return {"INFERENCE_PRECISION_HINT": wanted if native else "f32"}


def _open(graph: _Graph | None) -> _Graph:
    if graph is None:
        raise UsageError("the engine was closed; open a new one")
    return graph
