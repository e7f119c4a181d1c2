"""Both wheels, each in an environment with its declared dependencies and no extra: every module of it imports there.

The dependencies are lent by links from the environment of the tests, and only those that the wheel declares, with
what they declare themselves: an import that nobody declared fails as it would for a user.
"""

from __future__ import annotations

import email.parser
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest
from clips import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EDGE, OFFLINE = "headhunt-edge", "headhunt-vad"
SOURCES = {EDGE: ROOT / "edge_runtime", OFFLINE: ROOT}
PACKAGES = {EDGE: ["edge_runtime"], OFFLINE: ["models", "export", "offline"]}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
names = []
for package in sys.argv[1:]:
    root = importlib.import_module(package)
    names += [package, *(info.name for info in pkgutil.walk_packages(root.__path__, package + "."))]
failed = {}
for name in names:
    if name.rpartition(".")[2] == "__main__":  # runs the command
        continue
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps([names, failed]))
"""


def build_wheel(name: str, folder: Path) -> Path:
    """The wheel as a user's pip builds it, from a copy: no build folder is left in the tree."""
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        for file in map(Path, listed.stdout.splitlines()):
            if (ROOT / file).is_file() and file.parts[0] not in ("tests", "docs", "benchmarks"):
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, source / file)
        place = source / SOURCES[name].relative_to(ROOT)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*build, "--no-build-isolation", "-w", str(folder), str(place)], check=True, capture_output=True
        )
    (wheel,) = folder.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel


def declared(wheel: Path) -> set[str]:
    """Everything that installing the wheel without extras brings, by name, itself left out."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        header = email.parser.Parser().parsestr(archive.read(metadata).decode())
    found: set[str] = set()
    waiting = [(text, frozenset[str]()) for text in header.get_all("Requires-Dist") or []]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        text, extras = waiting.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            continue
        name = canonicalize_name(requirement.name)
        asked = frozenset(requirement.extras)
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        found.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform, or an optional part that is not here either
        waiting += [(need, asked) for need in needs]
    return found


def lend(names: set[str], site: Path) -> None:
    """Link what some distributions installed into another site-packages."""
    here = Path(importlib.metadata.distribution("numpy").locate_file(""))
    for name in names:
        try:
            files = importlib.metadata.distribution(name).files or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            target = site / top
            if (here / top).exists() and not target.exists():
                target.symlink_to(here / top)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build_wheel(name, folder) for name in (EDGE, OFFLINE)}


def environment(folder: Path, *wheels: Path) -> Path:
    """An environment with these wheels and what they declare; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = (folder / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--disable-pip-version-check", *map(str, wheels)], check=True, capture_output=True)
    lend(set().union(*(declared(wheel) for wheel in wheels)) - {EDGE, OFFLINE}, site)
    return python


def run(python: Path, *arguments: str, limit_s: float = 240) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [python, *arguments], check=False, capture_output=True, text=True, cwd="/", env=clean, timeout=limit_s
    )


def modules_in_the_tree(name: str) -> set[str]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES[name]
        for path in (ROOT / package).rglob("*.py")
        if "build" not in path.parts and path != ROOT / "edge_runtime" / "setup.py"
    }


@pytest.fixture(scope="module")
def edge_alone(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("edge") / "env", wheels[EDGE])


@pytest.mark.parametrize("name", [EDGE, OFFLINE])
def test_every_module_of_the_tree_is_in_the_wheel_and_imports_without_an_extra(
    wheels: dict[str, Path], edge_alone: Path, tmp_path: Path, name: str
) -> None:
    python = edge_alone if name == EDGE else environment(tmp_path / "env", wheels[EDGE], wheels[OFFLINE])
    done = run(python, "-I", "-c", IMPORT_ALL, *PACKAGES[name])
    assert done.returncode == 0, done.stderr
    names, failed = json.loads(done.stdout.splitlines()[-1])
    # The server's room is the extra: whoever asks for it is told before any of these is imported.
    needs = re.compile(r"No module named '(starlette|uvicorn|h11|prometheus_client)'")
    assert {
        one: why for one, why in failed.items() if not (one.startswith("edge_runtime.server.") and needs.search(why))
    } == {}
    assert set(names) == modules_in_the_tree(name)


def test_a_missing_extra_is_told_with_the_command_that_installs_it(edge_alone: Path, bundle_dir: Path) -> None:
    assert run(edge_alone, "-I", "-c", "import onnxruntime").returncode == 1
    for command in (
        ["verify", str(bundle_dir)],
        ["run", "--bundle", str(bundle_dir), "--camera", "rtsp://127.0.0.1/"],
    ):
        done = run(edge_alone, "-I", "-m", "edge_runtime.cli", *command)
        assert done.returncode == 2
        assert 'pip install "headhunt-edge[cpu]"' in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    doctor = run(edge_alone, "-I", "-m", "edge_runtime.cli", "doctor")
    assert doctor.returncode == 0
    assert "headhunt-edge[cpu]" in doctor.stdout


def test_the_edge_wheel_holds_nothing_else(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[EDGE]) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_runtime"}


def test_a_user_of_the_wheel_has_its_types(edge_alone: Path, tmp_path: Path) -> None:
    """mypy sees the installed package, not the tree; without py.typed each import of it would be an error."""
    for example in (ROOT / "examples").glob("*.py"):
        shutil.copyfile(example, tmp_path / example.name)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-executable", str(edge_alone)]
    names = sorted(path.name for path in tmp_path.glob("*.py"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    done = subprocess.run(
        [*mypy, *names], check=False, capture_output=True, text=True, cwd=tmp_path, env=clean, timeout=240
    )
    assert done.returncode == 0, done.stdout
    (tmp_path / "wrong.py").write_text("import edge_runtime\nedge_runtime.Bundle.open(1)\n")
    done = subprocess.run(
        [*mypy, "wrong.py"], check=False, capture_output=True, text=True, cwd=tmp_path, env=clean, timeout=240
    )
    assert "[arg-type]" in done.stdout
