"""How many cameras a server carries: a simulator of discrete events, and the real thing beside it.

    python -m benchmarks.fleet service --bundle bundle --output service.json
    python -m benchmarks.fleet simulate --service service.json --cameras 40 --cameras 80
    python -m benchmarks.fleet check --bundle bundle --cameras 20 --cameras 60 --seconds 60

Cameras finish a segment every 3.2 s, each at a moment of its own. Boxes hold what is not scored yet by the rule of
`edge_runtime.watch.backlog` (of one camera only so many segments wait, the oldest makes room and is a gap), and have
one request under way, as a run has. A server gathers the requests of several boxes into batches. How long a batch
takes is drawn from what was measured, so that the simulator knows of no other slowness than the real thing's.
`check` runs both on the same plan: real segments by a real clock through the real backlog and the real graphs.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import simpy

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.watch.backlog import Backlog, Item
from edge_runtime.watch.scoring import Waiting, score_together
from models.reference.architecture import REFERENCE

#: Batches that are measured.
SIZES = (1, 2, 4, 8)

_Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Service:
    """How long a server takes for a batch.

    Attributes:
        by_batch: Measured seconds by the number of segments, each sorted.
    """

    by_batch: Mapping[int, tuple[float, ...]]

    def __post_init__(self) -> None:
        if 1 not in self.by_batch or not all(self.by_batch.values()):
            raise ValueError("a service needs measured seconds of single segments, and of every batch that it names")

    def seconds(self, batch: int, share: float) -> float:
        """Draw the time of a batch.

        Between two sizes that were measured it is interpolated at the same share of their distributions, beyond the
        largest it grows in proportion.

        Args:
            batch: How many segments.
            share: Uniform in [0, 1).
        """
        sizes = sorted(self.by_batch)
        at = [float(np.quantile(self.by_batch[size], share)) for size in sizes]
        if batch > sizes[-1]:
            return at[-1] * batch / sizes[-1]
        return float(np.interp(batch, sizes, at))

    def faster(self, factor: float) -> Service:
        """The same on hardware that takes 1 / factor of the time."""
        return Service({size: tuple(value / factor for value in taken) for size, taken in self.by_batch.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who sends how much to whom.

    Attributes:
        cameras: In all.
        boxes: Where they are cut into segments; as even as it goes.
        servers: What scores; each box is bound to one, as even as it goes. One per box without a network.
        period_s: From one segment of a camera to its next.
        waiting: How many segments of one camera may wait.
        box_batch: How many segments a box sends in one request, at most.
        server_batch: How many a server takes together, at most.
        delay_s: How long a server waits for more, where it has fewer.
        request_bytes: Of one segment.
        link_bytes_per_s: Of a server's network.
        round_trip_s: Of a request, beside its bytes.
        deadline_s: After which a box gives a request up; its segments are gaps then.
    """

    cameras: int
    boxes: int = 1
    servers: int = 1
    period_s: float = 3.2
    waiting: int = 2
    box_batch: int = 1
    server_batch: int = 1
    delay_s: float = 0.0
    request_bytes: int = 0
    link_bytes_per_s: float = 1.25e8
    round_trip_s: float = 0.0
    deadline_s: float = 10.0


@dataclass(slots=True)
class Outcome:
    """What became of the segments.

    Attributes:
        latencies_s: From a segment's end to its score.
        dropped: Made room for newer ones.
        unscored: Their request was given up.
        busy_s: How long the servers worked, all together.
    """

    latencies_s: list[float] = field(default_factory=list)
    dropped: int = 0
    unscored: int = 0
    busy_s: float = 0.0

    @property
    def lost(self) -> float:
        """The share of the segments that are gaps, in 0..1."""
        gaps = self.dropped + self.unscored
        return gaps / max(1, gaps + len(self.latencies_s))

    def latency_s(self, share: float) -> float:
        """A quantile of the latencies; NaN where nothing was scored."""
        return float(np.quantile(self.latencies_s, share)) if self.latencies_s else float("nan")


