"""`hh-offline extract` from a bucket into a bucket, by this process and by a Ray of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import Shape, write_checkpoint
from clips import write_dataset_folder
from s3_server import Bucket, _moto, bucket

from edge_runtime.cli.exit_codes import run_command
from offline.cli import cli

GIVEN = ("--sampled", "4", "--device", "cpu", "--quiet")

__all__ = ["_moto", "bucket"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), Shape(layers=1))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset_folder(tmp_path_factory.mktemp("videos"), {"calibration": 4})


def extract(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """In this process."""
    code = run_command(cli, ["extract", *GIVEN, *map(str, arguments)])
    return code, capfd.readouterr().err


def extract_with_ray(*arguments: object) -> tuple[int, str]:
    """In a process of its own, which has a Ray of its own."""
    command = [sys.executable, "-m", "offline.cli", "extract", *GIVEN, *map(str, arguments)]
    done = subprocess.run(
        [*command, "--executor", "ray", "--workers", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stderr


def upload(bucket: Bucket, manifest: Path) -> str:
    for path in manifest.parent.iterdir():
        bucket.put(f"set/{path.name}", path.read_bytes())
    return f"{bucket.url}/set/data.csv"


def test_from_a_bucket_into_a_bucket(
    bucket: Bucket, checkpoint: Path, manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert extract(capfd, "--model", checkpoint, "--manifest", manifest, "--output", tmp_path / "local") == (0, "")
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    given = ["--model", checkpoint, "--manifest", upload(bucket, manifest), "--video-cache", tmp_path / "cache"]
    # The store becomes read-only when two entries are in it, and what tells that their videos are known.
    bucket.refuse_puts_after = 4
    code, said = extract(capfd, *given, "--output", f"{bucket.url}/features")
    assert code == 1
    assert said.count("\n") == 1
    assert "cannot be written (access denied" in said
    entries = {f"features/{name}" for name in wanted} & bucket.names()
    assert len(entries) == 2
    bucket.refuse_puts_after = None
    # What is there is not written again, by whichever executor.
    bucket.asked.clear()
    again = [*given, "--output", f"{bucket.url}/features"]
    ray = importlib.util.find_spec("ray") is not None
    assert (extract_with_ray(*again) if ray else extract(capfd, *again)) == (0, "")
    written = {path.rpartition("/")[2] for method, path in bucket.asked if method == "PUT"}
    assert written & wanted.keys() == wanted.keys() - {name.rpartition("/")[2] for name in entries}
    found = {name: bucket.get(f"features/{name}") for name in wanted}
    assert json.loads(found["index.json"]) == json.loads(wanted["index.json"])
    assert found == wanted
