"""What this machine offers to `hh-edge`: it looks and tries, changes nothing, and never fails on what it finds."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edge_runtime._version import __version__
from edge_runtime.errors import HeadHuntError, first_line
from edge_runtime.files import printable
from edge_runtime.inference.engines import installed, try_graph
from edge_runtime.inference.providers import OPENVINO, PROVIDERS, Library, Provider
from edge_runtime.machine import available_cores, available_memory, instructions, package_version

Level = Literal["ok", "note", "problem"]

_PACKAGES = ("numpy", "opencv-python-headless", "av", "msgspec", "click", "onnxruntime", "onnxruntime-gpu", OPENVINO)
_LITTLE_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `problem` where something is to be mended, `note` where something could be had.
        subject: What was looked at.
        found: What was found.
        advice: What to do about it; empty where there is nothing to do.
    """

    level: Level
    subject: str
    found: str
    advice: str = ""

    def lines(self) -> list[str]:
        """For a person: level, subject and what was found, then the advice. Safe to print on a terminal."""
        width = max(len(level) for level in get_args(Level))
        found = f"{self.level:<{width}}  {self.subject}: {printable(self.found)}"
        return [found, f"{'':<{width}}  -> {printable(self.advice)}"] if self.advice else [found]


def examine() -> list[Finding]:
    """Everything this module looks at, in the order in which a person should read it."""
    return [*_versions(), *_providers(), *_video(), *_processor(), *_memory(), *_gpu()]


def _versions() -> Iterator[Finding]:
    found = f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("ok", "headhunt-edge", found)
    versions = {name: package_version(name) for name in _PACKAGES}
    yield Finding("ok", "packages", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        yield Finding(
            "problem",
            "onnxruntime",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            'make a new environment and install one: pip install "headhunt-edge[cpu]" or "headhunt-edge[gpu]"',
        )
    if versions["opencv-python-headless"] and package_version("opencv-python"):
        yield Finding(
            "problem",
            "opencv",
            "opencv-python and opencv-python-headless are both installed and overwrite each other's files",
            "pip uninstall opencv-python opencv-python-headless, then pip install opencv-python-headless",
        )


def _providers() -> Iterator[Finding]:
    try:
        there = installed()
    except HeadHuntError as error:
        yield Finding("problem", "onnxruntime", "not installed", str(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "identity.onnx"
        graph.write_bytes(identity_graph())
        for row in PROVIDERS.values():
            subject = f"provider {row.name}"
            if row.name not in there:
                alone = ", in an environment of its own" if row.library is Library.ONNXRUNTIME else ""
                advice = f"for it{alone}: pip install {row.package}"
                yield Finding("note", subject, _absent(row), advice)
                continue
            try:
                try_graph(graph, row.name)
            except HeadHuntError as error:
                found = f"built in, but does not load ({first_line(error)})"
                yield Finding("problem", subject, found, row.advice)
            else:
                client = f"its client is installed; --provider {row.name}://host:port uses it"
                yield Finding("ok", subject, client if row.remote else "loads and runs")


def _absent(row: Provider) -> str:
    return "not in this ONNX Runtime" if row.onnxruntime else "not installed"


def _video() -> Iterator[Finding]:
    try:
        import cv2
    except ImportError as error:
        yield Finding(
            "problem", "opencv", f"cannot be imported ({first_line(error)})", "pip install opencv-python-headless"
        )
        return
    registry = cv2.videoio_registry
    if registry.hasBackend(cv2.CAP_FFMPEG):
        found = f"OpenCV {cv2.__version__} with FFmpeg for files, PyAV {package_version('av')} for network cameras"
        yield Finding("ok", "video", found)
    else:
        yield Finding(
            "problem",
            "video",
            f"OpenCV {cv2.__version__} without FFmpeg: neither files nor network cameras can be read",
            "pip install --force-reinstall opencv-python-headless",
        )
    if not registry.hasBackend(cv2.CAP_GSTREAMER):
        yield Finding("note", "gstreamer", "not in this OpenCV; it is not needed")
    if sys.platform == "linux":
        devices = sorted(path.name for path in Path("/dev").glob("video[0-9]*"))
        yield Finding("ok" if devices else "note", "devices", ", ".join(devices) or "no /dev/video* camera attached")


def _processor() -> Iterator[Finding]:
    cores = available_cores()
    flags = instructions()
    yield Finding("ok", "processor", f"{cores:g} cores for this process, {' '.join(flags) or 'instructions unknown'}")
    if platform.machine() in ("x86_64", "AMD64") and flags and "avx2" not in flags:
        yield Finding("note", "processor", "no AVX2", "expect a tenth of the usual speed; `hh-edge bench` tells")
    elif flags and not {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"} & set(flags):
        yield Finding("note", "processor", "no 8-bit dot products", "an int8 bundle gains little here over fp32")


def _memory() -> Iterator[Finding]:
    free = available_memory()
    if free is None:
        yield Finding("note", "memory", "unknown on this system")
    elif free < _LITTLE_MEMORY:
        advice = "a bundle takes about the size of its weights plus some hundred MiB; `hh-edge inspect` shows it"
        yield Finding("note", "memory", f"{free / 2**30:.1f} GiB available", advice)
    else:
        yield Finding("ok", "memory", f"{free / 2**30:.1f} GiB available")


def _gpu() -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("note", "gpu", "no nvidia-smi: no NVIDIA driver is visible", "use --provider cpu")
        return
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  its own path
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(
            "problem", "gpu", f"nvidia-smi does not answer ({first_line(error)})", "check the NVIDIA driver"
        )
        return
    rows = [row.strip() for row in done.stdout.splitlines() if row.strip()]
    if done.returncode or not rows:
        yield Finding("problem", "gpu", "nvidia-smi fails", "run it by hand; the driver may need a restart")
    for row in rows:
        yield Finding("ok", "gpu", row)


def identity_graph() -> bytes:
    """The smallest ONNX model there is, y = x of one float: to try a provider on, without the onnx package.

    Written as protobuf by hand, from the field numbers of onnx.proto.
    """

    def field(number: int, value: int | bytes) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    shape = field(2, field(1, field(1, 1)))
    tensor = field(1, field(1, 1) + shape)
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    values = [field(number, field(1, name) + field(2, tensor)) for number, name in ((11, b"x"), (12, b"y"))]
    graph = field(1, node) + field(2, b"identity") + b"".join(values)
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))
