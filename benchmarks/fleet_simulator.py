"""Cameras, boxes and servers as discrete events, with times drawn from what was measured.

Cameras finish a segment every 3.2 s, each at a moment of its own. Boxes hold what is not scored yet by the rule of
`edge_runtime.watch.backlog` (of one camera only so many segments wait, the oldest makes room and is a gap), and have
one request under way, as a run has. A server has one stage or several behind each other, as Triton runs vision and
language; a stage gathers what waits, of whatever box, into batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import simpy

_Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Times:
    """How long batches take.

    Attributes:
        by_batch: Measured seconds by the number of segments, each sorted.
    """

    by_batch: Mapping[int, tuple[float, ...]]

    def __post_init__(self) -> None:
        if 1 not in self.by_batch or not all(self.by_batch.values()):
            raise ValueError("measured seconds of single segments are needed, and of every batch that is named")

    def seconds(self, batch: int, share: float) -> float:
        """Draw the time of a batch.

        Between two sizes that were measured it is interpolated at the same share of their distributions, beyond the
        largest it grows in proportion.

        Args:
            batch: How many segments.
            share: Uniform in [0, 1).
        """
        sizes = sorted(self.by_batch)
        if batch >= sizes[-1]:
            return _at(self.by_batch[sizes[-1]], share) * batch / sizes[-1]
        upper = bisect_right(sizes, batch)
        below, above = sizes[max(upper - 1, 0)], sizes[upper]
        low, high = _at(self.by_batch[below], share), _at(self.by_batch[above], share)
        return low + (high - low) * (batch - below) / max(1, above - below)

    def mean(self, batch: int) -> float:
        """Of a batch, interpolated in the same way."""
        return sum(self.seconds(batch, (place + 0.5) / 100) for place in range(100)) / 100

    def faster(self, factor: float) -> Times:
        """The same on hardware that takes 1 / factor of the time."""
        return Times({size: tuple(value / factor for value in taken) for size, taken in self.by_batch.items()})


def _at(taken: tuple[float, ...], share: float) -> float:
    """The quantile of sorted values, interpolated as NumPy does; a simulation asks for millions."""
    place = share * (len(taken) - 1)
    below = int(place)
    above = min(below + 1, len(taken) - 1)
    return taken[below] + (taken[above] - taken[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class Service:
    """What scoring takes.

    Attributes:
        stages: Of a server, in the order that a segment takes them; a box that scores by itself has one.
        beside: Of a request, beside its stages and what it waits for them: packing, the connection, unpacking.
        crowded: How many times as long a stage takes while another one works: they share processors, or a card.
    """

    stages: tuple[Times, ...]
    beside: Times | None = None
    crowded: float = 1.0

    def faster(self, factor: float) -> Service:
        """The same on servers that take 1 / factor of the time; what is beside them stays."""
        return replace(self, stages=tuple(stage.faster(factor) for stage in self.stages))


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
        instances: How many batches of a stage a server runs at once.
        delay_s: How long a segment waits for others where fewer are there. (Triton also sends preferred sizes below
            the most at once; that is left out.)
        request_bytes: Of one segment.
        link_bytes_per_s: Of a server's network.
        round_trip_s: Of a request, beside its bytes and what was measured.
        deadline_s: After which a box gives a request up; its segments are gaps then.
    """

    cameras: int
    boxes: int = 1
    servers: int = 1
    period_s: float = 3.2
    waiting: int = 2
    box_batch: int = 1
    server_batch: int = 1
    instances: int = 1
    delay_s: float = 0.0
    request_bytes: int = 0
    link_bytes_per_s: float = 1.25e8
    round_trip_s: float = 0.0
    deadline_s: float = 10.0

    def phases_s(self, rng: np.random.Generator) -> list[float]:
        """When each camera finishes its first segment."""
        return [self.period_s * float(share) for share in rng.random(self.cameras)]


@dataclass(frozen=True, slots=True)
class StageTotals:
    """What a stage did, all servers together.

    Attributes:
        runs: Batches.
        segments: In them.
        worked_s: How long the batches took, with their tensors' way in and out.
    """

    runs: int = 0
    segments: int = 0
    worked_s: float = 0.0

    def since(self, before: StageTotals) -> StageTotals:
        """What came after."""
        return StageTotals(self.runs - before.runs, self.segments - before.segments, self.worked_s - before.worked_s)

    def plus(self, other: StageTotals) -> StageTotals:
        """Both together."""
        return StageTotals(self.runs + other.runs, self.segments + other.segments, self.worked_s + other.worked_s)


