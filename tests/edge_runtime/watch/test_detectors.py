"""A bundle is checked and loaded once while a run lasts, however often its camera comes back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from edge_command import with_manifest

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, InferenceFailed, ProviderUnavailable
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_engine
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


class Server:
    """Serves bundles by their ids, as a Triton server does."""

    def __init__(self, *served: Bundle) -> None:
        self.served = {bundle.manifest.bundle_id for bundle in served}

    def load(self, bundle: Bundle, engine: Engine | None) -> Detector:
        if engine is not None:
            return Detector(bundle, engine=engine, self_test=False)
        detector = Detector(bundle, engine=OnServer(self, bundle), self_test=False)
        detector.owns_engine = True
        return detector


class OnServer:
    """An engine on it: asks for its own bundle when it is opened and with each call."""

    provider = "triton"

    def __init__(self, server: Server, bundle: Bundle) -> None:
        if bundle.manifest.bundle_id not in server.served:
            raise ProviderUnavailable("serves another bundle")
        self._server, self._id = server, bundle.manifest.bundle_id
        self._engine = open_engine(bundle, "cpu", 1)

    def features(self, frames: Any) -> Any:
        if self._id not in self._server.served:
            raise InferenceFailed("serves another bundle")
        return self._engine.features(frames)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def test_on_a_server_each_bundle_is_asked_for_by_its_own_id(bundle_dir: Path, tmp_path: Path) -> None:
    """Recalibrated bundles have the same graphs: what the server has of one says nothing of the other."""
    first = Bundle.open(bundle_dir)
    second = Bundle.open(with_manifest(bundle_dir, tmp_path / "second", producer={"who": "else"}))
    assert first.graph_hashes() == second.graph_hashes()
    frames = first.golden().frames[:1]
    server = Server(first)
    with Detectors(server.load) as detectors:
        before = detectors.open(first)
        with pytest.raises(ProviderUnavailable, match="serves another bundle"):
            detectors.open(second)
        server.served.add(second.manifest.bundle_id)
        after = detectors.open(second)
        assert after.engine is not before.engine
        # The operator takes the first one off the server.
        server.served.remove(first.manifest.bundle_id)
        with pytest.raises(InferenceFailed):
            before.score(frames)
        assert after.score(frames).shape == (1,)
        detectors.retire(before)
        assert after.score(frames).shape == (1,)
