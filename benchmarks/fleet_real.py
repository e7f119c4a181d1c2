"""The plans of the simulator by a real clock: real segments, the real backlog, the real graphs, here or on a server.

Boxes with a Triton server are processes; a box without one is this process.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.fleet_simulator import Outcome, Plan, Service, StageTotals, Times
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.inference.triton_address import parse_address
from edge_runtime.inference.triton_engine import TritonEngine
from edge_runtime.inference.triton_names import base_name, language_model, vision_model
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.watch.backlog import Backlog, Item
from edge_runtime.watch.scoring import Waiting, score_together

#: Batches that are measured.
SIZES = (1, 2, 4, 8)
#: Of a run, before what is counted.
WARM = 0.1
# Enough to keep two stages at work.
_ASKING = 4
# How often is looked whether a server has counted what it answered.
_COUNTS_AFTER = 300
# Boxes open their connections meanwhile.
_OPENED_S = 60.0


def sizes_up_to(most: int) -> tuple[int, ...]:
    """The batches to measure where none is larger: those between are interpolated."""
    return (*(size for size in SIZES if size < most), min(most, SIZES[-1]))


def measure_service(detector: Detector, rounds: int, sizes: Sequence[int] = SIZES) -> Service:
    """Time batches in this process, as a run scores them.

    Args:
        detector: Scores.
        rounds: How often each size; sizes in turn.
        sizes: Those that a run will have. Another before a batch makes it slower: caches hold what that one read.
    """
    frames = detector.bundle.golden().frames
    waiting = [
        Waiting(f"camera{place}", Segment(place, 0, 48, 0.0, 3.2, frames[place % len(frames)]), detector)
        for place in range(max(sizes))
    ]
    return Service(
        (Times(_in_turn(rounds, sizes, lambda size: [_timed(lambda: score_together(waiting[:size]))])[0]),)
    )


def _timed(run: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    run()
    return time.perf_counter() - begun_s


def _in_turn(
    rounds: int, sizes: Sequence[int], measure: Callable[[int], Sequence[float]]
) -> list[dict[int, tuple[float, ...]]]:
    """Measure each size so often, sizes in turn: of each value that comes, the sorted seconds by size."""
    taken: dict[int, list[Sequence[float]]] = {size: [] for size in sizes}
    for _ in range(rounds + 1):
        for size, rows in taken.items():
            rows.append(measure(size))
    # The first of each is a cold one.
    columns = {size: list(zip(*rows[1:], strict=True)) for size, rows in taken.items()}
    return [{size: tuple(sorted(of[place])) for size, of in columns.items()} for place in range(len(columns[1]))]


def _totals(batches: Any) -> StageTotals:
    """Of Triton's statistics of all batches of one size."""
    runs = int(batches.compute_infer.count)
    ns = batches.compute_input.ns + batches.compute_infer.ns + batches.compute_output.ns
    return StageTotals(runs, runs * int(batches.batch_size), ns / 1e9)


