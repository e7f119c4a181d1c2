"""The one place that opens ONNX Runtime sessions. Knows providers and threads; nothing of what a graph means."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import BundleRefused, MissingExtra, ProviderUnavailable, UsageError, first_line

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
# `auto` never picks TensorRT: it compiles engines for minutes, which somebody should have asked for.
_AUTO = ("cuda", "openvino", "cpu")


def load_onnxruntime() -> Any:
    """The onnxruntime module. Raises MissingExtra with the pip command where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            'onnxruntime is not installed; run: pip install "headhunt-edge[cpu]" (or "headhunt-edge[gpu]")'
        ) from error
    return onnxruntime


def available_providers() -> list[str]:
    """Names (keys of PROVIDERS) that the installed ONNX Runtime was built with; it may still fail to load them."""
    built = load_onnxruntime().get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider in built]


def choose_provider(provider: str) -> str:
    """`auto` to the best provider that is there; every other name stays. Raises UsageError, ProviderUnavailable."""
    if provider == "auto":
        built = available_providers()
        return next(name for name in _AUTO if name in built)
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}; choose from auto, {', '.join(PROVIDERS)}")
    if provider not in (built := available_providers()):
        package = "onnxruntime-openvino" if provider == "openvino" else '"headhunt-edge[gpu]"'
        raise ProviderUnavailable(
            f"this ONNX Runtime has no {provider} provider (it has {', '.join(built)}); "
            f"install it in an environment of its own: pip install {package}"
        )
    return provider


def open_session(path: Path, provider: str, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open one graph on `provider` (a key of PROVIDERS).

    ONNX Runtime falls back to the CPU without a word where a provider's libraries do not load. Here that is an
    error (ProviderUnavailable): an operator who asked for a GPU must not find out by the load on the CPU.
    Raises BundleRefused where the graph cannot be loaded at all.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads starts at 1, got {threads}")
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    # Spinning threads would take whole cores from the recorder between two segments.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = PROVIDERS[provider]
    try:
        session = runtime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # ONNX Runtime raises its own and plain RuntimeErrors alike
        raise BundleRefused(f"{path.name}: ONNX Runtime cannot load it ({first_line(error)})") from error
    if (actual := session.get_providers()[0]) != wanted:
        raise ProviderUnavailable(
            f"{provider} was asked for, but ONNX Runtime fell back to {actual}: its libraries did not load; "
            "run `hh-edge doctor`, or choose --provider cpu"
        )
    log.debug("opened %s on %s", path.name, actual)
    return session
