"""What the doctor says: each provider of the table, and nothing that a terminal would act on."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from edge_runtime.checks import doctor
from edge_runtime.checks.doctor import Finding, examine
from edge_runtime.errors import ProviderUnavailable
from edge_runtime.inference.providers import PROVIDERS


def findings() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine()}


def test_every_row_that_is_missing_says_what_brings_it(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda: ["cpu"])
    found = findings()
    for row in PROVIDERS.values():
        if row.name != "cpu":
            assert f"pip install {row.package}" in found[f"provider {row.name}"].advice


def test_every_row_that_does_not_load_says_what_to_do(monkeypatch):
    def fail(path, provider):
        raise ProviderUnavailable("its libraries\x1b[2J did not load\nmore")

    monkeypatch.setattr(doctor, "installed", lambda: list(PROVIDERS))
    monkeypatch.setattr(doctor, "try_graph", fail)
    found = findings()
    for row in PROVIDERS.values():
        finding = found[f"provider {row.name}"]
        assert (finding.level, finding.advice) == ("problem", row.advice)
        assert "its libraries" in finding.found
        assert all(line.isprintable() for line in finding.lines())


def test_what_a_driver_prints_does_not_act_on_a_terminal(monkeypatch):
    answer = SimpleNamespace(stdout="GPU \x1b[2J\u202e, 80 GiB\n", returncode=0)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: answer)
    assert findings()["gpu"].lines() == ["ok       gpu: GPU \\x1b[2J\\u202e, 80 GiB"]


@pytest.mark.parametrize(
    ("finding", "lines"),
    [
        (Finding("ok", "video", "found"), ["ok       video: found"]),
        (Finding("note", "gpu", "none", "use the CPU"), ["note     gpu: none", "         -> use the CPU"]),
        (Finding("problem", "a", "b\nc", "d\re"), ["problem  a: b\\nc", "         -> d\\re"]),
    ],
)
def test_the_lines_of_a_finding(finding, lines):
    assert finding.lines() == lines
