"""A disk that fills up under a writer of a live run; all of it at length is benchmarks/faults/full_disk.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rtsp import rtsp_missing

from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import eventful
from benchmarks.faults.disk import mountable
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
    result = went(tmp_path / "trial", watched.bundle, watched.urls, writer, 0.0)
    assert result.faults == []
    assert result.during > 0
