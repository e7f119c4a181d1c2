from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.processes import run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_is_measured_and_its_output_kept() -> None:
    ran = run(python("held = b'1' * 2**29; print('one'); print('two')"))
    assert (ran.code, ran.output, ran.last) == (0, "one\ntwo\n", "two")
    assert ran.peak_gib > 0.5
    assert ran.seconds > 0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux for the memory of a process")
def test_pages_of_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2**28))
    mapped = f"import mmap, time; file = open({str(tmp_path / 'large')!r}, 'rb'); "
    mapped += "pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); sum(pages[::4096]); time.sleep(0.5)"
    ran = run(python(mapped))
    assert ran.own_gib is not None
    assert ran.peak_gib > 0.25 > ran.own_gib > 0


def test_a_failure_is_told_by_the_last_line_of_its_errors() -> None:
    ran = run(python("import sys; print('result'); print('error: no', file=sys.stderr); sys.exit(3)"))
    assert (ran.code, ran.last) == (3, "error: no")


def test_a_signal_is_a_negative_code() -> None:
    assert run(python("import os; os.kill(os.getpid(), 9)")).code == -9


def test_a_child_imports_this_tree_and_sees_what_it_is_given() -> None:
    code = "import os, benchmarks; print(benchmarks.__file__, os.environ['GIVEN'])"
    where, given = run(python(code), {"GIVEN": "here"}).output.split()
    assert where.endswith("benchmarks/__init__.py")
    assert given == "here"
