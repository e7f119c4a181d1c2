"""The campaign's name server is asked by a process of its own, and a camera's look-up ends where it is silent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.names import NameServer, missing
from benchmarks.processes import ENVIRONMENT

PROGRAM = """
import sys
from edge_runtime.video.connection import Fault
from edge_runtime.video.diagnosis import resolve
from edge_runtime.video.sources import parse_source
try:
    resolve(parse_source(f"gate=rtsp://{sys.argv[1]}/x"), 0.5)
    print("found", flush=True)
except Fault as fault:
    print(fault.reason, fault.detail, flush=True)
import os
os._exit(0)
"""


def test_what_a_camera_is_told_of_its_name(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with NameServer(tmp_path) as names:
        names.answer("unknown.faults.test", "unknown")
        names.answer("silent.faults.test", "silence")

        def asked(name: str) -> str:
            command = [*names.prefix, sys.executable, "-c", PROGRAM, name]
            done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert asked("known.faults.test") == "found\n"
        assert asked("unknown.faults.test").startswith("dns the name unknown.faults.test is not known")
        assert asked("silent.faults.test").startswith("dns no name server answers for silent.faults.test")
        names.answer("silent.faults.test", "address")
        assert asked("silent.faults.test") == "found\n"
