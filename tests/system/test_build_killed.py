"""SIGKILL at a random moment: extract goes on where it was; and what a killed build left behind is cleared."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from checkpoints import Shape, write_checkpoint
from clips import ROOT, write_dataset_folder

from edge_runtime.bundle.reader import Bundle
from export.staging import staging_folder

# A short campaign: every kill costs starting a process anew. The long one, of builds too, is
# benchmarks/kill_campaign.py.
KILLS = 1


@pytest.fixture(scope="module")
def kill_campaign() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_campaign", ROOT / "benchmarks" / "kill_campaign.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_campaign"] = module
    spec.loader.exec_module(module)
    return module


def test_killed_and_started_again_gives_what_one_clean_run_gives(kill_campaign: ModuleType, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model", Shape(layers=2))
    (tmp_path / "videos").mkdir()
    manifest = write_dataset_folder(tmp_path / "videos", {"calibration": 4, "validation": 2})
    job = next(job for job in kill_campaign.jobs(str(model), manifest) if job.name == "extract")
    # Other moments each time: what a run of the suite does not hit, the next one may.
    seed = int.from_bytes(os.urandom(4))
    lines = list(kill_campaign.campaign(job, KILLS, tmp_path / "work", seed))
    assert len(lines) == 2 + KILLS, f"seed {seed}"


def dead_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_build_killed_between_its_two_renames_lost_no_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    aside = tmp_path / f".bundle.replaced-{dead_process()}-x"
    aside.mkdir()
    subprocess.run(["cp", "-r", str(bundle_dir), str(aside / "bundle")], check=True)
    half = tmp_path / f".bundle.building-{dead_process()}-y"
    half.mkdir()
    with staging_folder(target) as work:
        assert Bundle.open(target).manifest == Bundle.open(bundle_dir).manifest
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([work.name, "bundle"])
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_a_running_build_or_a_stranger_has_there_is_left_alone(tmp_path: Path) -> None:
    names = {f".bundle.building-{os.getpid()}-a", ".bundle.building-x", "bundle.building-1", ".bundle2.building-1-a"}
    # Process 1 always runs; a name that is no number was not written by a build that still could.
    names |= {".bundle.building-1-a"}
    for name in names:
        (tmp_path / name).mkdir()
    with staging_folder(tmp_path / "bundle"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == names - {".bundle.building-x"}


def test_a_targets_name_is_no_pattern(tmp_path: Path) -> None:
    other = tmp_path / f".bundle.building-{dead_process()}-a"
    other.mkdir()
    with staging_folder(tmp_path / "b*"):
        pass
    assert other.is_dir()
