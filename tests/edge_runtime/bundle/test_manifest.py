"""The manifest: only what was sealed is read, and only what makes sense is sealed."""

from __future__ import annotations

import copy
import hashlib
import json

import msgspec
import pytest
from clips import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.bundle.manifest import (
    GraphSpec,
    Manifest,
    bundle_id,
    canonical,
    check_path,
    json_schema,
    read_manifest,
    seal,
)
from edge_runtime.bundle.summary import describe
from edge_runtime.errors import BundleRefused

SCHEMA = ROOT / "docs" / "manifest.schema.json"
REGENERATE = (
    'python -c "import json; from edge_runtime.bundle.manifest import json_schema; '
    'print(json.dumps(json_schema(), indent=2))" > docs/manifest.schema.json'
)


def document() -> dict:
    """A small manifest that is right, as plain values."""

    def tensor(name, dtype, *shape):
        return {"name": name, "dtype": dtype, "shape": list(shape)}

    return {
        "schema_version": 1,
        "bundle_id": "",
        "created": "2026-01-01T00:00:00Z",
        "producer": {"headhunt-vad": "0.1.0"},
        "source_model": {"name": "reference", "revision": "1", "architecture": "InternVL", "licence": "Apache-2.0"},
        "prompt": {"name": "coarse", "text": "Is anything unusual happening? Größe…"},
        "experts": [{"layer": 0, "head": 1, "rss": 0.75}, {"layer": 1, "head": 0, "rss": 1e-3}],
        "geometry": {"layers": 2, "heads": 2, "head_dim": 8, "width": 16},
        "segment": {"frames": 48, "sampled": 16, "fps": 29.97},
        "pixels": {"size": 64, "color": "rgb", "interpolation": "area"},
        "graphs": {
            "vision": {
                "file": "vision.onnx",
                "precision": "fp32",
                "inputs": [tensor("frames", "uint8", "n", 1, 64, 64, 3)],
                "outputs": [tensor("tokens", "float32", "n", 4, 16)],
            },
            "language": {
                "file": "language.onnx",
                "precision": "fp32",
                "inputs": [tensor("tokens", "float32", "b", 64, 16)],
                "outputs": [tensor("features", "float32", "b", 16)],
            },
        },
        "scorer": {"file": "scorer.onnx", "standardised": True, "unit": "segment", "samples": 20, "anomalous": 6},
        "locators": {
            "full": {"sigma": 1.5, "threshold": 0.65, "lookahead": 5, "calibrated": False, "f1": None},
            "low_latency": {"sigma": 1.5, "threshold": 0.65, "lookahead": 0, "calibrated": True, "f1": 0.5},
        },
        "validation": {"auc": 0.9, "ap": None, "f1": 0.5, "videos": 4, "frames": 585},
        "parity": {"max_abs": 9.5e-07},
        "files": [
            {"path": name, "sha256": "0" * 64, "bytes": 7}
            for name in ("golden.npz", "language.onnx", "scorer.onnx", "vision.onnx")
        ],
    }


def sealed_without_checks(doc: dict) -> bytes:
    """What somebody who knows the format, but not what is allowed, would write."""
    doc["bundle_id"] = hashlib.sha256(canonical(doc)).hexdigest()
    return json.dumps(doc).encode()


SEALED = seal(document())
MANIFEST = read_manifest(SEALED)


def test_round_trip():
    assert describe(MANIFEST) == document() | {"bundle_id": MANIFEST.bundle_id}
    assert seal(describe(MANIFEST)) == SEALED
    assert MANIFEST.feature_size == 16
    assert MANIFEST.graphs.frames_per_group == 1
    assert MANIFEST.locators.named("low_latency").lookahead == 0
    with pytest.raises(KeyError):
        MANIFEST.locators.named("fast")


def test_the_id_is_the_hash_of_everything_else_in_canonical_form():
    doc = document()
    del doc["bundle_id"]
    text = json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert MANIFEST.bundle_id == hashlib.sha256(text.encode()).hexdigest()
    reordered = dict(reversed(document().items()))
    assert bundle_id(reordered) == MANIFEST.bundle_id


