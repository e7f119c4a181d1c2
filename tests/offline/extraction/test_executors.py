"""The same features wherever they are computed, and no worker's death costs more than its video."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import Shape, write_checkpoint
from clips import write_dataset_folder
from hypothesis import given
from hypothesis import strategies as st
from ray_cluster import Cluster, Fragile, Unknown, closed_port, named, ray_cluster, started_cluster

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import (
    CheckpointError,
    ClusterUnavailable,
    DatasetError,
    FeatureError,
    HeadHuntError,
    OutputFailed,
    SourceUnreachable,
    UsageError,
    VideosFailed,
    VideoUnreadable,
)
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.loading import load
from models.precision import dtype_name
from models.prompts import PROMPTS
from offline.ablation.textual import TextualAnswer
from offline.cli import cli
from offline.console import Console
from offline.data.cache import EntryStore, content_key
from offline.data.dataset import Video, read_dataset
from offline.data.segments import digest
from offline.data.units import Unit
from offline.evaluation.baselines import MEASURES
from offline.evaluation.run import BundleRecipe, BundleWorker, Running, RunTask, run_videos
from offline.evaluation.verdict import TOKENS_ALONE
from offline.extraction.executors import Execution, executor_of
from offline.extraction.extract import AllHeads, Extraction, Extractor, extract
from offline.extraction.model import ModelUse
from offline.extraction.ray_pool import (
    ATTEMPTS,
    LOADS,
    Failure,
    Hand,
    RayPool,
    Results,
    Seat,
    _Outcome,
    _Place,
    _require_cluster,
    _Run,
    _told,
    plan,
)
from offline.extraction.visual import GraphTokens, ModelTokens
from offline.extraction.workers import ExtractTask, ModelRecipe, RayExecutor
from offline.recipes.evaluate import EvaluateOptions, evaluate

__all__ = ["ray_cluster"]

SEGMENT = SegmentSpec(frames=48, sampled=4, fps=15)
PROMPT = PROMPTS[:2]
MACHINES = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), Shape(layers=2))


@pytest.fixture(scope="module")
def mllm(checkpoint: Path) -> Mllm:
    return load(str(checkpoint), "cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset_folder(tmp_path_factory.mktemp("videos"), {"calibration": 4, "validation": 2, "test": 2})


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.npz")}


def task_of(video: Video, mllm: Mllm, store: Path) -> ExtractTask:
    extractor = AllHeads(mllm, PROMPT, SEGMENT)
    identity = content_key(**extractor.identity)
    return ExtractTask(video, "segment", extractor.maker(), identity, mllm.pixels, SEGMENT, store)


@pytest.fixture(scope="module")
def pool(ray_cluster: Cluster) -> Iterator[RayPool]:
    """Two workers, for all tests here: a process joins one cluster at a time."""
    with RayPool(ray_cluster.address, 2, Console(quiet=True)) as pool:
        yield pool


@pytest.fixture
def idle_cluster() -> Iterator[Cluster]:
    """One of its own: workers that `pool` keeps hold all of the other."""
    with started_cluster() as cluster:
        yield cluster


class TestSeats:
    """How machines are shared out."""

    @given(MACHINES, st.booleans(), st.one_of(st.none(), st.integers(1, 64)))
    def test_workers_fit_into_the_machines(
        self, machines: list[tuple[int, int]], gpu: bool, workers: int | None
    ) -> None:
        try:
            seats = plan(machines, workers, gpu)
        except ClusterUnavailable:
            cpus, gpus = (sum(column) for column in zip(*machines, strict=True))
            most = gpus if gpu and gpus else cpus
            assert cpus == 0 or (workers is not None and workers > most)
            return
        assert workers is None or len(seats) == workers
        assert all(0 < seat.share <= 1 for seat in seats)
        one = seats[0]
        if one.gpus:
            places = sum(min(gpus, cpus // one.cpus) for cpus, gpus in machines if gpus)
            # A machine with GPUs and too few CPUs leaves some of them idle.
            assert places >= len(seats) or any(cpus < gpus for cpus, gpus in machines)
        elif workers is not None:
            assert sum(cpus // one.cpus for cpus, _ in machines) >= workers
        else:
            # Each machine's whole, whatever the others have.
            assert [(seat.machine, seat.cpus) for seat in seats] == [
                (number, cpus) for number, (cpus, _) in enumerate(machines) if cpus
            ]

    def test_one_model_a_machine_without_gpus_and_one_a_gpu_with_them(self) -> None:
        assert plan([(16, 0), (4, 0)], None, gpu=True) == (Seat(16, 0, 1.0, 0), Seat(4, 0, 1.0, 1))
        assert plan([(16, 4), (16, 4)], None, gpu=True) == (Seat(4, 1, 0.25),) * 8
        assert plan([(16, 4)], None, gpu=False) == (Seat(16, 0, 1.0, 0),)


class TestPool:
    """Tasks, deaths and failures, with workers that do nothing else."""

    def test_a_worker_that_dies_costs_only_its_task(self, pool: RayPool, tmp_path: Path) -> None:
        tasks = named("dies once", "a", "broken", "b", "dies", "odd", "c")
        shown: list[tuple[int, int]] = []
        results = pool.run(Fragile(tmp_path), tasks, lambda done, total, what="": shown.append((done, total)))
        assert results.values == {"dies once": "DIES ONCE", "a": "A", "b": "B", "c": "C"}
        assert results.failed == {
            "broken": Failure("broken.mp4: not one frame can be decoded", unreadable=True),
            "odd": Failure("unexpected ZeroDivisionError: division by zero", unreadable=False),
            "dies": Failure(f"{ATTEMPTS} workers died with it", unreadable=False),
        }
        assert len(list(tmp_path.glob("dies.*"))) == ATTEMPTS
        # What nobody died with was done once.
        assert [len(list(tmp_path.glob(f"{name}.*"))) for name in "abc"] == [1, 1, 1]
        # What failed was tried by both.
        assert [len(list(tmp_path.glob(f"{name}.*"))) for name in ("broken", "odd")] == [2, 2]
        assert shown[0] == (0, 7)
        assert shown[-1] == (7, 7)
        assert shown == sorted(shown)

    def test_a_worker_that_fails_with_everything_costs_nothing(
        self, pool: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One with a full disk or without the videos' folder, which fails far sooner than another one works."""
        said: list[str] = []
        monkeypatch.setattr(pool, "say", said.append)
        tasks = named("broken", *map(str, range(20)))
        results = pool.run(Fragile(tmp_path, sick=1), tasks)
        assert results.values == {name: name for name in tasks if name != "broken"}
        # Whichever of the two had it first, and even where it was the other one's first task.
        assert [(name, failure.unreadable) for name, failure in results.failed.items()] == [("broken", True)]
        (line,) = said
        assert "fails with videos that other workers can do" in line
        assert "No space left on device" in line

    def test_the_reason_is_that_of_one_who_can_do_something(self) -> None:
        """Also where the video was its first task, and the other one, who fails with everything, had it before."""
        run = _Run(RayPool(None, None, Console(quiet=True)), Fragile(Path()), named("broken", "a"), None, None)
        sick, well = (Hand(None, number, Seat(1, 0, 1.0), _Place("node", "host")) for number in range(2))
        unreadable = _Outcome(error="broken.mp4: no frames", unreadable=True)
        for name, outcome, hand in (
            ("broken", _Outcome(error="no space"), sick),
            ("broken", unreadable, well),
            ("a", _Outcome(value="A"), well),
        ):
            run._waiting.remove(name)
            run._done(name, outcome, hand)
        run._spare = [sick, well]
        run._believe()
        assert run._results == Results({"a": "A"}, {"broken": Failure("broken.mp4: no frames", unreadable=True)})

    def test_an_outage_ends_the_command_when_nobody_reaches_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("offline.extraction.ray_pool._OUTAGE_S", 0.0)
        run = _Run(RayPool(None, None, Console(quiet=True)), Fragile(Path()), named(*"abcdefgh"), None, None)
        run._done_at = time.monotonic()
        away = _told(SourceUnreachable("s3://clips/a.mp4: cannot be read (timeout)"))
        one, other = (Hand(None, number, Seat(1, 0, 1.0), _Place("node", "host")) for number in range(2))
        run._spare = [one, other]
        # One without a network has them all at once, a video that was read or is damaged tells of none.
        outcomes = [(name, away, one) for name in "abcdefgh"]
        outcomes += [("a", away, other), ("b", away, other), ("c", _Outcome(value="C"), other)]
        outcomes += [("d", away, other), ("e", away, other), ("f", _told(VideoUnreadable("no frames")), other)]
        outcomes += [("g", away, other), ("h", away, other)]
        for name, outcome, hand in outcomes:
            if name in run._waiting:
                run._waiting.remove(name)
            run._done(name, outcome, hand)
        with pytest.raises(
            VideosFailed, match=r"no worker has reached a video for 0 minutes \(s3://clips/a\.mp4.*again"
        ):
            run._done("a", away, other)

    def test_a_task_that_fails_and_then_kills_is_given_up_once(self, pool: RayPool, tmp_path: Path) -> None:
        results = pool.run(Fragile(tmp_path), named("fails, then dies", "broken"))
        assert not results.values
        assert results.failed["fails, then dies"] == Failure(f"{ATTEMPTS} workers died with it", unreadable=False)
        assert results.failed["broken"].unreadable

    def test_what_fails_on_all_workers_fails(self, pool: RayPool, tmp_path: Path) -> None:
        results = pool.run(Fragile(tmp_path, sick=2), named(*"abcdef"))
        assert not results.values
        # Not unreadable: nothing is left out for a disk.
        full = "cannot be kept (No space left on device)"
        assert results.failed == {name: Failure(f"{name}: {full}", False) for name in "abcdef"}

    def test_a_worker_that_stands_still_is_replaced(
        self, pool: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offline.extraction.ray_pool._ASK_S", 1.0)
        monkeypatch.setattr("offline.extraction.ray_pool._HUNG_S", 10.0)
        tasks = named("hangs once", "a", "b")
        assert pool.run(Fragile(tmp_path), tasks).values == {name: name.upper() for name in tasks}

    def test_a_store_that_cannot_be_written_ends_it(self, pool: RayPool, tmp_path: Path) -> None:
        with pytest.raises(OutputFailed, match="No space left"):
            pool.run(Fragile(tmp_path), named("a", "full", "b"))

    def test_workers_that_die_while_loading_end_it(self, pool: RayPool, tmp_path: Path) -> None:
        with pytest.raises(ClusterUnavailable, match=r"in a row died while they loaded .* --workers"):
            pool.run(Fragile(tmp_path, dies_loading=99), named("a"))
        assert len(list(tmp_path.glob("dies-*"))) <= 2 * LOADS

    @pytest.mark.parametrize("fails", [{"refuses": 1}, {"dies_loading": LOADS}], ids=str)
    def test_a_machine_that_cannot_load_costs_nothing(
        self, pool: RayPool, tmp_path: Path, fails: dict[str, int]
    ) -> None:
        """One with a broken GPU, or without the package: in seconds, while others are at work for minutes."""
        tasks = named(*"abcd")
        assert pool.run(Fragile(tmp_path, **fails), tasks).values == {name: name.upper() for name in tasks}

    def test_what_no_machine_can_load_ends_it(self, pool: RayPool, tmp_path: Path) -> None:
        with pytest.raises(HeadHuntError, match=r"^on a worker: unexpected RuntimeError: CUDA error"):
            pool.run(Fragile(tmp_path, refuses=2), named("a"))
        with pytest.raises(
            HeadHuntError, match=r"^on a worker: ModuleNotFoundError: No module named 'offline.newer'$"
        ):
            pool.run(Unknown(tmp_path), named("a"))

    def test_who_dies_between_two_calls_is_no_fault_of_the_next_task(
        self, pool: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        monkeypatch.setattr("offline.extraction.ray_pool.ATTEMPTS", 1)
        recipe = Fragile(tmp_path)
        assert pool.run(recipe, named("a")).values == {"a": "A"}
        for hand in pool._idle:
            ray.kill(hand.actor)
            with pytest.raises(ray.exceptions.RayActorError):
                # Until it is noticed.
                all(ray.get(hand.actor.alive.remote(), timeout=60) for _ in repeat(None))
        results = pool.run(recipe, named("b"))
        assert (results.values, results.failed) == ({"b": "B"}, {})

    def test_more_workers_than_there_is_room_for_are_refused(self) -> None:
        with pytest.raises(ClusterUnavailable, match="3 workers need a CPU each, the Ray cluster has 2"):
            plan([(2, 0)], 3, gpu=True)

    def test_what_cannot_be_reached_is_not_unreadable(self) -> None:
        assert _told(VideoUnreadable("a.mp4: no frames")).unreadable
        assert not _told(SourceUnreachable("s3://b/a.mp4: cannot be read")).unreadable

    def test_failures_are_told_by_name_and_by_exit_code(self) -> None:
        unreadable, other = Failure("a.mp4: no such video", True), Failure("no", False)
        said: list[str] = []
        with pytest.raises(VideosFailed, match=r"2 of 3 videos failed \(a: a.mp4: no such video; b: no\)") as failed:
            Results({"c": 1}, {"a": unreadable, "b": other}).require_all(False, said.append)
        assert failed.value.exit_code == 4
        with pytest.raises(VideosFailed, match=r"1 of 3 videos failed \(b: no\)") as failed:
            Results({"c": 1}, {"a": unreadable, "b": other}).require_all(True, said.append)
        assert failed.value.exit_code == 1
        Results({"c": 1}, {"a": unreadable}).require_all(True, said.append)
        assert said[-1] == "left out: a.mp4: no such video"


class TestFeatures:
    """What workers compute with a model."""

    def test_they_are_the_same_to_the_bit(
        self, pool: RayPool, checkpoint: Path, mllm: Mllm, manifest: Path, tmp_path: Path
    ) -> None:
        videos = read_dataset(manifest).videos
        units: dict[str, Unit] = {video.name: "segment" if video.timed else "video" for video in videos}
        recipe = ModelRecipe.of(mllm, str(checkpoint), ModelUse(device="cpu"), PROMPT, SEGMENT)
        made: tuple[Extractor, ...] = (
            AllHeads(mllm, PROMPT, SEGMENT),
            ModelTokens(mllm),
            TextualAnswer(mllm, PROMPT, SEGMENT),  # type: ignore[arg-type]
        )
        for extractor in made:
            here = Extraction(extractor, mllm.pixels, SEGMENT, EntryStore(tmp_path / "here"))
            there = Extraction(extractor, mllm.pixels, SEGMENT, EntryStore(tmp_path / "there"))
            wanted = extract(videos, units, here)
            stored = executor_of(pool, recipe).prepare(videos, units, there)
            found = extract(videos, units, there, stored=stored)
            assert entries(tmp_path / "there") == entries(tmp_path / "here")
            assert [one.video for one in found] == [one.video for one in wanted]
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one.features, other.features)
                np.testing.assert_array_equal(one.spans, other.spans)
        assert len(entries(tmp_path / "there")) == len(made) * len(videos)

    def test_a_store_that_is_not_shared_is_noticed(self, mllm: Mllm, manifest: Path, tmp_path: Path) -> None:
        video = read_dataset(manifest).videos[0]
        extraction = Extraction(AllHeads(mllm, PROMPT, SEGMENT), mllm.pixels, SEGMENT, EntryStore(tmp_path))
        with pytest.raises(FeatureError, match=r"put the store where all machines find it"):
            extract([video], {video.name: "segment"}, extraction, stored={video.name: "0" * 64})

    def test_a_store_that_one_machine_does_not_share_is_noticed_with_its_first_video(
        self, mllm: Mllm, checkpoint: Path, manifest: Path, tmp_path: Path
    ) -> None:
        """Also where this machine, which sees what it has stored itself, was faster."""
        here, there = read_dataset(manifest).videos[:2]
        units: dict[str, Unit] = {video.name: "segment" for video in (here, there)}
        extraction = Extraction(AllHeads(mllm, PROMPT, SEGMENT), mllm.pixels, SEGMENT, EntryStore(tmp_path))
        recipe = ModelRecipe.of(mllm, str(checkpoint), ModelUse(device="cpu"), PROMPT, SEGMENT)
        extract([here], units, extraction)

        class Pool:
            def run(self, recipe: object, tasks: object, progress: object, arrived: Any) -> None:
                arrived(here.name, digest(here.path), "this machine")
                with pytest.raises(FeatureError, match="put the store where all machines find it"):
                    arrived(there.name, digest(there.path), "another one")
                raise KeyError

        with pytest.raises(KeyError):
            RayExecutor(Pool(), recipe).prepare((here, there), units, extraction)  # type: ignore[arg-type]

    def test_a_video_that_contradicts_the_manifest_does_so_every_time(
        self, mllm: Mllm, checkpoint: Path, manifest: Path, tmp_path: Path
    ) -> None:
        """Its features are stored, and it is named all the same: not by the command as a whole, which would end."""
        worker = ModelRecipe.of(mllm, str(checkpoint), ModelUse(device="cpu"), PROMPT, SEGMENT).open(1.0)
        wrong = replace(read_dataset(manifest).videos[0], frames=9000)
        for _ in range(2):
            with pytest.raises(DatasetError, match="9000"):
                task_of(wrong, mllm, tmp_path).do(worker)
            assert len(entries(tmp_path)) == 1

    def test_workers_compute_in_the_format_of_the_machine_where_the_command_was_started(
        self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`auto` may be another one on theirs."""
        monkeypatch.setattr("models.precision.multiplies", lambda *_: True)
        there = {}
        for dtype in ("float32", "bfloat16"):
            mllm = load(str(checkpoint), "cpu", dtype)
            recipe = ModelRecipe.of(mllm, str(checkpoint), ModelUse(device="cpu"), PROMPT, SEGMENT)
            there[dtype] = dtype_name(recipe.open(1.0).held.dtype)
        assert there == {dtype: dtype for dtype in there}

    def test_a_worker_looks_once_for_each_video(
        self, mllm: Mllm, checkpoint: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where no digest is remembered, to look twice is to fetch twice; and there may be another one by then."""
        looked: list[Path] = []

        def counted(path: Path) -> str:
            looked.append(path)
            return digest(path)

        monkeypatch.setattr("offline.data.contents.digest", counted)
        worker = ModelRecipe.of(mllm, str(checkpoint), ModelUse(device="cpu"), PROMPT, SEGMENT).open(1.0)
        video = read_dataset(manifest).videos[0]
        for computed in (True, False):
            frames, content = task_of(video, mllm, tmp_path).do(worker)
            assert (frames > 0) is computed
            assert content == digest(video.path)
            assert len(looked) == (1 if computed else 2)

    def test_another_model_under_the_same_name_is_refused(self, mllm: Mllm, manifest: Path, tmp_path: Path) -> None:
        """By the worker, on whose machine it lies; that its refusal ends the command is the pool's to show."""
        other = write_checkpoint(tmp_path / "other", Shape(layers=2), seed=1)
        worker = ModelRecipe.of(mllm, str(other), ModelUse(device="cpu"), PROMPT, SEGMENT).open(1.0)
        store = EntryStore(tmp_path / "store")
        task = task_of(read_dataset(manifest).videos[0], mllm, store.folder)
        with pytest.raises(CheckpointError, match="is not the model of the machine where the command was started"):
            task.do(worker)
        assert not entries(store.folder)


def test_a_bundle_says_the_same(
    pool: RayPool, bundle: Bundle, bundle_dir: Path, dataset_csv: Path, tmp_path: Path
) -> None:
    chosen = read_dataset(dataset_csv).split("test")
    running = Running(provider="cpu")
    wanted = run_videos(bundle, chosen, running, Console(quiet=True))
    recipe = BundleRecipe(bundle_dir, bundle.manifest.bundle_id, running, tmp_path)
    results = pool.run(recipe, {video.name: RunTask(video) for video in chosen})
    assert [results.values[video.name].records for video in chosen] == [run.records for run in wanted]
    assert [results.values[video.name].fps for video in chosen] == [run.fps for run in wanted]
    # Workers kept it: whoever asks again, here or there, runs nothing.
    worker = BundleWorker(bundle, running, EntryStore(tmp_path))
    assert [worker.run(video)[0] for video in chosen] == [0] * len(chosen)


def test_an_evaluation_is_the_same_and_its_yardsticks_are_the_workers_work(
    pool: RayPool, bundle_dir: Path, dataset_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(name: str) -> EvaluateOptions:
        return EvaluateOptions(manifest=dataset_csv, bundle=bundle_dir, provider="cpu", cache=tmp_path / name)

    def here(*_: object, **__: object) -> None:
        raise AssertionError("measured where the command was started")

    wanted = evaluate(options("local"), Console(quiet=True))
    assert wanted.beside is not None
    assert wanted.beside.baselines.keys() >= {*MEASURES, *TOKENS_ALONE}
    monkeypatch.setattr("offline.recipes.evaluate.open_pool", lambda *_: nullcontext(pool))
    monkeypatch.setattr("offline.evaluation.trivial.measure", here)
    monkeypatch.setattr(GraphTokens, "extract", here)
    assert evaluate(options("ray"), Console(quiet=True)) == wanted
    assert entries(tmp_path / "ray") == entries(tmp_path / "local")


class TestCommand:
    """`hh-offline extract --executor ray`."""

    def run(self, *arguments: object) -> int:
        return run_command(cli, [str(argument) for argument in arguments])

    def command(self, *arguments: object) -> tuple[int, str]:
        """In a process of its own: this one has joined the cluster already."""
        command = [sys.executable, "-m", "offline.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        return done.returncode, done.stderr

    def test_a_video_that_fails_is_named_and_the_rest_goes_on(
        self, idle_cluster: Cluster, checkpoint: Path, tmp_path: Path
    ) -> None:
        videos = tmp_path / "videos"
        videos.mkdir()
        manifest = write_dataset_folder(videos, {"calibration": 4, "validation": 2})
        broken = videos / "validation1.mp4"
        whole = broken.read_bytes()
        broken.write_bytes(b"no video " * 1000)
        given = ["--model", checkpoint, "--manifest", manifest, "--sampled", 4, "--device", "cpu", "--quiet"]
        given = ["extract", "--validation", *given, "--output"]
        ray = ["--executor", "ray", "--ray-address", idle_cluster.address, "--workers", 2]
        code, said = self.command(*given, tmp_path / "store", *ray)
        assert code == 4
        assert said.count("\n") == 1
        assert "1 of 6 videos failed (validation1.mp4: " in said
        assert len(entries(tmp_path / "store")) == 5
        assert not (tmp_path / "store" / "index.json").exists()
        broken.write_bytes(whole)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.npz")}
        # Whoever goes on: what workers have done is not done again.
        assert self.run(*given, tmp_path / "store") == 0
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert self.run(*given, tmp_path / "local") == 0
        assert entries(tmp_path / "store") == entries(tmp_path / "local")
        index = [json.loads((tmp_path / name / "index.json").read_text()) for name in ("store", "local")]
        assert index[0] == index[1]

    def test_no_ray(
        self, monkeypatch: pytest.MonkeyPatch, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest)
        )
        arguments = ["extract", "--model", "reference", "--manifest", manifest, "--output", tmp_path / "f"]
        assert self.run(*arguments, "--executor", "ray") == 2
        assert capsys.readouterr().err == 'error: Ray is not installed; run: pip install "headhunt-vad[ray]"\n'

    @pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense", "ray://127.0.0.1:{port}"])
    def test_a_wrong_address_is_one_line_at_once(
        self, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
    ) -> None:
        given = ["extract", "--model", "reference", "--manifest", manifest, "--output", tmp_path / "f"]
        begun = time.monotonic()
        with closed_port() as port:
            address = address.format(port=port)
            assert self.run(*given, "--executor", "ray", "--ray-address", address) == 1
        # Ray itself would wait for minutes.
        assert time.monotonic() - begun < 60
        said = capsys.readouterr().err
        assert said.startswith(f"error: --ray-address {address}: ")
        assert said.count("\n") == 1

    def test_who_answers_nothing_is_told_what_it_may_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also a cluster that this machine is not of: Ray looks for its own node for as long as it may."""
        monkeypatch.setattr("offline.extraction.ray_pool._HEALTH_S", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(ClusterUnavailable, match=rf"no Ray .*`ray start --address {address}` joins it"):
                _require_cluster(address)

    def test_options_of_ray_need_ray(self) -> None:
        with pytest.raises(UsageError, match=r"--workers 2 is for Ray; say --executor ray as well"):
            Execution(workers=2)
        with pytest.raises(UsageError, match="--ray-address"):
            Execution(ray_address="auto")


def test_the_command_line_is_light() -> None:
    probe = "import sys, offline.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert not {"torch", "ray", "fsspec", "s3fs"} & set(done.stdout.split())
