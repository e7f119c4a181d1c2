"""The edge distribution alone: what a recorder's environment gets, installed and run for real."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest
from clips import CACHE, ROOT, code_digest

CONSTRAINTS = ROOT / "constraints.txt"


def pip(python: Path, *arguments: str) -> None:
    """Run pip; what it cannot reach is a reason to skip, what it cannot do is a failure."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "20", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return
    unreachable = (
        "NewConnectionError",
        "ConnectTimeoutError",
        "NameResolutionError",
        "ProxyError",
        "Connection refused",
    )
    if any(word in done.stderr for word in unreachable):
        pytest.skip(f"pip cannot reach the package index: {done.stderr.strip().splitlines()[-1]}")
    pytest.fail(done.stderr[-2000:])


@pytest.fixture(scope="module")
def edge() -> Path:
    """The folder of an environment with nothing but headhunt-edge[cpu], its wheel built from this very source."""
    depends = hashlib.sha256((ROOT / "edge_runtime" / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes())
    depends.update(sys.version.encode())
    folder = CACHE / f"edge-env-{depends.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            install(folder, "-c", str(CONSTRAINTS))
            (folder / "complete").write_text(code_digest("edge_runtime"))
        elif (folder / "complete").read_text() != code_digest("edge_runtime"):
            # The dependencies are kept, the wheel is that of now.
            install(folder, "--force-reinstall", "--no-deps")
            (folder / "complete").write_text(code_digest("edge_runtime"))
    return folder


def install(environment: Path, *options: str) -> None:
    """Build the wheel and install it with its extra [cpu]."""
    with tempfile.TemporaryDirectory() as work:
        # A copy, so that no build/ and no egg-info is left in the tree.
        source = Path(work) / "edge_runtime"
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / "edge_runtime", source, ignore=ignored)
        # The test environment has the build backend: nothing is fetched for it.
        pip(Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", work, str(source))
        (wheel,) = Path(work).glob("*.whl")
        pip(environment / "bin" / "python", "install", *options, f"{wheel}[cpu]")


def run(edge: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [edge / "bin" / command[0], *command[1:]],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        timeout=120,
    )


def test_hh_edge_run_writes_records(edge, bundle_dir, clip_path):
    done = run(edge, "hh-edge", "run", "--bundle", str(bundle_dir), "--camera", f"clip={clip_path}")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    segments = [record for record in records if record["type"] == "segment"]
    assert [(record["start_frame"], record["end_frame"]) for record in segments] == [(0, 48), (48, 96), (96, 130)]
    assert all(record["camera"] == "clip" and 0 <= record["score"] <= 1 for record in segments)


def test_doctor(edge):
    done = run(edge, "hh-edge", "doctor")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in (done.stdout + done.stderr).lower().replace(" ", "")


@pytest.mark.parametrize("module", ["models", "export", "offline", "torch", "transformers", "onnx", "sklearn"])
def test_nothing_of_the_other_side_is_there(edge, module):
    done = run(edge, "python", "-c", f"import {module}")
    assert done.returncode == 1
    assert f"No module named '{module}'" in done.stderr


def test_the_import_is_the_installed_one(edge):
    done = run(edge, "python", "-c", "import edge_runtime; print(edge_runtime.__file__, edge_runtime.__version__)")
    file, version = done.stdout.split()
    assert Path(file).is_relative_to(edge)
    assert (
        version
        == subprocess.run(
            [edge / "bin" / "hh-edge", "--version"], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
    )


def test_a_refused_bundle_is_one_line_and_exit_code_3(edge, tmp_path, clip_path):
    done = run(edge, "hh-edge", "run", "--bundle", str(tmp_path), "--camera", str(clip_path))
    assert done.returncode == 3
    assert done.stdout == ""
    assert "manifest.json is missing" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