@settings(max_examples=400)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(SEALED) - 1), st.integers(0, 255)), min_size=1, max_size=3),
    length=st.integers(0, len(SEALED)) | st.just(len(SEALED)),
)
def test_changed_bytes_are_refused_or_change_nothing(flips, length):
    damaged = bytearray(SEALED)
    for place, value in flips:
        damaged[place] = value
    try:
        assert read_manifest(bytes(damaged[:length])) == MANIFEST
    except BundleRefused as refused:
        assert str(refused).startswith("manifest.json: ")  # noqa: PT017  it may also be read


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused(data):
    with pytest.raises(BundleRefused, match=r"^here/manifest\.json: "):
        read_manifest(data, "here/manifest.json")


def leaves(value, path=()):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from leaves(child, (*path, key))
    yield path


def place(doc, path, value):
    for key in path[:-1]:
        doc = doc[key]
    doc[path[-1]] = value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**63, 10**30, 1e308, 1e-320, 0.5])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["../x", "/etc/passwd", "manifest.json", "vision.onnx", "C:\\x", "a//b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500)
@given(
    path=st.sampled_from([path for path in leaves(document()) if path and path != ("bundle_id",)]), value=json_values
)
def test_anything_anywhere_is_refused_in_words_or_makes_sense(path, value):
    """Sealed by somebody hostile: no other exception, and what is accepted can be used."""
    doc = document()
    place(doc, path, value)
    try:
        manifest = read_manifest(sealed_without_checks(doc))
    except BundleRefused as refused:
        assert str(refused).startswith("manifest.json: ")  # noqa: PT017  it may also be read
        return
    from edge_runtime.stream.by_count import FrameSegmenter
    from edge_runtime.stream.by_time import TimeSegmenter
    from edge_runtime.stream.locator import Smoother

    for locator in (manifest.locators.full, manifest.locators.low_latency):
        Smoother(locator.sigma, locator.lookahead)
    FrameSegmenter(manifest.segment)
    assert 0 < TimeSegmenter(manifest.segment)._spec.duration_s < float("inf")
    assert manifest.segment.sampled % manifest.graphs.frames_per_group == 0
    assert all(entry.path and ".." not in entry.path.split("/") for entry in manifest.files)


def edited(**changes) -> dict:
    doc = document()
    for dotted, value in changes.items():
        keys = [int(key) if key.isdecimal() else key for key in dotted.split("__")]
        place(doc, keys, value)
    return doc


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 3}, "schema_version 3 is not known"),
        ({"schema_version": 0}, "schema_version 0"),
        ({"schema_version": True}, "schema_version True"),
        ({"schema_version": "1"}, "schema_version '1'"),
        ({"schema_version": 1.0}, r"schema_version 1\.0"),
        ({"schema_version": None}, "schema_version None"),
        ({"novelty": 1}, "unknown field `novelty`"),
        ({"prompt__novelty": 1}, "unknown field `novelty`"),
        ({"experts": []}, "experts must not be empty"),
        ({"experts__0__layer": 2}, r"\(2, 1\) lies outside the geometry"),
        ({"experts__0__head": -1}, r"\(0, -1\) lies outside the geometry"),
        ({"experts__1": {"layer": 0, "head": 1, "rss": 0.1}}, "twice"),
        ({"segment__fps": 0}, r"segment\.fps"),
        ({"segment__sampled": 10**9}, r"segment\.sampled"),
        ({"pixels__size": 0}, r"pixels\.size"),
        ({"pixels__size": 32}, "takes pictures of 64 pixels"),
        ({"pixels__color": "bgr"}, "bgr"),
        ({"graphs__vision__inputs__0__shape__1": 3}, "not a multiple of the 3"),
        ({"graphs__vision__inputs__0__shape__1": 0}, r"shape \[n, g, H, W, 3\]"),
        ({"graphs__vision__inputs": []}, r"shape \[n, g, H, W, 3\]"),
        ({"graphs__vision__file": "tower.onnx"}, r"files does not list tower\.onnx"),
        ({"scorer__file": "model.onnx"}, r"files does not list model\.onnx"),
        ({"locators__full__sigma": 1e308}, "sigma"),
        ({"locators__full__lookahead": 6}, "lookahead"),
        ({"locators__low_latency__lookahead": 1}, "low_latency waits for nothing"),
        ({"locators__full__threshold": 1.5}, "threshold"),
        ({"files__0__path": "/etc/passwd"}, "/etc/passwd"),
        ({"files__0__path": "../golden.npz"}, "leads out"),
        ({"files__0__path": "manifest.json"}, "cannot list itself"),
        ({"files__0__path": "vision.onnx"}, "twice"),
    ],
)
def test_what_does_not_make_sense_is_refused_though_sealed(changes, reason):
    doc = edited(**changes)
    with pytest.raises(BundleRefused, match=reason):
        read_manifest(sealed_without_checks(doc))
    if "schema_version" not in changes:
        with pytest.raises(ValueError, match=reason):
            seal(doc)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_are_read_and_optional_keys_are_not_made_up(version):
    found = read_manifest(sealed_without_checks(edited(schema_version=version)))
    plain = msgspec.to_builtins(found)
    assert plain["schema_version"] == version
    assert {"decoder", "licences"}.isdisjoint(plain)
    assert {"dtype", "system_message"}.isdisjoint(plain["source_model"])


