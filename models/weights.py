"""A checkpoint's weights: read one at a time from its safetensors files, and in memory only where they are needed.

The model itself is built without memory for its weights (`meta` tensors). `fill` gives a part of it its weights,
`held` gives them for a while. So a model that is larger than the memory runs one layer after the other, and an export
reads each tensor when it writes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError, first_line
from models.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What weights may be stored in, as safetensors names it.
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# Values that are looked at together when a checkpoint is checked.
_CHUNK = 2**24


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        path: The safetensors file.
        key: Its name there.
        shape: Its shape.
        dtype: As safetensors names it: `F32`, `BF16`, …
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """Find the safetensors files of a checkpoint: one, or the shards that its index names.

    Raises:
        CheckpointError: There are none, or a shard is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise CheckpointError(f"holds no weights ({WEIGHTS} or {INDEX}); copy the whole checkpoint")
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{INDEX}: names no shards; copy the checkpoint again")
    paths = sorted({folder / name for name in names.values()})
    if missing := [path.name for path in paths if not path.is_file()]:
        raise CheckpointError(f"{len(missing)} of {len(paths)} shards are missing (first: {missing[0]}); copy them")
    return paths


class Weights:
    """The weights of one model.

    Args:
        files: The safetensors files; see `weight_files`.
        model: The transformers model, built without memory for its weights.
        dtype: What floating-point weights are converted to when they are read.
        device: Where they go.

    Raises:
        CheckpointError: A file is cut or damaged, or a weight is missing or of another shape.

    Attributes:
        dtype: See above.
        device: See above; changed by `release`.
    """

    def __init__(self, files: Sequence[Path], model: Any, dtype: torch.dtype, device: str = "cpu") -> None:
        self.dtype = dtype
        self.device = torch.device(device)
        self._model = model
        self._tied: dict[str, str] = dict(model.all_tied_weights_keys)
        self._stored = _find(files, model)
        stored = model.state_dict()
        buffers = {name: buffer for name, buffer in model.named_buffers() if name in stored}
        wanted = {**dict(model.named_parameters(remove_duplicate=False)), **buffers}
        self._check(wanted)
        self._wanted = tuple(wanted)
        self._names: dict[int, str] = {id(tensor): name for name, tensor in wanted.items()}
        self._taken: dict[tuple[int, str], tuple[nn.Module, nn.Parameter]] = {}
        for name in buffers:
            module, _, key = name.rpartition(".")
            model.get_submodule(module)._buffers[key] = self.read(name)

    def _check(self, wanted: Mapping[str, Tensor]) -> None:
        missing = sorted(name for name in wanted if self._source(name) not in self._stored)
        if missing:
            raise CheckpointError(f"{len(missing)} weights are missing (first: {missing[0]})")
        for name, tensor in wanted.items():
            found = self._stored[self._source(name)]
            if found.shape != tuple(tensor.shape):
                raise CheckpointError(
                    f"{found.path.name}: weight {name} is {_sides(found.shape)}, "
                    f"the config says {_sides(tensor.shape)}"
                )
            if found.dtype not in _DTYPES:
                raise CheckpointError(
                    f"{found.path.name}: weight {name} is stored as {found.dtype}; only {', '.join(_DTYPES)} are "
                    "supported, use the checkpoint that was not quantised"
                )

    def _source(self, name: str) -> str:
        """The stored weight that a weight is: another one's, where the two are tied."""
        return name if name in self._stored else self._tied.get(name, name)

    @property
    def stored_dtype(self) -> torch.dtype:
        """The type that most of the weights are stored in."""
        sizes: Counter[str] = Counter()
        for name in self._wanted:
            stored = self._stored[self._source(name)]
            sizes[stored.dtype] += math.prod(stored.shape)
        return _DTYPES[sizes.most_common(1)[0][0]]

    def name_of(self, parameter: Tensor) -> str:
        """The name of one of the model's own weights, as the model calls it."""
        return self._names[id(parameter)]

    def read(self, name: str, rows: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Read one weight, or some of its rows, into memory of its own on the CPU.

        Args:
            name: As the model calls it.
            rows: Indices of its first axis, in any order; None for all.
            dtype: None for the one of these weights.

        Raises:
            CheckpointError: The file cannot be read.
        """
        from safetensors import safe_open

        stored = self._stored[self._source(name)]
        try:
            # Opened anew each time: as long as a file is open, all that was read of it stays mapped.
            with safe_open(stored.path, framework="pt") as file:
                if rows is None:
                    found = file.get_tensor(stored.key)
                else:
                    part = file.get_slice(stored.key)
                    found = torch.cat([part[row : row + 1] for row in rows])
                value: Tensor = found.to(dtype or self.dtype, copy=True)
                return value
        except Exception as error:
            raise CheckpointError(f"{stored.path.name}: cannot be read ({first_line(error)})") from error

    def fill(self, *parts: nn.Module) -> None:
        """Give parts of the model their weights, where they have none yet, until `release`.

        Raises:
            CheckpointError: A file cannot be read.
        """
        for part in parts:
            self._fill(part)

    @contextmanager
    def held(self, *parts: nn.Module) -> Iterator[None]:
        """Give parts of the model their weights for a while; what they had before stays.

        Raises:
            CheckpointError: A file cannot be read.
        """
        filled = []
        try:
            for part in parts:
                filled += self._fill(part)
            yield
        finally:
            for module, key in filled:
                # Not those that were taken away meanwhile.
                if (id(module), key) in self._taken:
                    self._drop(module, key)

    def release(self, device: str | None = None) -> None:
        """Take all weights away; what is filled from now on goes to `device`."""
        for (_, key), (module, _empty) in list(self._taken.items()):
            self._drop(module, key)
        if device is not None:
            self.device = torch.device(device)
            for module in self._model.modules():
                for key, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[key] = buffer.to(self.device)

    def convert(self, dtype: torch.dtype) -> None:
        """Read weights in another number format from now on; those in memory are taken away."""
        self.release()
        self.dtype = dtype
        for parameter in self._model.parameters():
            parameter.data = parameter.data.to(dtype)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Read weights in float32 for a while, as graphs are made and compared; those in memory are taken away."""
        dtype = self.dtype
        self.convert(torch.float32)
        try:
            yield
        finally:
            self.convert(dtype)

    def size(self, part: nn.Module) -> int:
        """How many bytes the weights of a part take in memory."""
        return sum(parameter.numel() for parameter in part.parameters()) * self.dtype.itemsize

    @property
    def whole_size(self) -> int:
        """How many bytes all weights of the model take in memory."""
        return self.size(self._model)

    def check_finite(self, progress: Callable[[int], None] | None = None) -> None:
        """Read every weight once, a piece at a time.

        Args:
            progress: Told of every tensor's bytes.

        Raises:
            CheckpointError: One holds values that are not finite, or cannot be read.
        """
        from safetensors import safe_open

        for name, stored in self._stored.items():
            try:
                with safe_open(stored.path, framework="pt") as file:
                    flat = file.get_tensor(stored.key).reshape(-1)
                    if progress is not None:
                        progress(flat.nbytes)
                    finite = all(bool(torch.isfinite(piece).all()) for piece in flat.split(_CHUNK))
            except Exception as error:
                raise CheckpointError(f"{stored.path.name}: cannot be read ({first_line(error)})") from error
            if not finite:
                raise CheckpointError(f"weight {name} holds values that are not finite; copy the checkpoint again")

    def _fill(self, part: nn.Module) -> list[tuple[nn.Module, str]]:
        filled = []
        for module in part.modules():
            for key, parameter in module._parameters.items():
                if parameter is None or not parameter.is_meta:
                    continue
                # Weights made under inference mode could not be used outside of it.
                name = self._names[id(parameter)]
                with torch.inference_mode(mode=False):
                    value = nn.Parameter(self.read(name).to(self.device), requires_grad=False)
                module._parameters[key] = value
                self._names[id(value)] = name
                self._taken[id(module), key] = (module, parameter)
                filled.append((module, key))
        return filled

    def _drop(self, module: nn.Module, key: str) -> None:
        value = module._parameters[key]
        assert value is not None
        del self._names[id(value)]
        module._parameters[key] = self._taken.pop((id(module), key))[1]


def _find(files: Sequence[Path], model: Any) -> dict[str, StoredTensor]:
    """Every tensor of the files by the name that the model has for it; none of it is read yet."""
    from safetensors import safe_open
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    conversions = get_model_conversion_mapping(model)
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    converters = [one for one in conversions if not isinstance(one, WeightRenaming)]
    own = model.state_dict()
    found: dict[str, StoredTensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                stored = [
                    StoredTensor(path, key, tuple(part.get_shape()), str(part.get_dtype()))
                    for key, part in parts.items()
                ]
        except Exception as error:
            raise CheckpointError(
                f"{path.name}: cannot be read as weights ({first_line(error)}); copy it again"
            ) from error
        for one in stored:
            name, converted = rename_source_key(one.key, renamings, converters, model.base_model_prefix, own)
            if converted is not None:
                raise CheckpointError(f"{path.name}: weight {one.key} is stored in a form that is not supported")
            found[name] = one
    return found


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
