"""Opens the engine that runs a bundle's graphs. A new kind of engine is one file here, and one row in each table."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

from msgspec import UNSET

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused, MissingExtra, ProviderUnavailable, UsageError, first_line
from edge_runtime.inference.choice import choose
from edge_runtime.inference.engine import Engine, GraphFiles
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.openvino_engine import OpenVinoEngine, load_openvino
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import AUTO, CPU, PROVIDERS, Library, automatic, find_provider
from edge_runtime.inference.sessions import available_providers, open_session
from edge_runtime.inference.triton_connection import load_tritonclient
from edge_runtime.inference.triton_engine import TritonEngine

log = logging.getLogger(__name__)


def open_engine(bundle: Bundle, provider: str = "auto", threads: int | None = None, growing: bool = False) -> Engine:
    """Load a bundle's graphs.

    Args:
        bundle: What `Bundle.open` returned.
        provider: A name of the table of providers, or `auto` for the fastest that is installed and computes what the
            builder's machine did; see `choice`. `triton://host:port` is a server that serves the bundle.
        threads: Processor threads for one segment; the engine's own choice by default.
        growing: Whether the decoder is opened in its growing form: the engine is a `GrowingEngine` then.

    Raises:
        BundleRefused: A graph cannot be loaded, or the bundle has no growing form.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: No such provider, or fewer than one thread.
    """
    files = graph_files(bundle, growing)

    def open_one(name: str) -> Engine:
        return open_graphs(files, name, threads)

    if provider != AUTO:
        return open_one(provider)
    there = installed()
    candidates = [row.name for row in automatic() if row.name in there]
    chosen = choose(bundle, candidates, threads, open_one)
    try:
        return open_one(chosen)
    except ProviderUnavailable as error:
        # Remembered from better days: a driver that was updated, a card that was taken out.
        log.warning("provider %s does not load any more, another one is looked for (%s)", chosen, error)
        return open_one(choose(bundle, candidates, threads, open_one, anew=True))


def graph_files(bundle: Bundle, growing: bool = False) -> GraphFiles:
    """What of a bundle an engine opens.

    Raises:
        BundleRefused: It has no growing form.
    """
    graphs = bundle.manifest.graphs
    language, spec = graphs.language.file, None
    if growing:
        if graphs.growing is UNSET:
            raise BundleRefused("the bundle has no growing form of its decoder; build it again")
        language, spec = graphs.growing.file, graphs.growing
    return GraphFiles(
        bundle.file(graphs.vision.file),
        bundle.file(language),
        graphs.frames_per_group,
        graphs.precisions,
        spec,
        bundle.manifest,
    )


def open_graphs(files: GraphFiles, provider: str, threads: int | None = None) -> Engine:
    """Load graphs that need not be a bundle yet.

    Args:
        files: Which.
        provider: A name of the table of providers; not `auto`.
        threads: As of `open_engine`.

    Raises:
        BundleRefused: A graph cannot be loaded.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: No such provider, or fewer than one thread.
    """
    return _OPENERS[find_provider(provider).library](files, provider, threads)


def require_installed(provider: str) -> None:
    """Refuse a provider that nothing here could run, before the long work.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ProviderUnavailable: The provider is not installed; the message holds the pip command.
        UsageError: No such provider.
    """
    row = find_provider(provider)
    if row.remote:
        raise UsageError(f"provider {provider} serves bundles that are built; choose one that runs here, or none")
    if row.kind not in (there := installed()):
        raise ProviderUnavailable(
            f"provider {provider} is not installed here (there are {', '.join(there)}); "
            f"install it in an environment of its own: pip install {row.package}"
        )


def builder(precision: str) -> str:
    """The provider that a build runs graphs of a precision on, where none is asked for.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """
    there = installed()
    return next((name for name in PRECISIONS[precision].builders if name in there), CPU)


def fitted_on(manifest: Manifest) -> str:
    """The provider that a bundle was fitted on, or one that suits its precisions where that is not installed.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """
    stated = manifest.producer.get("provider", CPU)
    # A server's address is no property of a bundle.
    if (kind := stated.partition(":")[0]) in installed() and not PROVIDERS[kind].remote:
        return stated
    # The most rounded graph decides: what suits it computes the others as well.
    return builder(max(manifest.graphs.precisions, key=lambda name: PRECISIONS[name].parity_tolerance))


def _onnxruntime(files: GraphFiles, provider: str, threads: int | None) -> Engine:
    return OnnxEngine(files.vision, files.language, provider, threads, files.group, files.growing)


def _openvino(files: GraphFiles, _provider: str, threads: int | None) -> Engine:
    return OpenVinoEngine(files.vision, files.language, threads, files.group, files.precisions, files.growing)


def _triton(files: GraphFiles, provider: str, _threads: int | None) -> Engine:
    if files.manifest is None:
        raise UsageError(f"provider {provider} serves bundles that are built; choose one that runs here")
    return TritonEngine(files.manifest, provider)


_OPENERS: dict[Library, Callable[[GraphFiles, str, int | None], Engine]] = {
    Library.ONNXRUNTIME: _onnxruntime,
    Library.OPENVINO: _openvino,
    Library.TRITON: _triton,
}


def installed() -> list[str]:
    """Names of the providers that are there; they may still fail to load.

    Raises:
        MissingExtra: ONNX Runtime is not installed, without which nothing runs: the scorer is its.
    """
    built = available_providers()
    others = {library for library in Library if importlib.util.find_spec(library.value) is not None}
    others.discard(Library.ONNXRUNTIME)
    return [row.name for row in PROVIDERS.values() if row.name in built or row.library in others]


def try_graph(graph: Path, provider: str) -> None:
    """Load a graph on a provider, and forget it.

    Raises:
        HeadHuntError: It does not load, for whatever reason.
    """
    if find_provider(provider).library is Library.ONNXRUNTIME:
        open_session(graph, provider)
        return
    if find_provider(provider).library is Library.TRITON:
        # Its server runs graphs, not this machine.
        load_tritonclient()
        return
    try:
        load_openvino().Core().compile_model(str(graph), "CPU")
    except MissingExtra:
        raise
    except Exception as error:
        raise ProviderUnavailable(f"{provider} cannot load a graph ({first_line(error)})") from error
