"""What a bundle says about itself, as frozen values: manifest.json read, checked and sealed.

Unknown keys are refused: a manifest that this version does not understand is not guessed at.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable
from edge_runtime.schema import schema_of
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from edge_runtime.strict_json import parse_json

SCHEMA_VERSION = 2
# Version 1 had none of the keys that are optional now, and squares alone.
READ_VERSIONS = (1, 2)
MANIFEST = "manifest.json"
# A detached signature over the manifest, the one file that `files` does not list.
SIGNATURE = "manifest.sig"
REPORT = "report.html"
# What the figures of `--reuse-unchanged` among those of parity begin with.
REUSE = "reuse_"

Precision = Literal["fp32", "bf16", "fp16", "int8"]


class SourceModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the weights came from.

    Attributes:
        name: A Hugging Face id, a folder's name, or `reference`.
        revision: The hub's commit, or `sha256:` and the beginning of the fingerprint.
        architecture: The class that the config names.
        licence: What the model card says, else `unknown`.
        dtype: What the model computed in while heads were hunted.
        system_message: What stands before the user's part of the sequence, where it is not the template's own.
    """

    name: str
    revision: str
    architecture: str
    licence: str
    dtype: str | UnsetType = UNSET
    system_message: str | UnsetType = UNSET


class PromptEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The one phrasing of the task that is baked into the language graph."""

    name: str
    text: str


class ExpertEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One expert head with its robust saliency, in rank order."""

    layer: int
    head: int
    rss: float


class GeometryEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the source model's decoder: layers L, heads H per layer, head width d_h, model width D."""

    layers: int
    heads: int
    head_dim: int
    width: int


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One input or output of a graph; a name in `shape` is a free dimension."""

    name: str
    dtype: str
    shape: list[int | str]


class GraphSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ONNX graph of the bundle.

    Attributes:
        file: Its name.
        precision: Of its products.
        inputs: What it takes.
        outputs: What it gives.
        kept: Layers left at a higher precision, by name.
    """

    file: str
    precision: Precision
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    kept: list[str] | UnsetType = UNSET

    @property
    def rounding(self) -> str:
        """The precision for a person, with what does not share it."""
        if self.kept is UNSET or not self.kept:
            return self.precision
        return f"{self.precision} ({len(self.kept)} layers kept at a higher one: {', '.join(self.kept)})"


