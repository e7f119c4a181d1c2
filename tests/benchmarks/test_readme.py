from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.campaign import MEASUREMENTS
from benchmarks.readme import README, ROWS, generate
from benchmarks.results import RESULTS, Result, read_results, write_result

MACHINE = {"processor": "Some processor", "instructions": ["avx2"], "cores": 2.0, "gpu": None}
GRAPH = {
    "ratio": 3.0,
    "ratio_cut": 2.6,
    "seconds": 12.0,
    "eager_s": 4.0,
    "eager_share": 0.33,
    "growing_s": 4.0,
    "growing_share": 0.33,
    "precision": "int8/int8",
    "provider": "openvino",
}


def result(name: str, figures: dict[str, Any] | None, **more: Any) -> Result:
    return Result(
        **{
            "name": name,
            "command": f"python -m benchmarks {name}",
            "quick": False,
            "date": "2026-01-31",
            "seconds": 10.0,
            "peak_gib": 1.5,
            "machine": MACHINE if figures is not None else {},
            "versions": {},
            "figures": figures,
        }
        | more
    )


def page(*results: Result) -> str:
    return generate({one.name: one for one in results}, Path("/nowhere"))


def line(text: str, work: str) -> list[str]:
    """The cells of a row: work, goal, measured, reached, machine, command."""
    found = [one for one in text.splitlines() if one.startswith(f"| {work}")]
    assert len(found) == 1, work
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    assert README.read_text() == generate(read_results(RESULTS)), "run: python -m benchmarks readme"


def test_every_row_is_there_before_anything_is_measured() -> None:
    text = page()
    for row in ROWS:
        _, goal, measured, reached, machine, command = line(text, row.work)
        assert goal == (row.goal or "none")
        assert measured in ("not measured", "not run on a GPU")
        assert (reached, machine) == ("", "")
        assert command.count("python -m benchmarks") == len(row.needs)
    assert line(text, "one H100 or H200")[2] == "not run on a GPU"


def test_rows_read_measurements_that_exist_and_none_is_left_out() -> None:
    names = [one.name for one in MEASUREMENTS]
    needed = {name for row in ROWS for name in row.needs}
    assert needed == set(names)


@pytest.mark.parametrize(("ratio", "verdict"), [(2.5, "yes"), (2.49, "**no**")])
def test_a_goal_is_reached_or_not(ratio: float, verdict: str) -> None:
    text = page(result("graph-1b-16-int8", GRAPH | {"ratio": ratio}))
    cells = line(text, "1B geometry, 16 frames")
    assert cells[2].startswith(f"{ratio:.2f} against whole, 2.60 against cut")
    assert cells[3:] == [verdict, "Some processor, 2 cores", "`python -m benchmarks graph-1b-16-int8`"]
    # Another row of the same measurement.
    assert line(text, "decision latency")[3] == "**no**"


def test_what_is_measured_in_part_is_not_judged() -> None:
    there = result("graph-8b-4-int8", GRAPH)
    cells = line(page(there), "8B geometry")
    assert cells[2].endswith("openvino; not measured")
    assert cells[3] == ""


@pytest.mark.parametrize(
    ("held", "said", "verdict"),
    [
        ({"peak": 13.9}, "13.9 GiB", "yes"),
        ({"peak": 14.1}, "14.1 GiB", "**no**"),
        ({"peak": 20.0, "own": 13.9}, "13.9 GiB (with mapped files 20.0)", "yes"),
        ({"peak": 20.0, "own": 14.1}, "14.1 GiB (with mapped files 20.0)", "**no**"),
    ],
)
def test_memory_counts_beside_speed(held: dict[str, float], said: str, verdict: str) -> None:
    steps = [{"step": name, "goal": 14, "code": 0} | held for name in ("build", "run", "build all")]
    cells = line(page(result("graph-8b-4-int8", GRAPH), result("memory-8b", {"steps": steps})), "8B geometry")
    assert f"build all {said}" in cells[2]
    assert cells[3] == verdict


def test_a_failure_is_told_with_its_error() -> None:
    text = page(result("hunt", None, error="error: no memory"))
    assert line(text, "hunt")[2:4] == ["hunt: failed", ""]
    assert "Failed: error: no memory" in text


def test_small_sizes_are_never_taken_for_a_measurement() -> None:
    text = page(result("hunt", {"seconds": 0.1, "width": 16}, quick=True))
    assert "reduced sizes: no measurement" in line(text, "hunt")[2]


def test_a_note_and_all_figures_stand_below() -> None:
    figures = {"seconds": 8.8, "width": 128, "metrics_ms_a_head": {"kl": 0.7}}
    text = page(result("hunt", figures, note="Inverting covariances takes most of it."))
    below = text.partition("### hunt\n")[2]
    assert below.startswith("\nInverting covariances takes most of it.\n")
    assert 'metrics_ms_a_head: {"kl": 0.7}' in below
    assert "2026-01-31, 10 s in all, peak 1.5 GiB" in below


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = result("hunt", {"seconds": 8.8}, note="ünïcode")
    write_result(one, tmp_path)
    assert read_results(tmp_path) == {"hunt": one}
    assert read_results(tmp_path / "none") == {}


def test_every_recording_is_listed_with_its_question() -> None:
    text = generate({})
    for path in README.parent.glob("*.txt"):
        assert re.search(rf"^\| \[{re.escape(path.name)}\]\({re.escape(path.name)}\) \| \S.+ \|$", text, re.MULTILINE)