class ServerFigures:
    """What a Triton server says of itself: how it batches, and how long its vision and language models worked.

    Args:
        manifest: Of the bundle, which the server has under its id.
        address: `triton://host:port`, without TLS.

    Attributes:
        batch: How many segments it takes together, at most.
        delay_s: How long one waits for others.
        instances: Of each model.
    """

    def __init__(self, manifest: Manifest, address: str) -> None:
        import tritonclient.grpc

        self._client = tritonclient.grpc.InferenceServerClient(parse_address(address).replicas[0])
        base = base_name(manifest.bundle_id)
        self._models = (vision_model(base), language_model(base))
        config = self._client.get_model_config(self._models[-1]).config
        self.batch = int(config.max_batch_size)
        self.delay_s = config.dynamic_batching.max_queue_delay_microseconds / 1e6
        self._sent_at_once = {self.batch, *config.dynamic_batching.preferred_batch_size}
        self.instances = sum(group.count for group in config.instance_group)

    def totals(self) -> list[StageTotals]:
        """Of vision and language, until now."""
        return [reduce(StageTotals.plus, by_size.values(), StageTotals()) for by_size in self._by_size()]

    def _by_size(self) -> list[dict[int, StageTotals]]:
        """The same by the size of the batches."""
        found = []
        for model in self._models:
            batches = self._client.get_inference_statistics(model).model_stats[0].batch_stats
            found.append({int(one.batch_size): _totals(one) for one in batches})
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def plan(self, cameras: int, boxes: int, box_batch: int = 1) -> Plan:
        """So many boxes with this server."""
        return Plan(
            cameras=cameras,
            boxes=boxes,
            # A request has no more than a server takes.
            box_batch=min(box_batch, self.batch),
            server_batch=self.batch,
            instances=self.instances,
            delay_s=self.delay_s,
        )

    def measure(self, detector: Detector, rounds: int, sizes: Sequence[int] = SIZES) -> Service:
        """Time requests of each size, one at a time: each stage by the server's own clock, and what is beside them.

        Then several at once, for what stages cost each other.

        Args:
            detector: Its engine is on this server.
            rounds: How often each size.
            sizes: Those that a stage will have.
        """
        engine, frames = detector.engine, detector.bundle.golden().frames
        assert engine is not None

        def once(size: int) -> list[float]:
            given = frames[np.arange(size) % len(frames)]
            before = self.totals()
            took_s = _timed(lambda: engine.features(given))
            stages = [one.worked_s for one in self._counted(before, size)]
            # One that is alone waits its whole time before each of them; one that fills a batch does not.
            waited_s = 0.0 if size in self._sent_at_once else len(stages) * self.delay_s
            return [*stages, max(0.0, took_s - sum(stages) - waited_s)]

        *stages, beside = (Times(by_batch) for by_batch in _in_turn(rounds, sizes, once))
        return Service(tuple(stages), beside, self._crowded(lambda: engine.features(frames[:1]), stages, rounds))

    def _counted(self, before: Sequence[StageTotals], segments: int) -> list[StageTotals]:
        """What came after, once so many segments are counted: the server counts behind its answer."""
        for _ in range(_COUNTS_AFTER):
            new = [after.since(first) for after, first in zip(self.totals(), before, strict=True)]
            if all(one.segments >= segments for one in new):
                return new
            time.sleep(0.01)
        raise click.ClickException("the server does not count what it answers")

    def _crowded(self, ask: Callable[[], object], alone: Sequence[Times], rounds: int) -> float:
        """How many times as long stages take while all of them work, as where so many ask at once."""
        before = self._by_size()
        with ThreadPoolExecutor(_ASKING) as pool:
            for done in [pool.submit(ask) for _ in range(_ASKING * rounds)]:
                done.result()
        took_s = expected_s = 0.0
        for times, first, after in zip(alone, before, self._by_size(), strict=True):
            for size, totals in after.items():
                new = totals.since(first.get(size, StageTotals()))
                took_s += new.worked_s
                expected_s += new.runs * times.mean(size)
        return max(1.0, took_s / expected_s)


# ---- a box


