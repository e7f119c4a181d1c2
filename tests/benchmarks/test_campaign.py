from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from clips import ROOT

from benchmarks import campaign
from benchmarks.campaign import MEASUREMENTS, Measurement, Settings, chosen, run_all
from benchmarks.processes import Ran, room
from benchmarks.results import read_results
from edge_runtime.errors import UsageError

GIVEN = {"machine": {"processor": "p", "cores": 2.0, "gpu": None}, "versions": {}, "figures": {"seconds": 1.23456789}}
ONE = Measurement("one", "graph --model a --frames 16", "graph --model reference")
TWO = Measurement("two", "textual --model a", "textual --model reference")
THREE = Measurement("three", "start --model b", "start --model reference")
CARD = Measurement("card", "graph --model c --provider cuda", "graph --model reference", needs_cuda=True)


class Commands:
    """Stands in for the processes: notes what is run, and fails where it is told to."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.fails: set[str] = set()
        self.interrupts: set[str] = set()

    def __call__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
        name = command[3]
        if name in self.interrupts:
            raise KeyboardInterrupt
        self.run.append(name)
        if name in self.fails:
            return Ran(1, 2.0, 1.0, 0.5, 0.4, "", "error: no memory")
        return Ran(0, 2.0, 1.0, 0.5, 0.4, f"said\n{json.dumps(GIVEN)}\n", "said")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    stand_in = Commands()
    monkeypatch.setattr(campaign, "run", stand_in)
    monkeypatch.setattr(campaign, "gpu", lambda: None)
    return stand_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "results", tmp_path / "work")


def test_what_is_done_is_not_done_again(commands: Commands, settings: Settings) -> None:
    assert run_all([ONE, TWO], settings)
    assert run_all([ONE, TWO, THREE], settings)
    assert commands.run == ["graph", "textual", "start"]
    assert run_all([TWO], replace(settings, again=True))
    assert commands.run[3:] == ["textual"]


def test_an_interruption_loses_nothing_that_was_done(commands: Commands, settings: Settings) -> None:
    commands.interrupts = {"textual"}
    with pytest.raises(KeyboardInterrupt):
        run_all([ONE, TWO, THREE], settings)
    assert list(read_results(settings.results)) == ["one"]
    commands.interrupts.clear()
    assert run_all([ONE, TWO, THREE], settings)
    assert commands.run == ["graph", "textual", "start"]


def test_a_failure_stands_in_its_row_and_the_others_go_on(commands: Commands, settings: Settings) -> None:
    commands.fails = {"textual"}
    assert not run_all([ONE, TWO, THREE], settings)
    results = read_results(settings.results)
    assert {name: result.error for name, result in results.items()} == {
        "one": None,
        "two": "error: no memory",
        "three": None,
    }
    assert results["two"].figures is None
    commands.fails.clear()
    # What failed is tried again, and only that.
    assert run_all([ONE, TWO, THREE], settings)
    assert commands.run == ["graph", "textual", "start", "textual"]


def test_a_command_that_gives_no_figures_has_failed(
    commands: Commands, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "run", lambda *_: Ran(0, 2.0, 1.0, 0.5, 0.4, "Usage: …", "Usage: …"))
    assert not run_all([ONE], settings)
    assert read_results(settings.results)["one"].error == "it gave no figures"


def test_a_result_of_another_command_is_none(commands: Commands, settings: Settings) -> None:
    run_all([ONE], settings)
    run_all([replace(ONE, words="graph --model a --frames 8")], settings)
    assert commands.run == ["graph", "graph"]
    assert read_results(settings.results)["one"].command == "python -m benchmarks graph --model a --frames 8"


def test_a_result_says_what_was_measured_how_and_where(commands: Commands, settings: Settings) -> None:
    run_all([ONE], settings)
    result = read_results(settings.results)["one"]
    assert result.command == "python -m benchmarks graph --model a --frames 16"
    assert (result.seconds, result.peak_gib, result.quick) == (2.0, 0.5, False)
    assert result.figures == {"seconds": 1.2346}
    assert result.machine == GIVEN["machine"]


def test_a_models_folder_goes_behind_its_last_measurement(
    commands: Commands, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in "ab":
        room(model, settings.work).mkdir(parents=True)
    there: dict[str, set[str]] = {}

    def look(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
        there[command[3]] = {path.name for path in settings.work.iterdir()}
        return commands(command, environment)

    monkeypatch.setattr(campaign, "run", look)
    run_all([ONE, TWO, THREE], settings)
    assert there == {"graph": {"a", "b"}, "textual": {"a", "b"}, "start": {"b"}}
    assert list(settings.work.iterdir()) == []


def test_what_needs_a_card_is_left_out_without_one(
    commands: Commands, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_all([CARD], settings)
    assert commands.run == []
    assert read_results(settings.results) == {}
    monkeypatch.setattr(campaign, "gpu", lambda: "a card")
    assert run_all([CARD], settings)
    assert commands.run == ["graph"]


def test_small_forms_that_are_equal_are_run_once(commands: Commands, settings: Settings) -> None:
    same = replace(ONE, name="same", words="graph --model b")
    assert run_all([ONE, same, TWO], replace(settings, quick=True))
    assert commands.run == ["graph", "textual"]
    assert all(result.quick for result in read_results(settings.results).values())


def test_measurements_are_chosen_by_name_or_pattern() -> None:
    assert [one.name for one in chosen(["graph-256m-4-*", "hunt"])] == [
        "hunt",
        "graph-256m-4-bf16",
        "graph-256m-4-int8",
    ]
    assert chosen([]) == list(MEASUREMENTS)
    with pytest.raises(UsageError, match=r"no measurement 'graph-70b'; choose from hunt, edge"):
        chosen(["hunt", "graph-70b"])


def test_names_of_measurements_are_distinct() -> None:
    assert len({one.name for one in MEASUREMENTS}) == len(MEASUREMENTS)


def test_a_file_that_is_no_result_is_refused_by_name(settings: Settings) -> None:
    settings.results.mkdir()
    (settings.results / "odd.json").write_text("{}")
    with pytest.raises(UsageError, match=r"odd\.json: is no result of a benchmark"):
        run_all([ONE], settings)


def test_the_program_measures_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The real thing, with the cheapest of all: the options without a command are those of `all`."""
    command = [sys.executable, "-m", "benchmarks", "all", "hunt", "--quick", "--output", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_results(tmp_path / "results")["hunt"]
    assert result.quick
    assert result.error is None
    assert result.figures is not None
    assert result.figures["seconds"] > 0
