"""What a bundle may ask of a machine, signed or not: sizes that are plausible, and graphs that only compute.

A graph is read as far as its operators' names. What the operators compute with is not followed: a graph may still ask
for more memory than there is while it runs, so that a service of which that must not happen runs with a limit.
"""

from __future__ import annotations

import math

from msgspec import UNSET

from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edge_runtime.bundle.wire import fields, messages, text
from edge_runtime.errors import BundleRefused
from edge_runtime.files import format_bytes, printable

GIB = 2**30
#: Files of a bundle, and the largest of them and all together, in bytes. An 8B model takes 9 to 17 GiB.
MOST_FILES = 1000
MOST_BYTES = 256 * GIB
#: What one segment may take outside the graphs: frames, tokens, features, the growing form's keys and values.
MOST_SEGMENT_BYTES = 16 * GIB
MOST_PROMPT = 100_000
#: Of a model, far beyond any that there is: decoder layers, heads, head width, model width, experts.
MOST_LAYERS, MOST_HEADS, MOST_HEAD_DIM, MOST_WIDTH, MOST_EXPERTS = 1000, 1024, 4096, 2**18, 4096

# Operators that exporters write: those of ONNX itself, and its classical learners, of which the scorer is made.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Those that run graphs of their own, for ever if they like. None is in a bundle that `hh-offline build` made.
_CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_WAY_OUT = "do not use this bundle, or build it again with hh-offline"


def check_sizes(manifest: Manifest) -> None:
    """Refuse a manifest whose numbers no real bundle has, before a file is read because of them.

    Raises:
        BundleRefused: One is out of bounds; the message names it, its value and the bound.
    """
    geometry, files = manifest.geometry, manifest.files
    for name, value, least, most in (
        ("geometry.layers", geometry.layers, 1, MOST_LAYERS),
        ("geometry.heads", geometry.heads, 1, MOST_HEADS),
        ("geometry.head_dim", geometry.head_dim, 1, MOST_HEAD_DIM),
        ("geometry.width", geometry.width, 1, MOST_WIDTH),
        ("the number of experts", len(manifest.experts), 1, MOST_EXPERTS),
        ("the length of prompt.text", len(manifest.prompt.text), 0, MOST_PROMPT),
        ("the number of files", len(files), 1, MOST_FILES),
        ("the smallest file's bytes", min((entry.bytes for entry in files), default=0), 0, MOST_BYTES),
        ("the files' bytes", sum(entry.bytes for entry in files), 0, MOST_BYTES),
    ):
        if not least <= value <= most:
            raise BundleRefused(f"{MANIFEST}: {name} must lie in {least}..{most}, got {value}; {_WAY_OUT}")
    if any(entry.path == SIGNATURE for entry in files):
        raise BundleRefused(f"{MANIFEST}: files lists {SIGNATURE}, which signs the list; {_WAY_OUT}")
    if (asked := segment_bytes(manifest)) > MOST_SEGMENT_BYTES:
        raise BundleRefused(
            f"{MANIFEST}: one segment would take {format_bytes(asked)} of frames, tokens and states, more than the "
            f"{format_bytes(MOST_SEGMENT_BYTES)} allowed; {_WAY_OUT}"
        )


def segment_bytes(manifest: Manifest) -> int:
    """What one segment takes in memory outside the graphs, at least: an estimate from what the manifest states."""
    graphs, sampled = manifest.graphs, manifest.segment.sampled
    groups = sampled // graphs.frames_per_group
    frames = sampled * manifest.pixels.height * manifest.pixels.width * 3
    # A dimension that is free counts as one: whether it may be is for others to say.
    tokens = sum(
        groups * 4 * math.prod(dim if isinstance(dim, int) else 1 for dim in output.shape[1:])
        for output in graphs.vision.outputs
    )
    state = 0 if graphs.growing is UNSET else graphs.growing.ends[-1] * graphs.growing.state_width * 4
    return frames + tokens + state + manifest.feature_size * 4


def check_operators(data: bytes, name: str) -> None:
    """Refuse a graph that holds more than operators which compute: control flow, functions, operators of others.

    Args:
        data: A serialised ONNX model whose external data were checked.
        name: The file, for messages.

    Raises:
        BundleRefused: It does; the message names the operator.
    """
    try:
        _check_model(memoryview(data), name)
    except ValueError as error:
        raise BundleRefused(f"{name}: is not an ONNX file ({error}); build the bundle again") from error


def _check_model(model: memoryview, name: str) -> None:
    """A ModelProto: graph 7, functions 25; in a graph node 1; in a node op_type 4, attribute 5, domain 7."""
    for function in messages(model, 25):
        shown = printable(text(function, 1))[:80]
        raise BundleRefused(f"{name}: defines a function {shown!r} of its own, which is not allowed; {_WAY_OUT}")
    # A field that stands several times is merged by other parsers: each part counts.
    for graph in messages(model, 7):
        for node in messages(graph, 1):
            _check_node(node, name)


def _check_node(node: memoryview, name: str) -> None:
    operator, domain = text(node, 4), text(node, 7)
    shown = printable(f"{domain}:{operator}" if domain else operator)[:80]
    if domain not in _DOMAINS:
        raise BundleRefused(f"{name}: has the operator {shown!r}, of a domain that is not allowed; {_WAY_OUT}")
    if operator in _CONTROL or any(_holds_graph(attribute) for attribute in messages(node, 5)):
        raise BundleRefused(
            f"{name}: has the operator {shown!r}, which runs a graph of its own and is not allowed; {_WAY_OUT}"
        )


def _holds_graph(attribute: memoryview) -> bool:
    """An AttributeProto: a graph is its field 6, several are 11."""
    return any(number in (6, 11) and isinstance(value, memoryview) for number, value in fields(attribute))
