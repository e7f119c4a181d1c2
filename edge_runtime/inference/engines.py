"""Opens the engine that runs a bundle's graphs. A new kind of engine is one file here beside `onnx_engine`."""

from __future__ import annotations

from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.onnx_engine import OnnxEngine


def open_engine(bundle: Bundle, provider: str = "auto", threads: int | None = None) -> Engine:
    """Load a bundle's graphs.

    Args:
        bundle: What `Bundle.open` returned.
        provider: `auto`, or a name of the table of providers.
        threads: Processor threads for one segment; the engine's own choice by default.

    Raises:
        BundleRefused: A graph cannot be loaded.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: No such provider, or fewer than one thread.
    """
    graphs = bundle.manifest.graphs
    vision, language = bundle.file(graphs.vision.file), bundle.file(graphs.language.file)
    return OnnxEngine(vision, language, provider, threads, group=graphs.frames_per_group)
