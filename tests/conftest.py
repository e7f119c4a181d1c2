"""Fixtures that are expensive or shared. Built artefacts are kept in .cache/tests, by the content of the code."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from clips import CACHE, code_digest, write_clip, write_dataset_folder
from hypothesis import HealthCheck, settings
from rtsp import mjpeg_server, rtsp_server
from torchvision_path import extend_path

from edge_runtime.bundle.reader import Bundle

__all__ = ["mjpeg_server", "rtsp_server"]


# Before any test imports transformers.
extend_path()

# What `auto` measures here is nobody's business but the tests'.
os.environ["XDG_CACHE_HOME"] = str(CACHE / "home")
# Nor is a device's key.
os.environ["XDG_STATE_HOME"] = str(CACHE / "state")

# Machines that run the tests are shared: how long an example takes says nothing of the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def dataset_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.csv of small clips in all three splits."""
    return write_dataset_folder(tmp_path_factory.mktemp("dataset"), {"calibration": 6, "validation": 4, "test": 2})


@pytest.fixture(scope="session")
def bundle_dir(dataset_csv: Path) -> Path:
    """A real bundle: untrained reference model, exported graphs, everything that a build does. Do not change it."""
    from models.reference import write_untrained
    from offline.console import Console
    from offline.recipes.build import BuildOptions, build

    digest = code_digest("edge_runtime", "models", "export", "offline")
    target = CACHE / f"bundle-{digest}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        lock = (CACHE / "bundle.lock").open("w")
        # Of several workers one builds, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
    if not target.is_dir():
        work = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            (work / "model").mkdir()
            write_untrained(work / "model")
            options = BuildOptions(
                model=str(work / "model"),
                manifest=dataset_csv,
                output=work / "bundle",
                depth_curve=False,
                chance=False,
            )
            build(options, Console(quiet=True))
            try:
                os.replace(work / "bundle", target)
            except OSError:
                assert target.is_dir()  # another worker was faster
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


@pytest.fixture(scope="session")
def bundle(bundle_dir: Path) -> Bundle:
    """The same, opened."""
    return Bundle.open(bundle_dir)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MP4 of 130 frames at 15 frames a second: two whole segments and a tail of 34."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 130, (50, 100), seed=5)