def run_box(
    plan: Plan, phases_s: Sequence[float], detector: Detector, seconds: float, begin: Callable[[], object]
) -> Outcome:
    """One box by a real clock: its cameras' segments through the real backlog to the detector's engine.

    Args:
        plan: Of it all.
        phases_s: When each camera of this box finishes its first segment.
        detector: Scores.
        seconds: How long it runs, after a share of WARM that is not counted.
        begin: Called before the clock starts; returns when all boxes may.

    Returns:
        What became of the segments; its one stage is all calls for scores.
    """
    out, frames, warm_s = Outcome(), detector.bundle.golden().frames, WARM * seconds
    backlog = Backlog(plan.waiting)
    names = [f"camera{number}" for number in range(len(phases_s))]
    for name in names:
        backlog.add(name)
    begin()
    over, begun_s = threading.Event(), time.perf_counter()

    def feed() -> None:
        order = np.argsort(phases_s)
        turn = 0
        while not over.is_set():
            for number in order:
                due_s = turn * plan.period_s + phases_s[number]
                over.wait(max(0.0, due_s - (time.perf_counter() - begun_s)))
                pixels = frames[turn % len(frames)]
                backlog.put(names[number], Segment(turn, 0, 48, due_s - plan.period_s, due_s, pixels))
            turn += 1

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    calls, scored, busy_s = 0, 0, 0.0
    while time.perf_counter() - begun_s < warm_s + seconds:
        taken: list[tuple[str, Item]] = []
        while len(taken) < plan.box_batch and (one := backlog.take(0.1 if not taken else 0.0)) is not None:
            taken.append(one)
        segments = [Waiting(name, item, detector) for name, item in taken if isinstance(item, Segment)]
        scored_from_s = time.perf_counter()
        scores = score_together(segments)
        now_s = time.perf_counter() - begun_s
        if segments and now_s >= warm_s:
            calls += 1
            scored += len(segments)
            busy_s += time.perf_counter() - scored_from_s
        for waiting, score in zip(segments, scores, strict=True):
            if waiting.segment.end_s < warm_s:
                continue
            if score is None:
                out.unscored += 1
            else:
                out.latencies_s.append(now_s - waiting.segment.end_s)
        out.dropped += sum(item.segments for _, item in taken if isinstance(item, Gap) and item.end_s >= warm_s)
    over.set()
    feeder.join(plan.period_s)
    out.stages = [StageTotals(calls, scored, busy_s)]
    return out


def run_here(plan: Plan, detector: Detector, seconds: float, seed: int = 0) -> Outcome:
    """The plan of one box that scores by itself, in this process."""
    return run_box(plan, plan.phases_s(np.random.default_rng(seed)), detector, seconds, lambda: None)


# ---- several, and a server


def _box(
    bundle: Path, address: str, begin: Any, results: Any, plan: Plan, phases_s: list[float], seconds: float
) -> None:
    opened = Bundle.open(bundle)
    engine = TritonEngine(opened.manifest, replace(parse_address(address), deadline_s=plan.deadline_s))
    with closing(engine), Detector(opened, engine=engine) as detector:
        engine.features(opened.golden().frames[:1])
        out = run_box(plan, phases_s, detector, seconds, lambda: begin.wait(_OPENED_S))
    results.put((out.latencies_s, out.dropped, out.unscored))


def run_boxes(
    plan: Plan, bundle: Path, address: str, figures: ServerFigures, seconds: float, seed: int = 0
) -> Outcome:
    """A plan of several boxes, a process each, and one server.

    Args:
        plan: What there is.
        bundle: Its folder.
        address: `triton://host:port`.
        figures: Of that server.
        seconds: How long it runs, after a share of WARM that is not counted.
        seed: Of the cameras' moments.

    Returns:
        What became of the segments; its stages are what the server counted of vision and language meanwhile.
    """
    phases_s = plan.phases_s(np.random.default_rng(seed))
    spawning = multiprocessing.get_context("spawn")
    begin, results = spawning.Barrier(plan.boxes + 1), spawning.Queue()
    processes = [
        spawning.Process(
            target=_box, args=(bundle, address, begin, results, plan, phases_s[number :: plan.boxes], seconds)
        )
        for number in range(plan.boxes)
    ]
    for process in processes:
        process.start()
    try:
        begin.wait(_OPENED_S)
        time.sleep(WARM * seconds)
        before = figures.totals()
        time.sleep(seconds)
        out = Outcome(stages=[after.since(first) for after, first in zip(figures.totals(), before, strict=True)])
        for _ in processes:
            latencies_s, dropped, unscored = results.get(timeout=plan.deadline_s + _OPENED_S)
            out.latencies_s += latencies_s
            out.dropped += dropped
            out.unscored += unscored
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return out