def test_what_is_optional_is_read_back():
    doc = edited(
        decoder="software",
        licences={"model": "mit"},
        source_model__dtype="bfloat16",
        source_model__system_message="",
        graphs__vision__kept=["blocks.0"],
    )
    found = read_manifest(sealed_without_checks(doc))
    assert (found.decoder, found.licences, found.graphs.vision.kept) == ("software", {"model": "mit"}, ["blocks.0"])
    assert (found.source_model.dtype, found.source_model.system_message) == ("bfloat16", "")


def test_pictures_need_not_be_squares():
    frames = {"name": "frames", "dtype": "uint8", "shape": ["n", 2, 56, 112, 3]}
    found = read_manifest(sealed_without_checks(edited(pixels__size=[56, 112], graphs__vision__inputs__0=frames)))
    assert (found.pixels.height, found.pixels.width) == (56, 112)
    with pytest.raises(BundleRefused, match="pixels"):
        read_manifest(sealed_without_checks(edited(pixels__size=[112, 56], graphs__vision__inputs__0=frames)))
    with pytest.raises(BundleRefused, match="size"):
        read_manifest(sealed_without_checks(edited(pixels__size=[56, 112, 3])))


@pytest.mark.parametrize("key", sorted(set(document()) - {"bundle_id"}))
def test_no_key_can_be_left_out(key):
    doc = document()
    del doc[key]
    with pytest.raises(BundleRefused, match=key):
        read_manifest(sealed_without_checks(doc))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SEALED.replace(b"0.75", b"0.76"), "changed after the build"),
        (SEALED.replace(b"0.75", b"NaN"), "NaN is not a JSON number"),
        (SEALED.replace(b"0.75", b"-Infinity"), "-Infinity is not a JSON number"),
        (SEALED.replace(b"0.75", b"1e999"), "not finite"),
        (SEALED.replace(b'"prompt"', b'"created": "", "prompt"'), "is there twice"),
        (SEALED.replace(b"Gr", b"\\ud800"), "no canonical form"),
        (SEALED[:-5], "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "holds no JSON object"),
        (b"9" * 5000, "not valid JSON"),
    ],
    ids=range(12),
)
def test_what_is_not_the_sealed_text_is_refused(text, reason):
    with pytest.raises(BundleRefused, match=reason):
        read_manifest(text)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/../b",
        "..",
        "a\\b",
        "C:a",
        "a\0",
        "a\nb",
        "*/a",
        "a?",
        '"',
        "a|b",
        "manifest.json",
    ],
)
def test_paths_that_could_lead_out(path):
    with pytest.raises(ValueError, match=r".+"):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "vision.onnx.data", "sub/folder/weights-00001", "Größe.bin", "..a", "a..b"])
def test_paths_that_stay(path):
    check_path(path)


def test_the_committed_schema_is_that_of_the_code():
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert committed == json_schema(), f"regenerate it: {REGENERATE}"


def test_the_schema_knows_every_key_and_refuses_others():
    definitions = json_schema()["$defs"]
    assert set(definitions["Manifest"]["required"]) == set(document())
    for name, struct in definitions.items():
        if struct.get("type") == "object":
            assert struct["additionalProperties"] is False, name


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        copy.copy(MANIFEST).created = "now"
    assert isinstance(MANIFEST, Manifest)
    assert issubclass(msgspec.ValidationError, ValueError)


def test_layers_that_stayed_are_told_with_the_precision():
    graph = GraphSpec(file="vision.onnx", precision="int8", inputs=[], outputs=[], kept=["down", "gate"])
    assert graph.rounding == "int8 (2 layers kept at a higher one: down, gate)"
    assert GraphSpec(file="vision.onnx", precision="fp16", inputs=[], outputs=[]).rounding == "fp16"
