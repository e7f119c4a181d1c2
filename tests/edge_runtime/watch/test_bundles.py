"""A run that trusts keys keeps copies of what it uses and of the way back, however often its bundle is exchanged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.signature import BUNDLE, sign
from edge_runtime.detector import Detector
from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.engine import Engine
from edge_runtime.watch.bundles import Bundles
from edge_runtime.watch.detectors import Detectors

KEY = PrivateKey.generate("builder")
# Beside those in use, so many copies stay.
KEPT = 2


def load(bundle: Bundle, engine: Engine | None) -> Detector:
    return Detector(bundle, "cpu", threads=1, engine=engine, self_test=False)


def put(source: Path, target: Path, number: int, graphs: bool) -> None:
    """Put a signed bundle there that differs from those of other numbers: in its graphs, or in its manifest alone."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    document = json.loads((target / MANIFEST).read_text())
    document["created"] = f"2026-01-0{number + 1}T00:00:00Z"
    if graphs:
        # What counts as another graph is what the manifest says of its hash.
        import onnx

        model = onnx.load(str(target / "language.onnx"), load_external_data=False)
        model.doc_string = str(number)
        data = model.SerializeToString()
        (target / "language.onnx").write_bytes(data)
        import hashlib

        for entry in document["files"]:
            if entry["path"] == "language.onnx":
                entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (target / MANIFEST).write_bytes(seal(document))
    (target / SIGNATURE).write_text(sign(KEY, BUNDLE, (target / MANIFEST).read_bytes(), None))


def copies(room: Path) -> set[str]:
    return {name for name in os.listdir(room) if not name.startswith(".")}


def descriptors(room: Path) -> int:
    """How many files of this process are open in a folder."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += Path(os.readlink(link)).is_relative_to(room)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors by way of /proc")
@pytest.mark.parametrize("graphs", [True, False])
def test_exchanges_leave_nothing_behind(bundle_dir: Path, tmp_path: Path, graphs: bool) -> None:
    given, room = tmp_path / "given", tmp_path / "room"
    engines: list[Engine] = []
    used = 1 if graphs else 2
    with Bundles([KEY.public.line], room) as bundles:
        with Detectors(load, open_bundle=bundles.open, release=bundles.release) as detectors:
            before: Detector | None = None
            ids: list[str] = []
            for number in range(6):
                put(bundle_dir, given, number, graphs)
                after = detectors.open_at(given)
                assert after.engine is not None
                engines.append(after.engine)
                if before is not None:
                    detectors.retire(before)
                    assert before.engine is None, "closed at once"
                    assert before._scorer is None
                ids.append(after.bundle.manifest.bundle_id)
                assert after.bundle.path.parent == room
                # The one that scores, the one that its graphs came from, and the way back.
                needed = {ids[-1]} if graphs else {ids[0], ids[-1]}
                assert needed <= copies(room)
                assert len(copies(room)) <= used + KEPT
                assert ids[-2:][0] in copies(room), "the way back stays"
                assert descriptors(room) <= used
                assert after.score(after.bundle.golden().frames[:1]).shape == (1,)
                before = after
            assert len(set(ids)) == 6
            assert len(set(map(id, engines))) == (6 if graphs else 1)
            assert before is not None
            detectors.retire(before)
            assert descriptors(room) == 0, "graphs that nobody uses any more hold no bundle"
            assert len(copies(room)) == KEPT
        assert descriptors(room) == 0


def test_what_does_not_load_or_is_there_already_is_released(bundle_dir: Path, tmp_path: Path) -> None:
    given, room = tmp_path / "given", tmp_path / "room"
    put(bundle_dir, given, 0, False)
    fails = [True]

    def failing(bundle: Bundle, engine: Engine | None) -> Detector:
        if fails[0]:
            raise InferenceFailed("no")
        return load(bundle, engine)

    with Bundles([KEY.public.line], room) as bundles:
        assert bundles._room is not None
        with Detectors(failing, open_bundle=bundles.open, release=bundles.release) as detectors:
            with pytest.raises(InferenceFailed):
                detectors.open_at(given)
            assert not bundles._room._held
            fails[0] = False
            first = detectors.open_at(given)
            # Looked at again, by another path: the same detector, and it stays in use.
            other = tmp_path / "other"
            shutil.copytree(given, other)
            assert detectors.open_at(other) is first
            detectors.retire(first)
            assert not bundles._room._held


def test_a_copy_in_use_by_two_is_cleared_after_both(bundle_dir: Path, tmp_path: Path) -> None:
    given, room = tmp_path / "given", tmp_path / "room"
    with Bundles([KEY.public.line], room) as bundles:
        put(bundle_dir, given, 0, False)
        twice = [bundles.open(given), bundles.open(given)]
        for number in range(1, 5):
            put(bundle_dir, given, number, False)
            bundles.release(bundles.open(given))
            if number == 2:
                bundles.release(twice[0])
        assert twice[0].path.name in copies(room)
        bundles.release(twice[1])
        for number in range(1, 5):
            put(bundle_dir, given, number, False)
            bundles.release(bundles.open(given))
        assert twice[0].path.name not in copies(room)
        assert len(copies(room)) == KEPT


def test_a_run_without_keys_loads_from_where_bundles_lie(bundle_dir: Path, tmp_path: Path) -> None:
    with Bundles(None, tmp_path / "room") as bundles:
        bundle = bundles.open(bundle_dir)
        bundles.release(bundle)
        assert bundle.path == bundle_dir
    assert not (tmp_path / "room").exists()
