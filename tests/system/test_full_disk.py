"""A disk that fills up under a writer of a live run; all of it at length is benchmarks/faults/full_disk.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from clips import ROOT
from rtsp import rtsp_missing

from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import eventful
from benchmarks.faults.disk import Disk, mountable
from benchmarks.faults.full_disk import WRITERS, Writer, went


@dataclass(frozen=True)
class Watched:
    bundle: Path
    urls: dict[str, str]


@pytest.fixture(scope="module")
def watched(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A camera, and a bundle to which something happens there all the time."""
    if (reason := rtsp_missing()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("watched")
    if not mountable(folder / "disk"):
        pytest.skip("cannot mount a small disk here; needs root")
    with Camera("gate") as camera:
        urls = {camera.name: camera.url}
        yield Watched(eventful(bundle_dir, folder / "bundle", urls, 8), urls)


# The first is among what the second does.
@pytest.mark.parametrize("writer", WRITERS[1:], ids=lambda writer: writer.name)
def test_a_live_run_goes_through_a_full_disk(watched: Watched, tmp_path: Path, writer: Writer) -> None:
    if writer.needs is not None and find_spec(writer.needs) is None:
        pytest.skip(f"no {writer.needs}")
    result = went(tmp_path / "trial", watched.bundle, watched.urls, writer, 0.0)
    assert result.faults == []
    assert result.during > 0


def test_an_extraction_goes_on_where_a_full_disk_ended_it(dataset_csv: Path, tmp_path: Path) -> None:
    if not mountable(tmp_path / "try"):
        pytest.skip("cannot mount a small disk here; needs root")

    def extract() -> subprocess.CompletedProcess[str]:
        words = ["-m", "offline.cli", "extract", "--model", "reference", "--manifest", str(dataset_csv), "--quiet"]
        return subprocess.run(
            [sys.executable, *words, "--output", str(store)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    with Disk(tmp_path / "disk", 256) as disk:
        store = disk.folder / "features"
        failed = extract()
        assert failed.returncode == 1
        (line,) = failed.stderr.splitlines()
        assert line.startswith("error: ")
        assert "No space left on device" in line
        assert str(store) in line
        done = {path.name: path.stat().st_mtime_ns for path in store.glob("*.npz")}
        assert done
        disk.grow(8192)
        finished = extract()
        assert finished.returncode == 0, finished.stderr
        assert done.items() <= {path.name: path.stat().st_mtime_ns for path in store.glob("*.npz")}.items()
        assert json.loads((store / "index.json").read_text())
        assert not [path.name for path in store.iterdir() if path.name.startswith(".")]
