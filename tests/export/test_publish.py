"""A bundle's folder: there whole or not at all, whatever breaks on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import BundleRefused, OutputFailed
from export.publish import publish, write_golden
from export.staging import staging_folder


def document_of(bundle: Path) -> dict[str, Any]:
    """A manifest as `publish` takes it."""
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    del document["files"], document["bundle_id"]
    return document


def fill(work: Path, bundle: Path) -> None:
    """The bundle's files but the manifest, copied into a staging_folder."""
    for path in bundle.iterdir():
        if path.name != "manifest.json":
            shutil.copy(path, work / path.name)


def put(target: Path, bundle: Path, created: str = "2020-01-01T00:00:00Z") -> Bundle:
    with staging_folder(target) as work:
        fill(work, bundle)
        return publish(work, target, document_of(bundle) | {"created": created})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_published_opens_and_leaves_nothing_beside_it(bundle_dir: Path, tmp_path: Path) -> None:
    bundle = put(tmp_path / "deep" / "bundle", bundle_dir)
    assert Bundle.open(tmp_path / "deep" / "bundle").manifest == bundle.manifest
    assert names(tmp_path / "deep") == ["bundle"]
    for path in bundle.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
    assert bundle.path.stat().st_mode & 0o777 == 0o755


def test_the_manifest_seals_every_file(bundle_dir: Path, tmp_path: Path) -> None:
    bundle = put(tmp_path / "bundle", bundle_dir)
    assert {entry.path for entry in bundle.manifest.files} | {"manifest.json"} == set(names(bundle.path))
    with (bundle.path / "vision.onnx.data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleRefused, match=r"vision\.onnx\.data"):
        Bundle.open(bundle.path)


def test_a_new_bundle_takes_an_older_ones_place(bundle_dir: Path, tmp_path: Path) -> None:
    put(tmp_path / "bundle", bundle_dir)
    (tmp_path / "bundle" / "left-over").write_text("of the old one")
    new = put(tmp_path / "bundle", bundle_dir, created="2021-01-01T00:00:00Z")
    assert Bundle.open(tmp_path / "bundle").manifest.created == "2021-01-01T00:00:00Z" == new.manifest.created
    assert names(tmp_path) == ["bundle"]


def test_an_error_half_way_leaves_the_older_bundle_and_nothing_else(bundle_dir: Path, tmp_path: Path) -> None:
    put(tmp_path / "bundle", bundle_dir)

    def break_off(reason: BaseException) -> None:
        with staging_folder(tmp_path / "bundle") as work:
            fill(work, bundle_dir)
            raise reason

    with pytest.raises(KeyboardInterrupt):
        break_off(KeyboardInterrupt())
    with pytest.raises(OutputFailed, match="No space left") as caught:
        break_off(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").manifest.created == "2020-01-01T00:00:00Z"


def test_a_folder_that_is_no_bundle_is_never_published(bundle_dir: Path, tmp_path: Path) -> None:
    put(tmp_path / "bundle", bundle_dir)
    broken = Path(shutil.copytree(bundle_dir, tmp_path / "broken"))
    (broken / "language.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleRefused, match=r"language\.onnx"):
        put(tmp_path / "bundle", broken)
    Bundle.open(tmp_path / "bundle")


def test_a_rename_that_fails_puts_the_older_bundle_back(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    put(target, bundle_dir)
    real = Path.replace

    def fails(self: Path, other: Path) -> Path:
        if ".building-" in self.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, other)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputFailed):
        put(target, bundle_dir, created="2021-01-01T00:00:00Z")
    assert Bundle.open(target).manifest.created == "2020-01-01T00:00:00Z"


def test_golden_segments_come_back_the_same_from_equal_bytes(bundle_dir: Path, tmp_path: Path) -> None:
    golden = Bundle.open(bundle_dir).golden()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_golden(tmp_path / name, golden)
    written = (tmp_path / "one" / "golden.npz").read_bytes()
    assert written == (tmp_path / "two" / "golden.npz").read_bytes()
    assert written == (bundle_dir / "golden.npz").read_bytes()
    with np.load(tmp_path / "one" / "golden.npz") as data:
        assert set(data.files) == set(Golden.__dataclass_fields__)
