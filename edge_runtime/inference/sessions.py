"""The one place that opens ONNX Runtime sessions: which provider, how many threads, and what to say when it fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import BundleRefused, MissingExtra, ProviderUnavailable, UsageError, first_line
from edge_runtime.files import printable
from edge_runtime.inference.engine import is_out_of_memory
from edge_runtime.inference.providers import AUTO, CPU, PROVIDERS, Provider, automatic, find_provider

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

# ONNX Runtime's severity of what is fatal.
SILENT = 4


def load_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        MissingExtra: It is not installed; the message holds the pip command.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            'onnxruntime is not installed; run: pip install "headhunt-edge[cpu]" (or "headhunt-edge[gpu]")'
        ) from error
    return onnxruntime


def available_providers() -> list[str]:
    """Names of the providers that the installed ONNX Runtime was built with; it may still fail to load them."""
    built = load_onnxruntime().get_available_providers()
    return [row.name for row in PROVIDERS.values() if row.onnxruntime in built]


def choose_provider(provider: str) -> str:
    """Name of the provider to use: the best that is there for `auto`, otherwise the one that was asked for.

    Raises:
        UsageError: There is no provider of that name.
        ProviderUnavailable: The installed ONNX Runtime was built without it.
        MissingExtra: ONNX Runtime is not installed.
    """
    if provider == AUTO:
        built = available_providers()
        return next(row.name for row in automatic() if row.name in built)
    row = find_provider(provider)
    if row.kind not in (built := available_providers()):
        raise ProviderUnavailable(
            f"this ONNX Runtime has no {provider} provider (it has {', '.join(built)}); "
            f"install it in an environment of its own: pip install {row.package}"
        )
    return provider


def open_session(path: Path, provider: str, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open one graph.

    ONNX Runtime falls back to the CPU where a provider does not load. Here that is an error: an operator who asked
    for a GPU must not find out by the load on the CPU.

    Args:
        path: The ONNX file.
        provider: Name of a provider; not `auto`.
        threads: Of one call on the CPU; None leaves it to ONNX Runtime.

    Raises:
        BundleRefused: The graph cannot be loaded at all.
        ProviderUnavailable: The provider cannot load it and the CPU can, or there is no memory for it.
        MissingExtra: ONNX Runtime is not installed.
        UsageError: No such provider, or less than one thread.
    """
    row = find_provider(provider)
    if threads is not None and threads < 1:
        raise UsageError(f"threads starts at 1, got {threads}")
    runtime = load_onnxruntime()
    try:
        session = _session(runtime, path, row, threads)
    except Exception as error:  # ONNX Runtime raises its own and plain RuntimeErrors alike
        if row.name != CPU and _loads_on_cpu(runtime, path, threads):
            raise ProviderUnavailable(
                f"{provider} was asked for, but cannot load {path.name} ({printable(first_line(error))}); "
                "run `hh-edge doctor`, or choose --provider cpu"
            ) from error
        if is_out_of_memory(error):
            raise ProviderUnavailable(
                f"{provider} has no memory for {path.name} ({printable(first_line(error))}); free some"
            ) from error
        raise BundleRefused(f"{path.name}: ONNX Runtime cannot load it ({printable(first_line(error))})") from error
    if (actual := session.get_providers()[0]) != row.onnxruntime:
        raise ProviderUnavailable(
            f"{provider} was asked for, but ONNX Runtime fell back to {actual}: its libraries did not load; "
            "run `hh-edge doctor`, or choose --provider cpu"
        )
    log.debug("opened %s on %s", path.name, actual)
    return session


def _session(runtime: Any, path: Path, row: Provider, threads: int | None) -> onnxruntime.InferenceSession:
    options = runtime.SessionOptions()
    # Fatal only: what fails is raised with the same text, and the native logger would print names out of the graph,
    # which may hold anything, raw and once a segment.
    options.log_severity_level = SILENT
    if threads is not None:
        options.intra_op_num_threads = threads
    # Spinning threads would take whole cores from the recorder between two segments.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its Python side announces a fallback, at loading and at each call, with print(): stdout is the host's.
    return runtime.InferenceSession(
        str(path), options, providers=[(row.onnxruntime, dict(row.options))], enable_fallback=0
    )


def _loads_on_cpu(runtime: Any, path: Path, threads: int | None) -> bool:
    """Whether the graph is sound, so that a failure is the provider's."""
    try:
        _session(runtime, path, PROVIDERS[CPU], threads)
    except Exception:  # noqa: BLE001 - of whatever kind: it does not load
        return False
    return True
