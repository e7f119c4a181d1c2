"""`config.pbtxt` of each model, as text: what it takes and gives, how it is batched, and which bundle it is of.

The format is the text form of the protobuf message `inference.ModelConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import UsageError
from edge_runtime.inference.triton_names import BUNDLE_PARAMETER

Backend = Literal["onnxruntime", "python"]
Device = Literal["auto", "cpu", "gpu"]

CONFIG = "config.pbtxt"
#: What models take that decode.
JPEG = "jpeg"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}
_BUNDLE = re.compile(r'key: "' + BUNDLE_PARAMETER.format(version=r"([0-9]+)") + r'" value \{ string_value: "([^"]*)"')
_DELAY, _DEVICE = "--queue-delay-ms", "--device"
_OPTIONS = {
    option: re.compile(pattern, re.MULTILINE)
    for option, pattern in {
        "--backend": r'^backend: "(\w+)"',
        "--max-batch": r"^max_batch_size: ([0-9]+)",
        "--preferred-batch": r"preferred_batch_size: \[ ([0-9, ]+) \]",
        _DELAY: r"max_queue_delay_microseconds: ([0-9]+)",
        "--instances": r"^instance_group \[ \{ count: ([0-9]+)",
        _DEVICE: r"^instance_group .* kind: KIND_(\w+)",
        # 0 is what models in Python are told where none were given.
        "--threads": r'key: "(?:threads|intra_op_thread_count)" value \{ string_value: "([1-9][0-9]*)"',
        "--python-path": r'key: "python_path" value \{ string_value: "((?:[^"\\]|\\.)+)"',
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a server runs the models.

    Attributes:
        backend: What runs the graphs there.
        device: Where; `auto` is a GPU where the server has one.
        instances: How many copies of the vision and language graphs, on each GPU or in all.
        threads: Processor threads of one instance; None leaves it to ONNX Runtime.
        max_batch: How many segments one run may have.
        preferred: Batches that are run at once, when they have come together; by default half and all of the most.
        delay_us: How many microseconds a segment waits for others.
        python_path: Where models in Python find numpy, onnxruntime and OpenCV, in that order of folders.

    Raises:
        UsageError: Values that make no sense.
    """

    backend: Backend = "onnxruntime"
    device: Device = "auto"
    instances: int = 1
    threads: int | None = None
    max_batch: int = 8
    preferred: tuple[int, ...] = ()
    delay_us: int = 2000
    python_path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.instances < 1 or self.delay_us < 0:
            raise UsageError("batches and instances of a Triton model start at 1, delays at 0")
        if any(not 1 <= size <= self.max_batch for size in self.preferred):
            raise UsageError(f"preferred batches lie between 1 and the largest, {self.max_batch}")

    @property
    def batches(self) -> list[int]:
        """The preferred sizes, smallest first."""
        return sorted({*(self.preferred or (max(1, self.max_batch // 2), self.max_batch))})


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: Its name.
        dtype: As in the manifest.
        dims: Without the batch; -1 is free.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]

    def text(self) -> str:
        """As it stands in a configuration."""
        dims = ", ".join(map(str, self.dims))
        return f'{{ name: "{self.name}" data_type: {_TYPES[self.dtype]} dims: [ {dims} ] }}'


@dataclass(frozen=True, slots=True)
class Tensors:
    """All that travels between the models of a bundle."""

    jpeg: Tensor
    frames: Tensor
    tokens: Tensor
    sequence: Tensor
    features: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, manifest: Manifest) -> Tensors:
        """Of a bundle: `tokens` of any number of frames, `sequence` those of a whole segment."""
        _, height, width, channels = (int(dim) for dim in manifest.graphs.vision.inputs[0].shape[1:])
        tokens = manifest.graphs.vision.outputs[0]
        length, depth = (int(dim) for dim in manifest.graphs.language.inputs[0].shape[1:])
        return cls(
            Tensor(JPEG, "uint8", (-1, -1)),
            Tensor("frames", "uint8", (-1, height, width, channels)),
            Tensor("tokens", tokens.dtype, (-1, depth)),
            Tensor("tokens", tokens.dtype, (length, depth)),
            Tensor("features", "float32", (manifest.feature_size,)),
            Tensor("probabilities", "float32", (2,)),
        )


def interface(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
    """The part of a configuration that all versions of a model share."""
    return "".join(
        f"{what} [ {', '.join(tensor.text() for tensor in tensors)} ]\n"
        for what, tensors in (("input", inputs), ("output", outputs))
    )


def graph_config(
    name: str,
    serving: Serving,
    given: Tensor,
    made: Tensor,
    warm: Sequence[int] | None,
    parameters: Mapping[str, str],
    *,
    light: bool = False,
) -> str:
    """Of a model that runs one graph, or decodes.

    Args:
        name: The model's.
        serving: How it is run.
        given: What it takes.
        made: What it gives.
        warm: The input's dimensions in the request that warms it up; None for none.
        parameters: For the client and the model.
        light: Whether it is run on the CPU, once, whatever the others are.
    """
    python = serving.backend == "python"
    kind = "KIND_CPU" if light else {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}[serving.device]
    count = 1 if light else serving.instances
    own = dict(parameters)
    if python:
        own |= {"task": "decode" if given.name == JPEG else "graph", "threads": str(serving.threads or 0)}
        own |= {"python_path": ":".join(serving.python_path)}
    elif serving.threads is not None:
        own["intra_op_thread_count"] = str(serving.threads)
    lines = [
        f'name: "{name}"',
        f'backend: "{serving.backend}"',
        f'default_model_filename: "{"model.py" if python else "model.onnx"}"',
        f"max_batch_size: {serving.max_batch}",
        "version_policy { all { } }",
        interface([given], [made]).rstrip(),
        f"instance_group [ {{ count: {count} kind: {kind} }} ]",
        f"dynamic_batching {{ preferred_batch_size: [ {', '.join(map(str, serving.batches))} ] "
        f"max_queue_delay_microseconds: {serving.delay_us} }}",
    ]
    if warm is not None:
        dims = ", ".join(map(str, warm))
        lines += [
            f'model_warmup [ {{ name: "batch of {size}" batch_size: {size} inputs {{ key: "{given.name}" value '
            f"{{ data_type: {_TYPES[given.dtype]} dims: [ {dims} ] zero_data: true }} }} }} ]"
            for size in sorted({1, serving.max_batch})
        ]
    return "\n".join([*lines, *_parameters(own)]) + "\n"


def ensemble_config(
    name: str,
    serving: Serving,
    steps: Sequence[tuple[str, int, Tensor, Tensor]],
    parameters: Mapping[str, str],
) -> str:
    """Of an ensemble: each step is a model, its version, what it takes and what it gives; names are the tensors'."""
    parts = [
        f'{{ model_name: "{model}" model_version: {version} '
        f'input_map {{ key: "{first.name}" value: "{first.name}" }} '
        f'output_map {{ key: "{second.name}" value: "{second.name}" }} }}'
        for model, version, first, second in steps
    ]
    lines = [
        f'name: "{name}"',
        'platform: "ensemble"',
        f"max_batch_size: {serving.max_batch}",
        interface([steps[0][2]], [steps[-1][3]]).rstrip(),
        "ensemble_scheduling { step [",
        ",\n".join(f"  {part}" for part in parts),
        "] }",
    ]
    return "\n".join([*lines, *_parameters(parameters)]) + "\n"


def bundles_of(config: str) -> dict[int, str]:
    """Which bundle each version is of, as a configuration of ours says."""
    return {int(version): bundle for version, bundle in _BUNDLE.findall(config)}


def options_of(config: str) -> dict[str, str]:
    """What of `Serving` a configuration of ours was written with, by the options of `hh-offline triton`.

    All versions of a model share it. What it does not say is `default`.
    """
    found = {option: pattern.search(config) for option, pattern in _OPTIONS.items()}
    told = {option: "default" if match is None else match[1] for option, match in found.items()}
    if told[_DELAY].isdecimal():
        told[_DELAY] = f"{int(told[_DELAY]) / 1000:g}"
    return told | {_DEVICE: told[_DEVICE].lower()}


def bundle_parameters(versions: Mapping[int, str]) -> dict[str, str]:
    """The reverse."""
    return {BUNDLE_PARAMETER.format(version=version): bundle for version, bundle in sorted(versions.items())}


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [
        f'parameters {{ key: "{key}" value {{ string_value: "{_quoted(text)}" }} }}' for key, text in values.items()
    ]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
