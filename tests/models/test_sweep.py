"""Models larger than the memory: the same bits, whatever is in memory at a time, and nothing is left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from nfs_locks import nfs_locks
from oracle import seeing, some_frames
from torch import nn

import models.sweep
from edge_runtime.errors import CacheFailed, UsageError
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import PROMPTS
from models.states import StateStore, _clear_remains
from models.sweep import GIB, UNITS, Demand, Stage, Sweep, groups, plan_sweep, require_whole

__all__ = ["nfs_locks"]

ROOT = Path(__file__).parents[2]
SEEN = seeing(2)
UNITS_GIVEN = some_frames(5, 2, 32)


@pytest.fixture(scope="module")
def mllm(tmp_path_factory: pytest.TempPathFactory) -> InternVL:
    found = load(str(write_checkpoint(tmp_path_factory.mktemp("model"), Shape())), "cpu")
    assert isinstance(found, InternVL)
    return found


@pytest.fixture(scope="module")
def wanted(mllm: InternVL) -> np.ndarray:
    """One unit after the other, with everything in memory."""
    mllm.sweep = Sweep(None, 0, Path())
    return np.concatenate([mllm.head_features([unit], PROMPTS[:2], SEEN) for unit in UNITS_GIVEN])


@pytest.mark.parametrize("states", [0, 40_000, 10**9], ids=["all on the disk", "some", "none"])
@pytest.mark.parametrize("weights", [1, 60_000], ids=["a stage at a time", "some together"])
def test_streamed_features_equal_unstreamed_ones_to_the_bit(
    weights: int, states: int, mllm: InternVL, wanted: np.ndarray, tmp_path: Path
) -> None:
    mllm.to("cpu")
    mllm.sweep = Sweep(weights, states, tmp_path / "spill", units=8)
    at_a_time = []

    def progress(done: int, total: int) -> None:
        at_a_time.append((done, total, sum(not one.is_meta for one in mllm._model.parameters())))

    found = mllm.head_features(iter(UNITS_GIVEN), PROMPTS[:2], SEEN, progress=progress)
    assert np.array_equal(found, wanted)
    assert [done for done, _, _ in at_a_time] == list(range(1, at_a_time[0][1] + 1))
    # Between two groups of stages no weight is in memory.
    assert {count for _, _, count in at_a_time} == {0}
    assert not (tmp_path / "spill").exists()


def test_lower_layers_are_the_same_without_those_above(mllm: InternVL, wanted: np.ndarray, tmp_path: Path) -> None:
    for sweep in (Sweep(None, 0, Path()), Sweep(1, 0, tmp_path, units=8)):
        mllm.sweep = sweep
        found = mllm.head_features(iter(UNITS_GIVEN[:2]), PROMPTS[:2], SEEN, layers=2)
        assert np.array_equal(found, wanted[:2, :, :2])


def test_hundreds_of_units_spill_and_come_back(mllm: InternVL, tmp_path: Path) -> None:
    """What lies between two stages stays within its budget, whatever the number of units."""
    units = np.repeat(UNITS_GIVEN, 100, axis=0)
    mllm.sweep = Sweep(1, 200_000, tmp_path / "spill", units=len(units))
    seen = []

    def progress(_done: int, _total: int) -> None:
        seen.append(len(list((tmp_path / "spill").glob("*/*"))))

    found = mllm.head_features(iter(units), PROMPTS[:1], SEEN, layers=1, progress=progress)
    assert max(seen) > 400
    assert np.array_equal(found[::100], found[99::100])
    assert not (tmp_path / "spill").exists()


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    limit=st.one_of(st.none(), st.integers(1, 100)),
)
def test_groups_are_neighbours_within_the_limit(sizes: list[int], limit: int | None) -> None:
    class Sizes:
        def size(self, module: nn.Module) -> int:
            return int(module.bytes)  # type: ignore[arg-type]

    stages = []
    for size in sizes:
        module = nn.Identity()
        module.bytes = size  # type: ignore[assignment]
        stages.append(Stage(module, lambda _unit, state: state))
    found = groups(stages, Sizes(), limit)  # type: ignore[arg-type]
    assert [stage for group in found for stage in group] == stages
    if limit is None:
        assert len(found) == 1
        return
    totals = [sum(int(stage.module.bytes) for stage in group) for group in found]  # type: ignore[arg-type]
    assert all(total <= limit or len(group) == 1 for total, group in zip(totals, found, strict=True))


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=10),
    budget=st.integers(0, 400),
    rounds=st.integers(1, 3),
)
def test_states_come_back_as_they_went(
    sizes: list[int], budget: int, rounds: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("states") / "spill"
    store = StateStore(budget, folder)
    states = [{"a": torch.randn(size), "b": torch.arange(size)} for size in sizes]
    for _ in range(rounds):
        for number, state in enumerate(states):
            store.put(number, state)
        for number, state in enumerate(states):
            found = store.take(number)
            assert all(torch.equal(found[name], state[name]) for name in state)
    store.clear()
    assert not folder.exists()


SPILLING = """
import sys, torch
from pathlib import Path
from models.states import StateStore
store = StateStore(0, Path(sys.argv[1]))
for number in range(3):
    store.put(number, {"a": torch.full((2,), float(number))})
