"""Opens the engine that runs a bundle's graphs. A new kind of engine is one file here, and one row in each table."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import MissingExtra, ProviderUnavailable, first_line
from edge_runtime.inference.choice import choose
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.openvino_engine import OpenVinoEngine, load_openvino
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import AUTO, CPU, PROVIDERS, Library, automatic, find_provider
from edge_runtime.inference.sessions import available_providers, open_session

log = logging.getLogger(__name__)


def open_engine(bundle: Bundle, provider: str = "auto", threads: int | None = None) -> Engine:
    """Load a bundle's graphs.

    Args:
        bundle: What `Bundle.open` returned.
        provider: A name of the table of providers, or `auto` for the fastest that is installed and computes what the
            builder's machine did; see `choice`.
        threads: Processor threads for one segment; the engine's own choice by default.

    Raises:
        BundleRefused: A graph cannot be loaded.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: No such provider, or fewer than one thread.
    """
    graphs = bundle.manifest.graphs
    vision, language = bundle.file(graphs.vision.file), bundle.file(graphs.language.file)

    def open_one(name: str) -> Engine:
        return open_graphs(vision, language, name, graphs.frames_per_group, graphs.precisions, threads)

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


def open_graphs(
    vision: Path,
    language: Path,
    provider: str,
    group: int = 1,
    precisions: tuple[str, str] = ("fp32", "fp32"),
    threads: int | None = None,
) -> Engine:
    """Load two graphs that are no bundle yet.

    Args:
        vision: Path of the vision graph.
        language: Path of the language graph.
        provider: A name of the table of providers; not `auto`.
        group: g, how many frames the vision graph takes together.
        precisions: Of both graphs.
        threads: As of `open_engine`.

    Raises:
        BundleRefused: A graph cannot be loaded.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: No such provider, or fewer than one thread.
    """
    opener = _OPENERS[find_provider(provider).library]
    return opener(vision, language, provider, threads, group, precisions)


def require_installed(provider: str) -> None:
    """Refuse a provider that nothing here could run, before the long work.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ProviderUnavailable: The provider is not installed; the message holds the pip command.
        UsageError: No such provider.
    """
    row = find_provider(provider)
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
    if stated.partition(":")[0] in installed():
        return stated
    # The most rounded graph decides: what suits it computes the others as well.
    return builder(max(manifest.graphs.precisions, key=lambda name: PRECISIONS[name].parity_tolerance))


def _onnxruntime(
    vision: Path, language: Path, provider: str, threads: int | None, group: int, _precisions: tuple[str, str]
) -> Engine:
    return OnnxEngine(vision, language, provider, threads, group)


def _openvino(
    vision: Path, language: Path, _provider: str, threads: int | None, group: int, precisions: tuple[str, str]
) -> Engine:
    return OpenVinoEngine(vision, language, threads, group, precisions)


_OPENERS: dict[Library, Callable[[Path, Path, str, int | None, int, tuple[str, str]], Engine]] = {
    Library.ONNXRUNTIME: _onnxruntime,
    Library.OPENVINO: _openvino,
}


def installed() -> list[str]:
    """Names of the providers that are there; they may still fail to load.

    Raises:
        MissingExtra: ONNX Runtime is not installed, without which nothing runs: the scorer is its.
    """
    built = available_providers()
    others = {Library.OPENVINO} if importlib.util.find_spec(Library.OPENVINO.value) is not None else set()
    return [row.name for row in PROVIDERS.values() if row.name in built or row.library in others]


def try_graph(graph: Path, provider: str) -> None:
    """Load a graph on a provider, and forget it.

    Raises:
        HeadHuntError: It does not load, for whatever reason.
    """
    if find_provider(provider).library is Library.ONNXRUNTIME:
        open_session(graph, provider)
        return
    try:
        load_openvino().Core().compile_model(str(graph), "CPU")
    except MissingExtra:
        raise
    except Exception as error:
        raise ProviderUnavailable(f"{provider} cannot load a graph ({first_line(error)})") from error
