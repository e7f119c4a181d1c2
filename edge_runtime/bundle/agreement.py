"""Whether a manifest and the graphs it names are of one build: names, types and shapes, before a graph is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET

from edge_runtime.bundle.manifest import MANIFEST, GrowingSpec, Manifest, TensorSpec
from edge_runtime.bundle.onnx_header import GraphHeader
from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable

_WAY_OUT = "build the bundle again"
_TOKEN_DTYPES = ("float32", "float16")
# How a free dimension is written in a message.
_FREE = "any"


def check_graphs(manifest: Manifest, headers: Mapping[str, GraphHeader]) -> None:
    """Compare the manifest with what its graphs declare, and the graphs with each other.

    Batches are free, every other dimension is fixed; but for lengths in the growing form.

    Args:
        manifest: Of the bundle.
        headers: What each of the graphs declares, by its file.

    Raises:
        BundleRefused: They disagree; the message names the file, what it declares and what it would have to.
    """
    growing = manifest.graphs.growing
    for stated in (manifest.graphs.vision, manifest.graphs.language, *(() if growing is UNSET else (growing,))):
        declared = headers[stated.file]
        _check_same(stated.file, "inputs", declared.inputs, stated.inputs)
        _check_same(stated.file, "outputs", declared.outputs, stated.outputs)

    vision, language = manifest.graphs.vision, manifest.graphs.language
    pixels, sampled, group = manifest.pixels, manifest.segment.sampled, manifest.graphs.frames_per_group
    frames = _spec("frames", "uint8", group, pixels.height, pixels.width, 3)
    _check_is(vision.file, "inputs", vision.inputs, frames, f"pixels.size {pixels.size}")

    tokens = vision.outputs[0] if len(vision.outputs) == 1 else None
    if tokens is None or tokens.name != "tokens" or tokens.dtype not in _TOKEN_DTYPES or not _is_batch(tokens, 3):
        raise BundleRefused(
            f"{vision.file}: its outputs are {_shown(vision.outputs)}, "
            f"expected is tokens {' or '.join(_TOKEN_DTYPES)} [{_FREE}, T, D]; {_WAY_OUT}"
        )
    per_group, width = (int(dim) for dim in tokens.shape[1:])
    all_tokens = _spec("tokens", tokens.dtype, sampled // group * per_group, width)
    reason = f"segment.sampled {sampled} and {vision.file}"
    _check_is(language.file, "inputs", language.inputs, all_tokens, reason)

    features = _spec("features", "float32", manifest.feature_size)
    reason = f"{len(manifest.experts)} experts and geometry.head_dim {manifest.geometry.head_dim}"
    _check_is(language.file, "outputs", language.outputs, features, reason)
    if growing is not UNSET:
        if len(growing.ends) != sampled // group:
            raise BundleRefused(
                f"{MANIFEST}: graphs.growing.ends has {len(growing.ends)} entries for {sampled // group} groups of "
                f"frames; {_WAY_OUT}"
            )
        _check_growing(growing, all_tokens, features)
    scorer = headers[manifest.scorer.file]
    _check_is(manifest.scorer.file, "inputs", scorer.inputs, features, reason)
    # It may give more than is asked of it, such as a classifier's label.
    given = [tensor for tensor in scorer.outputs if tensor.name == "probabilities"] or scorer.outputs
    _check_is(manifest.scorer.file, "outputs", given, _spec("probabilities", "float32", 2), "two classes")


def _check_growing(growing: GrowingSpec, tokens: TensorSpec, features: TensorSpec) -> None:
    """It takes tokens and gives features as the language graph does, and what it gives it takes again."""

    def state(name: str) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=[_FREE, _FREE, growing.state_width])

    some_tokens = TensorSpec(name="tokens", dtype=tokens.dtype, shape=[_FREE, _FREE, tokens.shape[-1]])
    positions = TensorSpec(name="positions", dtype="int64", shape=[_FREE])
    for what, found, wanted in (
        ("inputs", growing.inputs, [some_tokens, positions, state("state")]),
        ("outputs", growing.outputs, [features, state("grown")]),
    ):
        if len(found) != len(wanted) or not all(map(_same, found, wanted)):
            raise BundleRefused(
                f"{growing.file}: its {what} are {_shown(found)}, expected is {_shown(wanted)}; {_WAY_OUT}"
            )


def _spec(name: str, dtype: str, *dims: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=[_FREE, *dims])


def _check_same(file: str, what: str, declared: Sequence[TensorSpec], stated: Sequence[TensorSpec]) -> None:
    if len(declared) != len(stated) or not all(map(_same, declared, stated)):
        raise BundleRefused(
            f"{file}: its {what} are {_shown(declared)}, {MANIFEST} says {_shown(stated)}; {_WAY_OUT}"
        )


def _check_is(file: str, what: str, found: Sequence[TensorSpec], wanted: TensorSpec, reason: str) -> None:
    if len(found) != 1 or not _same(found[0], wanted):
        raise BundleRefused(
            f"{file}: its {what} are {_shown(found)}, expected for {reason} is {_shown([wanted])}; {_WAY_OUT}"
        )


def _same(one: TensorSpec, other: TensorSpec) -> bool:
    """Equal in name, type and rank, and each dimension equal or free in both."""
    if (one.name, one.dtype, len(one.shape)) != (other.name, other.dtype, len(other.shape)):
        return False
    return all(a == b or (_is_free(a) and _is_free(b)) for a, b in zip(one.shape, other.shape, strict=True))


def _is_free(dim: int | str) -> bool:
    return isinstance(dim, str) or dim < 1


def _is_batch(tensor: TensorSpec, rank: int) -> bool:
    """Whether the first of `rank` dimensions is free, and no other."""
    return [_is_free(dim) for dim in tensor.shape] == [True] + [False] * (rank - 1)


def _shown(tensors: Sequence[TensorSpec]) -> str:
    texts = (
        f"{tensor.name} {tensor.dtype} [{', '.join(_FREE if _is_free(dim) else str(dim) for dim in tensor.shape)}]"
        for tensor in tensors
    )
    return printable(", ".join(texts)) or "none"
