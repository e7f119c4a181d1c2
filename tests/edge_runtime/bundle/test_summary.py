"""What `hh-edge inspect` shows is about the bundle, and no text of a manifest acts on the terminal."""

from __future__ import annotations

import msgspec
import pytest

from edge_runtime.bundle.manifest import PromptEntry, SourceModelEntry, bundle_id, read_manifest
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.summary import as_dict, as_text, describe
from edge_runtime.errors import BundleRefused

HOSTILE = "\x1b[2J\x1b]0;owned\x07 safe\r\nverified  on cpu\u202egpj\x9b"


def test_one_fact_a_line(bundle):
    text = as_text(bundle)
    names = [line.split()[0] for line in text.splitlines()]
    assert names[:4] == ["bundle", "id", "created", "producer"]
    assert bundle.manifest.bundle_id in text
    assert as_dict(bundle)["bundle_id"] == bundle.manifest.bundle_id


@pytest.mark.parametrize(
    "changes",
    [
        {"created": HOSTILE},
        {"producer": {HOSTILE: HOSTILE}},
        {"source_model": SourceModelEntry(name=HOSTILE, revision=HOSTILE, architecture=HOSTILE, licence=HOSTILE)},
        {"prompt": PromptEntry(name=HOSTILE, text=HOSTILE)},
        {"parity": {HOSTILE: 1.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_text_of_a_manifest_acts_on_a_terminal(bundle, changes):
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    text = as_text(Bundle(bundle.path, manifest))
    assert len(text.splitlines()) == len(as_text(bundle).splitlines())
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\\x1b[2J" in text


def test_nor_does_what_is_said_of_a_refused_one(bundle, tmp_path):
    unlisted = describe(bundle.manifest)
    unlisted["scorer"]["file"] = f"scorer{HOSTILE}.onnx"
    unknown = describe(bundle.manifest) | {HOSTILE: 1}
    for document in (unlisted, unknown):
        with pytest.raises(BundleRefused) as caught:
            read_manifest(resealed(document))
        assert str(caught.value).isprintable()
    folder = tmp_path / f"bundle{HOSTILE.replace('/', '')}"
    folder.mkdir()
    (folder / "manifest.json").write_text("[]")
    for path in (folder, tmp_path / "no\x1b[2J\nfolder"):
        with pytest.raises(BundleRefused) as caught:
            Bundle.open(path)
        assert str(caught.value).isprintable()


def test_nor_does_the_name_of_a_file_beside_it(bundle_dir, tmp_path):
    for name in ("extra\x1b[2J\n.bin", "\u202egpj"):
        folder = tmp_path / str(len(name))
        folder.mkdir()
        for path in bundle_dir.iterdir():
            (folder / path.name).hardlink_to(path)
        (folder / name).touch()
        with pytest.raises(BundleRefused, match="is not listed") as caught:
            Bundle.open(folder)
        assert str(caught.value).isprintable()


def resealed(document: dict) -> bytes:
    """Sealed by somebody hostile."""
    return msgspec.json.encode(document | {"bundle_id": bundle_id(document)})