@dataclass(slots=True)
class Outcome:
    """What became of the segments.

    Attributes:
        latencies_s: From a segment's end to its score.
        dropped: Made room for newer ones.
        unscored: Their request was given up.
        stages: What each stage did.
    """

    latencies_s: list[float] = field(default_factory=list)
    dropped: int = 0
    unscored: int = 0
    stages: list[StageTotals] = field(default_factory=list)

    @property
    def busy_s(self) -> float:
        """How long the busiest stage worked."""
        return max((stage.worked_s for stage in self.stages), default=0.0)

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
    done: simpy.Event
    since_s: float = 0.0


class _Stage:
    """Takes requests in their order, several together; slower where `others` are at work as it begins."""

    def __init__(
        self, env: simpy.Environment, plan: Plan, times: Times, crowded: float, rng: np.random.Generator
    ) -> None:
        self._env, self._plan, self._times, self._crowded, self._rng = env, plan, times, crowded, rng
        self.others: list[_Stage] = []
        self.working = 0
        self._requests: deque[_Request] = deque()
        self._came = env.event()
        self.totals = StageTotals()
        for _ in range(plan.instances):
            env.process(self._run())

    def put(self, segments: int) -> simpy.Event:
        """Returns what happens once they are done."""
        request = _Request(segments, self._env.event(), self._env.now)
        self._requests.append(request)
        if not self._came.triggered:
            self._came.succeed()
        return request.done

    def _arrival(self) -> simpy.Event:
        if self._came.triggered:
            self._came = self._env.event()
        return self._came

    def _run(self) -> _Process:
        env, most = self._env, self._plan.server_batch
        while True:
            while not self._requests:
                yield self._arrival()
            while 0 < sum(one.segments for one in self._requests) < most:
                left_s = self._requests[0].since_s + self._plan.delay_s - env.now
                if left_s <= 0:
                    break
                yield self._arrival() | env.timeout(left_s)
            if not self._requests:
                # Another instance took them.
                continue
            batch = [self._requests.popleft()]
            segments = batch[0].segments
            while self._requests and segments + self._requests[0].segments <= max(most, batch[0].segments):
                batch.append(self._requests.popleft())
                segments += batch[-1].segments
            seconds = self._times.seconds(segments, self._rng.random())
            if any(other.working for other in self.others):
                seconds *= self._crowded
            self.totals = self.totals.plus(StageTotals(1, segments, seconds))
            self.working += 1
            yield env.timeout(seconds)
            self.working -= 1
            for one in batch:
                one.done.succeed()


class _Server:
    def __init__(self, env: simpy.Environment, plan: Plan, service: Service, rng: np.random.Generator) -> None:
        self._env, self._plan, self._beside, self._rng = env, plan, service.beside, rng
        self.stages = [_Stage(env, plan, times, service.crowded, rng) for times in service.stages]
        for stage in self.stages:
            stage.others = [other for other in self.stages if other is not stage]
        self._link = simpy.Resource(env)

    def answer(self, segments: int, answered: simpy.Event) -> _Process:
        """Carry a request there, through all stages and back."""
        plan = self._plan
        if plan.request_bytes:
            with self._link.request() as turn:
                yield turn
                yield self._env.timeout(segments * plan.request_bytes / plan.link_bytes_per_s)
        beside_s = self._beside.seconds(segments, self._rng.random()) if self._beside is not None else 0.0
        yield self._env.timeout(plan.round_trip_s + beside_s)
        for stage in self.stages:
            yield stage.put(segments)
        answered.succeed()


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
        while True:
            if not any(self._waiting.values()):
                self._came = self._env.event()
                yield self._came
            ends, answered = self._take(), self._env.event()
            self._env.process(self._server.answer(len(ends), answered))
            yield answered | self._env.timeout(self._plan.deadline_s)
            kept = [end for end in ends if end >= self._since_s]
            if answered.triggered:
                self._out.latencies_s += [self._env.now - end for end in kept]
            else:
                self._out.unscored += len(kept)


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
    servers = [_Server(env, plan, service, rng) for _ in range(plan.servers)]
    boxes = [_Box(env, plan, servers[number % plan.servers], out, since_s) for number in range(plan.boxes)]
    for number, phase_s in enumerate(plan.phases_s(rng)):
        env.process(boxes[number % plan.boxes].camera(number, phase_s))
    if since_s > 0:
        env.run(until=since_s)
    before = _worked(servers)
    env.run(until=since_s + seconds)
    out.stages = [after.since(first) for after, first in zip(_worked(servers), before, strict=True)]
    return out


def _worked(servers: list[_Server]) -> list[StageTotals]:
    """Of each stage, over all servers."""
    columns = zip(*([stage.totals for stage in one.stages] for one in servers), strict=True)
    return [reduce(StageTotals.plus, column) for column in columns]