print("spilled", flush=True)
sys.stdin.read()
"""


def test_two_runs_may_spill_into_one_folder_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    command = [sys.executable, "-c", SPILLING, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"spilled\n"
        (theirs,) = folder.iterdir()
        assert theirs.stat().st_mode & 0o077 == 0
        one = StateStore(0, folder)
        for number in range(3):
            one.put(number, {"a": torch.full((2,), -float(number))})
        # It lives: what it has there stays.
        assert {file.name for file in theirs.iterdir()} == {"1", "2", "lock"}
        other.kill()
    # As a killed one leaves it, with what was half written.
    (theirs / ".tmpHALF").write_bytes(b"half")
    third = StateStore(0, folder)
    for number in range(2):
        third.put(number, {"a": torch.zeros(2)})
    assert not theirs.exists()
    third.clear()
    assert [float(one.take(number)["a"][0]) for number in range(3)] == [0, -1, -2]
    one.clear()
    assert not folder.exists()


def spilled(folder: Path) -> StateStore:
    store = StateStore(0, folder)
    for number in range(3):
        store.put(number, {"a": torch.full((2,), float(number))})
    return store


def assert_whole(store: StateStore) -> None:
    assert [store.take(number)["a"].tolist() for number in range(3)] == [[number] * 2 for number in range(3)]
    store.clear()


@pytest.mark.usefixtures("nfs_locks")
def test_runs_of_two_machines_leave_each_other_alone_over_nfs(tmp_path: Path) -> None:
    one, other = spilled(tmp_path), spilled(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    for store in (one, other):
        assert_whole(store)
    assert not tmp_path.exists()


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_that_gets_no_lock_goes_on_and_is_nobodys_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as without:
        without.setattr(fcntl, "flock", none)
        unlocked = [spilled(tmp_path) for _ in range(2)]
    # This one gets one, and would lock whatever could be.
    locked = spilled(tmp_path)
    for store in (*unlocked, locked):
        assert_whole(store)
    assert not tmp_path.exists()


def test_who_clears_at_any_moment_takes_nothing_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after every step of a run that makes its folder and goes."""
    (tmp_path / "run-dead").mkdir()
    (tmp_path / "run-dead" / "lock").touch()
    clearing, steps = [], set()

    def clear() -> None:
        clearing.append(True)
        _clear_remains(tmp_path)
        clearing.clear()

    def stepped(owner: object, name: str) -> None:
        step = getattr(owner, name)

        def between(*given: object, **options: object) -> object:
            if clearing:
                return step(*given, **options)
            steps.add(name)
            clear()
            found = step(*given, **options)
            clear()
            return found

        monkeypatch.setattr(owner, name, between)

    for owner, name in ((os, "open"), (os, "close"), (os, "mkdir"), (os, "rename"), (os, "unlink"), (fcntl, "flock")):
        stepped(owner, name)
    (tmp_path / "kept").touch()
    assert_whole(spilled(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
    assert {"open", "close", "mkdir", "rename", "unlink", "flock"} <= steps


def test_a_folder_that_comes_and_goes(tmp_path: Path) -> None:
    """Runs that end remove the folder that others are about to use."""
    failed: list[BaseException] = []

    def spill(_: int) -> None:
        try:
            for _ in range(60):
                store = StateStore(0, tmp_path / "spill")
                store.put(0, {"a": torch.zeros(1)})
                store.put(1, {"a": torch.ones(1)})
                assert store.take(1)["a"].tolist() == [1.0]
                store.clear()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    threads = [threading.Thread(target=spill, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert not (tmp_path / "spill").exists()


def test_a_disk_without_room_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = StateStore(0, tmp_path / "file" / "spill")
    store.put(0, {"a": torch.zeros(4)})
    # Of this machine alone: where there are others, they do the work.
    with pytest.raises(CacheFailed, match="--memory"):
        store.put(1, {"a": torch.zeros(4)})


DEMAND = Demand(whole=10 * GIB, largest=GIB, state=GIB // 8, work=GIB // 4, features=GIB // 1024)


def test_a_model_that_fits_stays_and_another_streams(tmp_path: Path) -> None:
    assert plan_sweep(DEMAND, 12 * GIB, None, tmp_path).weights is None
    sweep = plan_sweep(DEMAND, 4 * GIB, None, tmp_path)
    assert sweep.weights == DEMAND.largest
    assert 1 < sweep.units <= UNITS
    assert sweep.weights + sweep.states + DEMAND.work + sweep.units * DEMAND.features <= 4 * GIB
    assert plan_sweep(DEMAND, 12 * GIB, True, tmp_path).streams


def test_no_more_units_go_together_than_the_disk_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = plan_sweep(DEMAND, 4 * GIB, None, tmp_path)
    monkeypatch.setattr(models.sweep, "free_space", lambda _path: 10 * DEMAND.state)
    few = plan_sweep(DEMAND, 4 * GIB, None, tmp_path)
    assert few.units < many.units
    assert few.states // DEMAND.state <= few.units <= few.states // DEMAND.state + 8
    monkeypatch.setattr(models.sweep, "free_space", lambda _path: 0)
    assert plan_sweep(DEMAND, 4 * GIB, None, tmp_path).units == few.states // DEMAND.state


def test_answers_in_words_need_the_whole_model_in_memory() -> None:
    require_whole("model", GIB, GIB)
    with pytest.raises(UsageError, match=r"model: .* 2\.0 GiB; 1\.0 GiB are allowed"):
        require_whole("model", 2 * GIB, GIB)


@pytest.mark.parametrize(("memory", "stream"), [(10 * GIB, False), (GIB, None), (GIB, True)])
def test_memory_that_does_not_suffice_is_told_with_the_figures(
    memory: int, stream: bool | None, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"needs \d+\.\d GiB .* GiB are allowed") as caught:
        plan_sweep(DEMAND, memory, stream, tmp_path)
    assert "\n" not in str(caught.value)