@dataclass(slots=True, eq=False)
class _Request:
    segments: int
    answered: simpy.Event


class _Server:
    """Takes requests in their order, several together."""

    def __init__(self, env: simpy.Environment, plan: Plan, service: Service, rng: np.random.Generator, out: Outcome):
        self._env, self._plan, self._service, self._rng, self._out = env, plan, service, rng, out
        self._requests: deque[_Request] = deque()
        self._came = env.event()
        self.link = simpy.Resource(env)
        env.process(self._run())

    def put(self, request: _Request) -> None:
        self._requests.append(request)
        if not self._came.triggered:
            self._came.succeed()

    def _run(self) -> _Process:
        plan = self._plan
        while True:
            if not self._requests:
                self._came = self._env.event()
                yield self._came
            if plan.delay_s > 0 and self._waiting() < plan.server_batch:
                yield self._env.timeout(plan.delay_s)
            batch = [self._requests.popleft()]
            while self._requests and sum(one.segments for one in batch) + self._requests[0].segments <= max(
                plan.server_batch, batch[0].segments
            ):
                batch.append(self._requests.popleft())
            seconds = self._service.seconds(sum(one.segments for one in batch), self._rng.random())
            self._out.busy_s += seconds
            yield self._env.timeout(seconds)
            for one in batch:
                if not one.answered.triggered:
                    one.answered.succeed()

    def _waiting(self) -> int:
        return sum(one.segments for one in self._requests)


class _Box:
    """Holds what its cameras finished, and has one request under way."""

    def __init__(self, env: simpy.Environment, plan: Plan, server: _Server, out: Outcome, since_s: float) -> None:
        self._env, self._plan, self._server, self._out, self._since_s = env, plan, server, out, since_s
        self._waiting: dict[int, deque[float]] = {}
        self._came = env.event()
        env.process(self._run())

    def camera(self, number: int, phase_s: float) -> _Process:
        """A camera's segments."""
        yield self._env.timeout(phase_s)
        while True:
            queue = self._waiting.setdefault(number, deque())
            queue.append(self._env.now)
            if len(queue) > self._plan.waiting:
                queue.popleft()
                self._out.dropped += self._env.now >= self._since_s
            if not self._came.triggered:
                self._came.succeed()
            yield self._env.timeout(self._plan.period_s)

    def _take(self) -> list[float]:
        """Up to a batch, camera by camera in turn."""
        taken: list[float] = []
        while len(taken) < self._plan.box_batch:
            number = next((one for one, queue in self._waiting.items() if queue), None)
            if number is None:
                break
            queue = self._waiting.pop(number)
            taken.append(queue.popleft())
            self._waiting[number] = queue
        return taken

    def _run(self) -> _Process:
        plan = self._plan
        while True:
            if not any(self._waiting.values()):
                self._came = self._env.event()
                yield self._came
            ends = self._take()
            request = _Request(len(ends), self._env.event())
            deadline = self._env.timeout(plan.deadline_s)
            self._env.process(self._send(request))
            yield request.answered | deadline
            kept = [end for end in ends if end >= self._since_s]
            if request.answered.triggered:
                self._out.latencies_s += [self._env.now - end for end in kept]
            else:
                self._out.unscored += len(kept)

    def _send(self, request: _Request) -> _Process:
        plan = self._plan
        if plan.request_bytes:
            with self._server.link.request() as turn:
                yield turn
                yield self._env.timeout(request.segments * plan.request_bytes / plan.link_bytes_per_s)
        yield self._env.timeout(plan.round_trip_s)
        self._server.put(request)


def simulate(plan: Plan, service: Service, seconds: float, seed: int = 0, warm_s: float | None = None) -> Outcome:
    """Let a plan run.

    Args:
        plan: What there is.
        service: How long scoring takes.
        seconds: How long it runs.
        seed: Of the cameras' moments and of the times drawn.
        warm_s: How long it runs before without being counted; by default as long again, up to a minute.
    """
    env, rng, out = simpy.Environment(), np.random.default_rng(seed), Outcome()
    since_s = min(60.0, seconds) if warm_s is None else warm_s
    servers = [_Server(env, plan, service, rng, out) for _ in range(plan.servers)]
    boxes = [_Box(env, plan, servers[number % plan.servers], out, since_s) for number in range(plan.boxes)]
    for number in range(plan.cameras):
        env.process(boxes[number % plan.boxes].camera(number, plan.period_s * rng.random()))
    env.run(until=since_s)
    out.busy_s = 0.0
    env.run(until=since_s + seconds)
    return out


