"""A bundle that is not exactly what was built is refused before anything of it runs, and the fault is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from resealed import edit, listed

from edge_runtime import Detector
from edge_runtime.bundle.manifest import seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused
from edge_runtime.files import sha256
from edge_runtime.inference import sessions


@pytest.fixture
def copy(bundle_dir, tmp_path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    """Nothing may be loaded before everything was checked."""
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: pytest.fail("a session was opened"))


def files_of(bundle_dir: Path) -> list[str]:
    return sorted(path.name for path in bundle_dir.iterdir())


def refused(path: Path, *words: str) -> None:
    with pytest.raises(BundleRefused) as caught:
        Detector(Bundle.open(path), provider="cpu")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def with_external_data(path: Path, location: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())


def test_a_whole_bundle_opens(copy):
    bundle = Bundle.open(str(copy))
    assert bundle.file("vision.onnx") == copy / "vision.onnx"
    assert sorted(entry.path for entry in bundle.manifest.files) == sorted(set(files_of(copy)) - {"manifest.json"})
    with pytest.raises(KeyError):
        bundle.file("manifest.json")
    edit(copy, lambda document: None)
    assert Bundle.open(copy).manifest == bundle.manifest


class TestFiles:
    """Every file of a real bundle, damaged in every way."""

    VICTIMS = (
        "calibration.npz",
        "golden.npz",
        "growing.onnx",
        "language.onnx",
        "manifest.json",
        "report.html",
        "scorer.onnx",
        "vision.onnx",
    )

    @pytest.fixture(params=VICTIMS)
    def victim(self, request, copy) -> Path:
        return copy / request.param

    def test_the_list_above_is_complete(self, bundle_dir):
        data = {name for name in files_of(bundle_dir) if name.endswith(".onnx.data")}
        assert set(files_of(bundle_dir)) - data == set(self.VICTIMS)

    def test_missing(self, victim):
        victim.unlink()
        refused(victim.parent, victim.name, "is missing")

    @pytest.mark.parametrize("place", [0, 0.5, 1])
    def test_one_byte_changed(self, victim, place):
        content = bytearray(victim.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        victim.write_bytes(content)
        refused(victim.parent, victim.name)

    def test_truncated(self, victim):
        victim.write_bytes(victim.read_bytes()[:-1])
        # What a manifest loses last is its line break, which says nothing.
        victim.write_bytes(victim.read_bytes()[:-1])
        refused(victim.parent, victim.name)

    def test_empty(self, victim):
        victim.write_bytes(b"")
        refused(victim.parent, victim.name)

    def test_a_link_to_the_very_same_content(self, victim, tmp_path):
        victim.rename(tmp_path / "elsewhere")
        victim.symlink_to(tmp_path / "elsewhere")
        refused(victim.parent, victim.name)

    def test_a_folder_in_its_place(self, victim):
        victim.unlink()
        victim.mkdir()
        refused(victim.parent, victim.name)

    def test_a_pipe_in_its_place_is_not_waited_for(self, victim):
        victim.unlink()
        os.mkfifo(victim)
        refused(victim.parent, victim.name, "not a regular file")


@pytest.mark.parametrize("weights", ["language.onnx.data", "vision.onnx.data"])
def test_weights_of_the_same_size_that_differ(copy, weights):
    content = bytearray((copy / weights).read_bytes())
    content[-1] ^= 128
    (copy / weights).write_bytes(content)
    refused(copy, weights, "sha256 differs")


class TestAdditions:
    @pytest.mark.parametrize("name", ["extra.txt", ".hidden", "manifest.json.bak", "folder/deep/extra.bin"])
    def test_a_file(self, copy, name):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
        refused(copy, name.split("/", maxsplit=1)[0], "not listed")

    def test_an_empty_folder(self, copy):
        (copy / "folder").mkdir()
        refused(copy, "folder", "not listed")

    @pytest.mark.parametrize("target", ["/etc", "vision.onnx", "nowhere"])
    def test_a_link(self, copy, target):
        (copy / "link").symlink_to(target)
        refused(copy, "link", "symbolic link")


class TestHostileManifests:
    """Sealed correctly, by somebody who wants the edge to read or run something else."""

    @pytest.mark.parametrize(
        "name", ["/etc/passwd", "../outside", "a/../../outside", "C:/x", "a\\b", "manifest.json"]
    )
    def test_paths_that_lead_out(self, copy, name):
        (copy.parent / "outside").touch()
        edit(copy, listed(name))
        refused(copy, "manifest.json", repr(name) if name != "manifest.json" else name)

    def test_a_file_that_is_not_there(self, copy):
        edit(copy, listed("more.bin"))
        refused(copy, "more.bin", "is missing")

    @pytest.mark.parametrize("version", [0, 3, True, "1", None, 1.0])
    def test_another_schema(self, copy, version):
        edit(copy, lambda document: document.update(schema_version=version))
        refused(copy, "manifest.json", "schema_version", repr(version))

    def test_a_signature_may_lie_beside_the_manifest(self, copy):
        (copy / "manifest.sig").write_bytes(b"of another version")
        Bundle.open(copy)

    def test_edited_without_sealing(self, copy):
        text = (copy / "manifest.json").read_text()
        (copy / "manifest.json").write_text(text.replace('"threshold": 0.', '"threshold": 0.0'))
        refused(copy, "manifest.json", "bundle_id")

    def test_a_graph_that_is_not_listed(self, copy):
        def leave_out(document):
            document["files"] = [entry for entry in document["files"] if entry["path"] != "vision.onnx"]

        edit(copy, leave_out)
        (copy / "vision.onnx").unlink()
        refused(copy, "manifest.json", "vision.onnx")

    def test_experts_outside_the_geometry(self, copy):
        edit(copy, lambda document: document["experts"][0].update(layer=document["geometry"]["layers"]))
        refused(copy, "manifest.json", "outside the geometry")

    def test_a_manifest_without_end(self, copy):
        with (copy / "manifest.json").open("r+b") as file:
            file.truncate(64 * 2**20)
        refused(copy, "manifest.json", "more than")


class TestExternalData:
    @pytest.mark.parametrize(
        "location",
        ["/etc/passwd", "../outside", "./vision.onnx.data", "*/_ORT_MEM_ADDR_/*", "", "..", "\0", "nowhere"],
    )
    def test_that_points_elsewhere(self, copy, location):
        with_external_data(copy / "vision.onnx", location)
        edit(copy, lambda document: None)
        refused(copy, "vision.onnx", "external data")

    def test_in_a_graph_that_is_not_called_onnx(self, copy):
        """A graph is what the manifest opens as one."""
        with_external_data(copy / "tower.bin", "../outside")
        edit(copy, lambda document: document["graphs"]["vision"].update(file="tower.bin"))
        edit(copy, listed("tower.bin"))
        refused(copy, "tower.bin", "external data", "outside")

    def test_in_a_subfolder_lies_beside_its_graph(self, copy):
        with_external_data(copy / "sub" / "extra.onnx", "weights.bin")
        (copy / "weights.bin").write_bytes(bytes(8))
        edit(copy, listed("sub/extra.onnx", "weights.bin"))
        refused(copy, "sub/extra.onnx", "'weights.bin' is not a file of the bundle")
        (copy / "weights.bin").rename(copy / "sub" / "weights.bin")
        edit(copy, lambda document: document["files"].pop())
        edit(copy, listed("sub/weights.bin"))
        Bundle.open(copy)

    def test_in_a_subgraph(self, copy):
        model = onnx.load(copy / "scorer.onnx")
        hidden = onnx.GraphProto(name="then")
        weights = hidden.initializer.add(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        weights.external_data.add(key="location", value="/etc/shadow")
        model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=hidden, else_branch=hidden))
        (copy / "scorer.onnx").write_bytes(model.SerializeToString())
        edit(copy, lambda document: None)
        refused(copy, "scorer.onnx", "/etc/shadow")

    @pytest.mark.parametrize("content", [b"\xff" * 40, b"\0\0\0\0ORTM", b"PK\x03\x04"])
    def test_in_what_is_no_onnx_file(self, copy, content):
        (copy / "vision.onnx").write_bytes(content)
        edit(copy, lambda document: None)
        refused(copy, "vision.onnx", "not an ONNX file")


class TestPlaces:
    def test_nothing_there(self, tmp_path):
        refused(tmp_path / "nowhere", "nowhere", "no such folder")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, tmp_path.name, "manifest.json", "is missing", "copy the bundle again")

    def test_the_folder_that_holds_it(self, copy):
        refused(copy.parent, "manifest.json", "is missing", f"give the bundle in it, as {copy}")

    def test_a_file(self, copy):
        refused(copy / "manifest.json", "manifest.json", "no such folder")

    def test_a_name_no_file_can_have(self):
        refused(Path("bundle\0"), "no such folder")

    def test_a_link_to_a_bundle_is_a_bundle(self, copy):
        (copy.parent / "current").symlink_to(copy)
        assert Bundle.open(copy.parent / "current").manifest == Bundle.open(copy).manifest

    @pytest.mark.parametrize("locked", ["manifest.json", "vision.onnx", "sub", "."])
    def test_without_permission(self, copy, locked):
        (copy / "sub").mkdir()
        (copy / "sub" / "more.bin").write_bytes(b"more")
        edit(copy, listed("sub/more.bin"))
        # Where nobody is stopped on the way: pytest's own folders are closed to other users.
        with tempfile.TemporaryDirectory() as open_folder:
            os.chmod(open_folder, 0o755)
            path = Path(shutil.copytree(copy, Path(open_folder) / "bundle"))
            path.chmod(0o755)
            mode = (path / locked).stat().st_mode
            (path / locked).chmod(0)
            root = os.geteuid() == 0  # whom no permission stops
            try:
                if root:
                    os.seteuid(65534)
                refused(path, "manifest.json" if locked == "." else locked)
            finally:
                if root:
                    os.seteuid(0)
                (path / locked).chmod(mode)


class TestGolden:
    def test_what_was_stored(self, bundle):
        golden, manifest = bundle.golden(), bundle.manifest
        size = manifest.pixels.size
        assert golden.frames.shape == (2, manifest.segment.sampled, size, size, 3)
        assert golden.frames.dtype == np.uint8
        assert golden.features.shape == (2, manifest.feature_size)
        assert golden.probabilities.shape == (2,)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00", b"\x80\x04N.", b"text"])
    def test_what_cannot_be_read(self, copy, content):
        (copy / "golden.npz").write_bytes(content)
        edit(copy, lambda document: None)
        with pytest.raises(BundleRefused, match=r"golden\.npz: cannot be read"):
            Bundle.open(copy).golden()

    def test_no_pickle(self, copy):
        np.savez(copy / "golden.npz", frames=np.array([object()], dtype=object))
        edit(copy, lambda document: None)
        with pytest.raises(BundleRefused, match=r"golden\.npz"):
            Bundle.open(copy).golden()

    def test_none(self, copy):
        def leave_out(document):
            document["files"] = [entry for entry in document["files"] if entry["path"] != "golden.npz"]

        (copy / "golden.npz").unlink()
        edit(copy, leave_out)
        with pytest.raises(BundleRefused, match=r"golden\.npz"):
            Bundle.open(copy).golden()


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 999)
    assert sha256(tmp_path / "file") == hashlib.sha256(bytes(range(256)) * 999).hexdigest()


def test_the_bundle_of_a_build_seals_itself_again_to_the_same_bytes(bundle_dir):
    text = (bundle_dir / "manifest.json").read_bytes()
    assert json.loads(seal(json.loads(text))) == json.loads(text)
