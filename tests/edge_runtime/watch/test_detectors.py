"""A bundle is checked and loaded once while a run lasts, however often its camera comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from edge_command import with_manifest

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused
from edge_runtime.inference.engine import Engine
from edge_runtime.watch.detectors import Detectors


def load(bundle: Bundle, engine: Engine | None) -> Detector:
    return Detector(bundle, "cpu", threads=1, engine=engine, self_test=False)


def test_a_folder_is_checked_again_only_when_its_manifest_was_written_anew(bundle_dir: Path, tmp_path: Path) -> None:
    folder = with_manifest(bundle_dir, tmp_path / "own")
    with Detectors(load) as detectors:
        first = detectors.open_at(folder)
        # Whoever hashes its files would refuse it from now on.
        weights = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert detectors.open_at(folder) is first
        later = (folder / MANIFEST).stat().st_mtime_ns + 10**9
        os.utime(folder / MANIFEST, ns=(later, later))
        with pytest.raises(BundleRefused, match="sha256 differs"):
            detectors.open_at(folder)
        weights.write_bytes(content)
        assert detectors.open_at(folder) is first, "the same bundle is loaded once"


def test_a_folder_that_holds_no_bundle_is_refused_each_time(tmp_path: Path) -> None:
    with Detectors(load) as detectors:
        for _ in range(2):
            with pytest.raises(BundleRefused, match="no such folder"):
                detectors.open_at(tmp_path / "none")
