"""What `deploy/` holds is what a service manager and a container engine take."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from clips import ROOT

UNITS = [ROOT / "deploy" / name for name in ("hh-edge.service", "hh-edge-pull.service")]
TIMER = ROOT / "deploy" / "hh-edge-pull.timer"


@pytest.fixture(params=UNITS, ids=lambda unit: str(unit.name))
def unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Each unit, with a command that is there: systemd looks whether it is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / request.param.name
    path.write_text(request.param.read_text().replace("/opt/hh-edge/bin/hh-edge", "/bin/true"))
    return path


def test_systemd_takes_the_unit(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert unit.name not in done.stderr


def test_systemd_takes_the_timer(unit: Path) -> None:
    timer = unit.with_name(TIMER.name)
    timer.write_text(TIMER.read_text().replace("[Timer]", f"[Timer]\nUnit={unit.name}"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(timer), str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert timer.name not in done.stderr


def test_the_unit_leaves_little_open(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= 2.0