class GrowingSpec(GraphSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The decoder of the language graph over some positions of the sequence at a time.

    Attributes:
        ends: Where each group of frames ends in the sequence; the last one with the question behind it.
    """

    ends: list[int]

    def __post_init__(self) -> None:
        if self.ends != sorted(set(self.ends)) or self.ends[:1] < [1]:
            raise ValueError(f"graphs.growing.ends must rise from 1 or more, got {self.ends}")
        shape = self.inputs[-1].shape if self.inputs else []
        if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 1:
            raise ValueError(f"graphs.growing takes a state of shape [batch, positions, C], got {shape}")

    @property
    def state_width(self) -> int:
        """C, how many floats a position leaves for later ones."""
        return int(self.inputs[-1].shape[2])


class Graphs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The two graphs of the model; `growing` is another form of the second, for encoding ahead."""

    vision: GraphSpec
    language: GraphSpec
    growing: GrowingSpec | UnsetType = UNSET

    def __post_init__(self) -> None:
        shape = self.vision.inputs[0].shape if self.vision.inputs else []
        if len(shape) != 5 or not isinstance(shape[1], int) or shape[1] < 1:
            raise ValueError(f"graphs.vision takes frames of shape [n, g, H, W, 3], got {shape}")

    @property
    def files(self) -> list[str]:
        """Of all of them."""
        return [self.vision.file, self.language.file, *(() if self.growing is UNSET else (self.growing.file,))]

    @property
    def frames_per_group(self) -> int:
        """g, how many frames the vision graph merges into one."""
        return int(self.vision.inputs[0].shape[1])

    @property
    def tokens_per_group(self) -> int:
        """T, how many tokens the vision graph makes of a group of frames."""
        return int(self.vision.outputs[0].shape[1])

    @property
    def precisions(self) -> tuple[Precision, Precision]:
        """Those of the vision and the language graph."""
        return self.vision.precision, self.language.precision


class Scorer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The logistic regression: its graph and what it was fitted on."""

    file: str
    standardised: bool
    unit: Literal["video", "segment", "mixed"]
    samples: int
    anomalous: int


class Locators(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The two calibrated operating points."""

    full: LocatorSpec
    low_latency: LocatorSpec

    def __post_init__(self) -> None:
        if self.low_latency.lookahead != 0:
            raise ValueError(f"locators.low_latency waits for nothing, got lookahead {self.low_latency.lookahead}")

    def named(self, name: str) -> LocatorSpec:
        """The operating point `full` or `low_latency`; KeyError otherwise."""
        return {"full": self.full, "low_latency": self.low_latency}[name]


class Validation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frame-level figures of the `full` operating point on the validation split; None where undefined."""

    auc: float | None
    ap: float | None
    f1: float | None
    videos: int
    frames: int


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the bundle; `path` is relative, with forward slashes."""

    path: str
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a bundle says about itself. With the file hashes inside, `bundle_id` seals all of it.

    Of the optional keys, `decoder` names what decoded the calibration videos, where its pictures differ from other
    decoders'; `licences` gives the licence of each part that is not ours, by the part's name.
    """

    schema_version: int
    bundle_id: str
    created: str
    producer: dict[str, str]
    source_model: SourceModelEntry
    prompt: PromptEntry
    experts: list[ExpertEntry]
    geometry: GeometryEntry
    segment: SegmentSpec
    pixels: PixelSpec
    graphs: Graphs
    scorer: Scorer
    locators: Locators
    validation: Validation
    parity: dict[str, float]
    files: list[FileEntry]
    decoder: str | UnsetType = UNSET
    licences: dict[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.experts:
            raise ValueError("experts must not be empty")
        for expert in self.experts:
            if not (0 <= expert.layer < self.geometry.layers and 0 <= expert.head < self.geometry.heads):
                raise ValueError(f"expert ({expert.layer}, {expert.head}) lies outside the geometry")
        paths = [entry.path for entry in self.files]
        for path in paths:
            check_path(path)
        if len(set(paths)) != len(paths):
            raise ValueError("files names a path twice")
        for name in (*self.graphs.files, self.scorer.file):
            if name not in paths:
                raise ValueError(f"files does not list {name}")

        if (twice := len(self.experts) - len({(expert.layer, expert.head) for expert in self.experts})) > 0:
            raise ValueError(f"experts names {twice} head(s) twice")
        if self.segment.sampled % self.graphs.frames_per_group:
            raise ValueError(
                f"segment.sampled is {self.segment.sampled}, not a multiple of the {self.graphs.frames_per_group} "
                "frames that graphs.vision takes together"
            )
        sides = self.graphs.vision.inputs[0].shape[2:4]
        for side, stated in zip(sides, (self.pixels.height, self.pixels.width), strict=True):
            if isinstance(side, int) and side != stated:
                raise ValueError(f"graphs.vision takes pictures of {side} pixels, pixels.size is {self.pixels.size}")

    @property
    def reuse_threshold(self) -> float | None:
        """Up to how many grey levels of `--reuse-unchanged` the build measured the accuracy; None: not at all."""
        return self.parity.get(f"{REUSE}threshold")

    @property
    def feature_size(self) -> int:
        """K · d_h, the length of a feature vector."""
        return len(self.experts) * self.geometry.head_dim


def check_path(path: str) -> None:
    """Refuse a path that could lead out of the bundle.

    Raises:
        ValueError: It could; the message says how.
    """
    parts = path.split("/")
    # Control characters hide in a listing; the others mean something to Windows, or to ONNX Runtime (`*`).
    if not path or path.startswith("/") or any(c in '\\:*?"<>|' or not c.isprintable() for c in path):
        raise ValueError(f"{path!r} is not a relative path with forward slashes")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} leads out of the bundle or names nothing")
    if path == MANIFEST:
        raise ValueError(f"{MANIFEST} cannot list itself")


def canonical(document: dict[str, Any]) -> bytes:
    """The manifest without its `bundle_id`, as the bytes that are hashed: sorted keys, no blanks, UTF-8."""
    body = {key: value for key, value in document.items() if key != "bundle_id"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def bundle_id(document: dict[str, Any]) -> str:
    """sha256 of the canonical form, in lower-case hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def seal(document: dict[str, Any]) -> bytes:
    """A manifest document as the bytes of manifest.json, its `bundle_id` computed.

    Raises:
        ValueError: It would not be read back.
    """
    head = {"schema_version": document.get("schema_version", SCHEMA_VERSION)}
    body = {key: value for key, value in document.items() if key not in ("schema_version", "bundle_id")}
    sealed = head | {"bundle_id": bundle_id(head | body)} | body
    msgspec.convert(sealed, Manifest)
    return (json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_manifest(data: bytes, where: str = MANIFEST) -> Manifest:
    """Bytes of manifest.json to a Manifest.

    Args:
        data: The bytes.
        where: What the file is called in messages.

    Raises:
        BundleRefused: It is no JSON, of another schema, changed after it was sealed, or contradicts itself; the
            message names the fault.
    """
    try:
        document = parse_json(data)
    except ValueError as error:
        raise BundleRefused(f"{where}: not valid JSON ({printable(str(error))}); copy the bundle again") from error
    if not isinstance(document, dict):
        raise BundleRefused(f"{where}: holds no JSON object; copy the bundle again")
    version = document.get("schema_version")
    if type(version) is not int or version not in READ_VERSIONS:
        known = " and ".join(map(str, READ_VERSIONS))
        raise BundleRefused(
            f"{where}: schema_version {version!r} is not known to this version, which reads {known}; "
            "install the headhunt-edge that matches the bundle"
        )
    try:
        own = bundle_id(document)
    except (ValueError, RecursionError) as error:
        # Half surrogates are JSON, and no text.
        raise BundleRefused(
            f"{where}: has no canonical form ({printable(str(error))}); copy the bundle again"
        ) from error
    if document.get("bundle_id") != own:
        raise BundleRefused(f"{where}: bundle_id is not the hash of the manifest; it was changed after the build")
    try:
        return msgspec.convert(document, Manifest)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleRefused(f"{where}: {printable(str(error))}") from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of manifest.json."""
    return schema_of(Manifest, "HeadHunt-VAD bundle manifest")