# ---- the real thing


def measure_service(detector: Detector, rounds: int) -> Service:
    """Time batches of each size, in turn, as a run scores them."""
    frames = detector.bundle.golden().frames
    waiting = [
        Waiting(f"camera{place}", Segment(place, 0, 48, 0.0, 3.2, frames[place % len(frames)]), detector)
        for place in range(max(SIZES))
    ]
    taken: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds + 1):
        for size, times in taken.items():
            begun_s = time.perf_counter()
            score_together(waiting[:size])
            times.append(time.perf_counter() - begun_s)
    # The first of each is a cold one.
    return Service({size: tuple(sorted(times[1:])) for size, times in taken.items()})


def run_real(plan: Plan, detector: Detector, seconds: float, seed: int = 0) -> Outcome:
    """The plan of one box by a real clock: real segments, the real backlog, the real graphs.

    Args:
        plan: Of one box and one server, which is the detector's engine.
        detector: Scores.
        seconds: How long it runs, after a tenth as long that is not counted.
        seed: Of the cameras' moments.
    """
    rng, out, frames = np.random.default_rng(seed), Outcome(), detector.bundle.golden().frames
    warm_s = seconds / 10
    backlog = Backlog(plan.waiting)
    names = [f"camera{number}" for number in range(plan.cameras)]
    for name in names:
        backlog.add(name)
    phases = plan.period_s * rng.random(plan.cameras)
    over, begun_s = threading.Event(), time.perf_counter()

    def feed() -> None:
        order = np.argsort(phases)
        turn = 0
        while not over.is_set():
            for number in order:
                due_s = turn * plan.period_s + float(phases[number])
                over.wait(max(0.0, due_s - (time.perf_counter() - begun_s)))
                backlog.put(
                    names[number], Segment(turn, 0, 48, due_s - plan.period_s, due_s, frames[turn % len(frames)])
                )
            turn += 1

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    while (now_s := time.perf_counter() - begun_s) < warm_s + seconds:
        taken: list[tuple[str, Item]] = []
        while len(taken) < plan.box_batch and (one := backlog.take(0.1 if not taken else 0.0)) is not None:
            taken.append(one)
        segments = [Waiting(name, item, detector) for name, item in taken if isinstance(item, Segment)]
        scored_from_s = time.perf_counter()
        scores = score_together(segments)
        now_s = time.perf_counter() - begun_s
        if now_s >= warm_s:
            out.busy_s += time.perf_counter() - scored_from_s
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
    return out


# ---- the command


CAMERAS = click.option(
    "--cameras", type=click.IntRange(min=1), multiple=True, default=(10, 40, 80), show_default=True
)
SERVICE = click.option("--service", type=PATH, required=True, help="The JSON that `service` wrote.")
SECONDS = click.option("--seconds", default=60.0, show_default=True)
SEED = click.option("--seed", default=0, show_default=True)
PROVIDER = click.option("--provider", default="cpu", show_default=True, help="As of hh-edge run.")
BATCH = click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Of a box.")


@click.group()
def main() -> None:
    """Cameras against servers, simulated and real."""


def _opened(path: Path | None, provider: str, work: Path) -> Detector:
    return Detector(Bundle.open(path or built(REFERENCE, REFERENCE, work)), provider, threads=1)


@main.command()
@BUNDLE
@PROVIDER
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--output", type=PATH, required=True)
@WORK
def service(path: Path | None, provider: str, rounds: int, output: Path, work: Path) -> None:
    """Measure how long batches take, and keep it."""
    with _opened(path, provider, work) as detector:
        found = measure_service(detector, rounds)
    output.write_text(json.dumps(msgspec.to_builtins({"by_batch": found.by_batch}, str_keys=True)) + "\n")
    for size, taken in found.by_batch.items():
        middle, most = np.quantile(taken, (0.5, 0.95))
        click.echo(f"{size} segments: {1000 * middle:.1f} ms, 95 % below {1000 * most:.1f} ms")


def read_service(path: Path) -> Service:
    """Read what `service` wrote."""
    content = json.loads(path.read_text())
    return Service({int(size): tuple(sorted(taken)) for size, taken in content["by_batch"].items()})


@main.command("simulate")
@SERVICE
@CAMERAS
@SECONDS
@SEED
@BATCH
@click.option("--boxes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--servers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--server-batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--delay-ms", default=0.0, show_default=True, help="How long a server waits for a batch.")
@click.option("--request-bytes", default=0, show_default=True, help="Of one segment over the network.")
@click.option("--link-gbit", default=1.0, show_default=True, help="Of a server.")
@click.option("--round-trip-ms", default=0.0, show_default=True)
@click.option("--faster", default=1.0, show_default=True, help="How many times as fast as what was measured.")
def simulate_command(service: Path, cameras: Sequence[int], seconds: float, seed: int, **given: Any) -> None:
    """Latency and gaps against cameras.

    \b
    Example:
      python -m benchmarks.fleet simulate --service service.json --cameras 100 --boxes 10 --server-batch 8
    """
    known = read_service(service).faster(given["faster"])
    plan = Plan(
        cameras=1,
        boxes=given["boxes"],
        servers=given["servers"],
        box_batch=given["batch"],
        server_batch=max(given["server_batch"], given["batch"]),
        delay_s=given["delay_ms"] / 1000,
        request_bytes=given["request_bytes"],
        link_bytes_per_s=given["link_gbit"] * 1.25e8,
        round_trip_s=given["round_trip_ms"] / 1000,
    )
    click.echo(_HEADER)
    for count in cameras:
        out = simulate(replace(plan, cameras=count), known, seconds, seed)
        click.echo(_row(count, "simulated", out, seconds, plan.servers))


@main.command()
@BUNDLE
@PROVIDER
@CAMERAS
@SECONDS
@SEED
@BATCH
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@WORK
def check(path: Path | None, provider: str, cameras: Sequence[int], rounds: int, work: Path, **given: Any) -> None:
    """The simulator beside the real thing, on one box.

    \b
    Example:
      python -m benchmarks.fleet check --bundle bundle --cameras 20 --cameras 60 --seconds 60
    """
    seconds, seed = given["seconds"], given["seed"]
    click.echo(_HEADER)
    with _opened(path, provider, work) as detector:
        for count in cameras:
            plan = Plan(cameras=count, box_batch=given["batch"], server_batch=given["batch"])
            # Anew each time: other work on the machine comes and goes.
            known = measure_service(detector, rounds)
            for name, run in _both(plan, known, detector).items():
                click.echo(_row(count, name, run(seconds, seed), seconds, 1))


def _both(plan: Plan, known: Service, detector: Detector) -> dict[str, Callable[[float, int], Outcome]]:
    return {
        "real": lambda seconds, seed: run_real(plan, detector, seconds, seed),
        # As cold as the real one: queues that overflow take minutes to fill.
        "simulated": lambda seconds, seed: simulate(plan, known, seconds, seed, warm_s=seconds / 10),
    }


_HEADER = "cameras             latency: median    95 %    99 %   segments lost   busy"


def _row(cameras: int, name: str, out: Outcome, seconds: float, servers: int) -> str:
    middle, most, last = (out.latency_s(share) for share in (0.5, 0.95, 0.99))
    return (
        f"{cameras:7}  {name:10}  {1000 * middle:11.0f} ms  {1000 * most:5.0f}   {1000 * last:5.0f}"
        f"   {100 * out.lost:11.1f} %  {100 * out.busy_s / seconds / servers:4.0f} %"
    )


if __name__ == "__main__":
    main()
