"""A pool of Ray actors that each hold a model, and the hand-out of videos to them.

Knows tasks and results; nothing of features. An actor is made from a recipe, which says what to load and is pickled
in its place. A worker that dies costs the task it had, which another one gets; a task that has killed `ATTEMPTS`
workers is given up by name. A failure is believed when another machine has it, too: a machine without the videos'
folder, or with a full disk, fails in milliseconds and would have gone through all of them. A machine that cannot load
the model is left out, and ends the command only where no other one can.

Every wait has a deadline: a cluster that goes away ends the command with a sentence.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from edge_runtime import errors
from edge_runtime.errors import (
    ClusterUnavailable,
    HeadHuntError,
    SourceUnavailable,
    SourceUnreachable,
    VideosFailed,
    one_line,
)
from offline.console import Console, Progress
from offline.data.tasks import Task

#: How many workers one task may kill.
ATTEMPTS = 3
#: How often a worker may die while it loads its model, until its place stays empty.
LOADS = 3
#: How many tasks that others did a machine may fail with before a person is told.
_OVERRULED = 3
#: Seconds without a video done, and how many in a row that nobody there reaches, until all others are left alone.
_OUTAGE_S, _OUTAGE = 600.0, 3
#: Seconds until a port answers, until a cluster says that it is one, and until its first worker is there.
_CONNECT_S, _HEALTH_S, _START_S = 5.0, 60.0, 180.0
#: Seconds between two looks at workers that are busy, and how long one may leave a question unanswered.
_ASK_S, _HUNG_S = 20.0, 120.0
# Ray's least; entries go through the store, not through Ray.
_OBJECT_STORE = 80_000_000
# Where Ray takes the token of a cluster from.
_TOKEN = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
# Joins a cluster and leaves it.
_PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); ray.shutdown()"
#: What is wrong with the work as a whole, and not with the video at hand.
_FATAL = (
    errors.UsageError,
    errors.CheckpointError,
    errors.OutputFailed,
    errors.BundleRefused,
    errors.ProviderUnavailable,
    errors.FeatureError,
)


class Recipe(Protocol):
    """What a worker loads. It is pickled, so it holds names and options, never a model."""

    @property
    def gpu(self) -> bool:
        """Whether it would use a GPU."""

    def open(self, share: float) -> Any:
        """Load it, on a machine of whose memory this share is free to be taken."""


class Failure(NamedTuple):
    """Why a task failed.

    Attributes:
        text: One line.
        unreadable: Whether its video cannot be read.
    """

    text: str
    unreadable: bool


@dataclass(slots=True)
class Results:
    """What became of tasks, by name.

    Attributes:
        values: Of those that were done.
        failed: Of the others.
    """

    values: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)

    def require_all(self, skip_unreadable: bool, say: Callable[[str], object]) -> None:
        """Refuse failed videos; unreadable ones may be reported and left out.

        Raises:
            VideosFailed: Some failed; names them.
        """
        failed = []
        for name, failure in self.failed.items():
            if failure.unreadable and skip_unreadable:
                say(f"left out: {failure.text}")
            else:
                failed.append(failure)
                say(f"failed: {name}: {failure.text}")
        if failed:
            names = [name for name, failure in self.failed.items() if failure in failed]
            unreadable = any(failure.unreadable for failure in failed)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            first = "; ".join(f"{name}: {self.failed[name].text}" for name in names[:3])
            raise VideosFailed(
                f"{len(names)} of {len(self.values) + len(self.failed)} videos failed ({first}{more}); mend "
                "them and run it again: what is stored is not computed again"
                + (", or leave unreadable ones out with --skip-unreadable" if unreadable else ""),
                unreadable=unreadable,
            )


class _Outcome(NamedTuple):
    """What a worker's process answers. Errors travel as text: their classes need not be there on both sides."""

    frames: int = 0
    value: Any = None
    error: str | None = None
    kind: str = ""
    fatal: bool = False
    unreadable: bool = False


class _Place(NamedTuple):
    """Where a worker is: its node of the cluster, and its machine's name for people."""

    node: str
    host: str


class WorkerProcess:
    """The actor: one process with what a recipe loads. `alive` answers while `run` is at work, on another thread."""

    def __init__(self) -> None:
        self._loaded: Any = None

    def alive(self) -> _Outcome:
        """Answer, and say where."""
        import ray

        return _Outcome(value=_Place(ray.get_runtime_context().get_node_id(), socket.gethostname()))

    def open(self, recipe: Recipe, share: float) -> _Outcome:
        """Load what the recipe says, and say where."""
        try:
            self._loaded = recipe.open(share)
        except Exception as error:  # noqa: BLE001 - it is told where the command was started
            return _told(error)._replace(value=self.alive().value)
        return self.alive()

    def run(self, task: Task) -> _Outcome:
        """Do a task, or say what failed."""
        try:
            return _Outcome(*task.do(self._loaded))
        except Exception as error:  # noqa: BLE001 - one video of many: it is told by name, and the rest goes on
            return _told(error)


def _told(error: Exception) -> _Outcome:
    text = one_line(error)
    if not isinstance(error, HeadHuntError | OSError):
        text = f"unexpected {type(error).__name__}: {text}"
    return _Outcome(
        error=text,
        kind=type(error).__name__,
        # A full disk of one machine is no other's.
        fatal=isinstance(error, _FATAL) and not isinstance(error, errors.CacheFailed),
        unreadable=isinstance(error, SourceUnavailable) and not isinstance(error, SourceUnreachable),
    )


@dataclass(frozen=True, slots=True)
class Seat:
    """What one worker takes.

    Attributes:
        cpus: How many.
        gpus: 0 or 1.
        share: Of a machine that is this worker's.
        machine: The number of the one that it is meant for; None for whichever has room.
    """

    cpus: int
    gpus: int
    share: float
    machine: int | None = None


@dataclass(slots=True, eq=False)
class Hand:
    """An actor, from when it is asked for until it is killed or dies.

    Attributes:
        actor: Ray's handle.
        number: Of its seat, which one that takes its place has, too.
        seat: What it takes.
        place: Where it is; None until it has loaded.
        well: Whether the last task that it had was done.
        unreached: How many in a row it could not do, as what they need cannot be reached.
    """

    actor: Any
    number: int
    seat: Seat
    place: _Place | None = None
    well: bool = False
    unreached: int = 0


@dataclass(slots=True)
class _Busy:
    """A hand, and what it was asked last."""

    hand: Hand
    doing: str | None
    answer: Any
    asked: Any = None
    asked_at: float = 0.0
    heard_at: float = field(default_factory=time.monotonic)
    there: bool = False


@dataclass(slots=True)
class _Doubt:
    """A task that failed, but not everywhere.

    Attributes:
        failure: What is told in the end.
        tried: The failures by where: nodes, or actors where there is one node.
        hosts: The machines' names.
        believed: Whether one failed with it that had done what it had before.
    """

    failure: Failure
    tried: dict[str, Failure] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    believed: bool = False


def plan(machines: list[tuple[int, int]], workers: int | None, gpu: bool) -> tuple[Seat, ...]:
    """Share machines out among workers.

    Args:
        machines: CPUs and GPUs of each.
        workers: How many are asked for; None for one a GPU, or one a machine without GPUs.
        gpu: Whether workers would use GPUs.

    Returns:
        One entry a worker.

    Raises:
        ClusterUnavailable: There is no CPU, or no room for as many workers.
    """
    gpus = sum(each for _, each in machines) if gpu else 0
    cpus = sum(each for each, _ in machines)
    if cpus < 1:
        raise ClusterUnavailable("the Ray cluster has no CPU to give; start nodes with CPUs (ray start --num-cpus)")
    if gpus:
        count = gpus if workers is None else workers
        if count > gpus:
            raise ClusterUnavailable(f"{count} workers need a GPU each, the Ray cluster has {gpus}; ask for fewer")
        with_gpu = [machine for machine in machines if machine[1]]
        most = max(each for _, each in with_gpu)
        return (Seat(max(1, min(cpu // each for cpu, each in with_gpu)), 1, 1 / most),) * count
    if workers is None:
        return tuple(Seat(each, 0, 1.0, number) for number, (each, _) in enumerate(machines) if each)
    if workers > cpus:
        raise ClusterUnavailable(f"{workers} workers need a CPU each, the Ray cluster has {cpus}; ask for fewer")
    largest = max(each for each, _ in machines)
    fits = next(each for each in range(largest, 0, -1) if sum(cpu // each for cpu, _ in machines) >= workers)
    return (Seat(fits, 0, fits / largest),) * workers


class RayPool:
    """Workers of a Ray cluster, for as long as the context lasts.

    Args:
        address: `host:port`, or `auto` for the one that runs on this machine; None for one of its own, on loopback.
        workers: How many; None as `plan` says.
        console: Told what happens to workers.

    Raises:
        ClusterUnavailable: No cluster answers there.
    """

    def __init__(self, address: str | None, workers: int | None, console: Console) -> None:
        self._address = address
        self._workers = workers
        self._console = console
        self._recipe: Recipe | None = None
        self._nodes: list[str] = []
        self._seats: list[tuple[int, Seat]] | None = None
        self._idle: list[Hand] = []
        #: Why the last one of the seats that stay empty does so.
        self.not_loaded: HeadHuntError | None = None

    def __enter__(self) -> RayPool:
        # Before Ray is imported, which reads them then. Nothing is reported to anyone.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is None:
            # Says that there is one machine: then everything listens on loopback.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not _TOKEN & os.environ.keys():
                # Other people of this machine stay out; Ray itself would leave a file in the home folder for that.
                os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        else:
            _require_cluster(self._address)
        import ray

        given: dict[str, Any] = {}
        if self._address is None:
            self._console.say("Starting Ray on this machine")
            given = {"address": "local", "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
        else:
            given = {"address": self._address}
            if threads := os.environ.get("OMP_NUM_THREADS"):
                given["runtime_env"] = {"env_vars": {"OMP_NUM_THREADS": threads}}
        try:
            ray.init(**given, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:  # Ray, gRPC and the system each have errors of their own for this
            raise ClusterUnavailable(
                f"Ray {self._shown}: cannot be used ({one_line(error)[:300]}); are the same versions of Python and "
                "Ray on all machines?"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()

    @property
    def _shown(self) -> str:
        return "on this machine" if self._address is None else f"at {self._address}"

    def run(
        self,
        recipe: Recipe,
        tasks: Mapping[str, Task],
        progress: Progress | None = None,
        arrived: Callable[[str, Any, str], None] | None = None,
    ) -> Results:
        """Hand tasks out to workers that are made from a recipe, until all are done or given up.

        Workers stay for the next call with the same recipe.

        Args:
            recipe: What each worker loads.
            tasks: By name.
            progress: Told how many are done, and how many frames a second all workers compute.
            arrived: Called with the name and result of each as it is done, and the machine or worker that did it.

        Raises:
            ClusterUnavailable: The cluster has gone, or has no room for a worker.
            HeadHuntError: What the recipe needs is not there, or the store cannot be written.
        """
        import ray

        if recipe != self._recipe:
            for hand in self._idle:
                self.kill(hand)
            self._idle, self._recipe = [], recipe
            # Another recipe may use GPUs where this one does not, and be loaded where this one cannot.
            self._seats = self.not_loaded = None
        try:
            return _Run(self, recipe, tasks, progress, arrived).to_the_end()
        except ray.exceptions.RayError as error:
            raise self._gone(error) from error

    def seats(self, recipe: Recipe) -> list[tuple[int, Seat]]:
        """Look what workers there is room for, each with a number; those that are taken are not in it."""
        if self._seats is None:
            import ray

            nodes = [node for node in ray.nodes() if node["Alive"]]
            machines = [
                (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))) for node in nodes
            ]
            self._nodes = [node["NodeID"] for node in nodes]
            self._seats = list(enumerate(plan(machines, self._workers, recipe.gpu)))
        return self._seats

    @property
    def many(self) -> bool:
        """Whether the cluster has several machines."""
        return len(self._nodes) > 1

    def start(self, recipe: Recipe) -> Hand | None:
        """Ask for another actor, which may take a while to be there; None where all seats are taken."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not (seats := self.seats(recipe)):
            return None
        number, seat = seats.pop(0)
        where = {}
        if seat.machine is not None:
            # Soft: where that machine has gone, Ray looks for room elsewhere.
            node = NodeAffinitySchedulingStrategy(self._nodes[seat.machine], soft=True)
            where = {"scheduling_strategy": node}
        made = ray.remote(max_concurrency=2, max_restarts=0, num_cpus=seat.cpus, num_gpus=seat.gpus, **where)
        return Hand(made(WorkerProcess).remote(), number, seat)

    def kill(self, hand: Hand) -> None:
        """End an actor, also one that has died; its seat is free."""
        import ray

        ray.kill(hand.actor)
        if self._seats is not None:
            # Behind the others: it may be its machine that has died.
            self._seats.append((hand.number, hand.seat))

    def leave_empty(self, hand: Hand, why: HeadHuntError) -> None:
        """End an actor whose seat nobody else shall take: it cannot be loaded there."""
        import ray

        ray.kill(hand.actor)
        self.not_loaded = why

    def take(self) -> Hand | None:
        """Take an actor that has loaded the recipe already, where there is one."""
        return self._idle.pop() if self._idle else None

    def keep(self, hand: Hand) -> None:
        """Keep an actor for what comes next."""
        self._idle.append(hand)

    def require_here(self) -> None:
        """Refuse to go on where the node of this process has gone.

        Raises:
            ClusterUnavailable: It has.
        """
        import ray

        own = ray.get_runtime_context().get_node_id()
        if not any(node["Alive"] and node["NodeID"] == own for node in ray.nodes()):
            raise self._gone(None)

    def say(self, text: str) -> None:
        """Tell the person what happened to a worker."""
        self._console.say(text)

    def _gone(self, error: Exception | None) -> ClusterUnavailable:
        why = "" if error is None else f" ({one_line(error)[:200]})"
        return ClusterUnavailable(
            f"Ray {self._shown} has gone{why}; run the same command again: what is stored is not computed again"
        )


class _Run:
    """One call of `RayPool.run`."""

    def __init__(
        self,
        pool: RayPool,
        recipe: Recipe,
        tasks: Mapping[str, Task],
        progress: Progress | None,
        arrived: Callable[[str, Any, str], None] | None,
    ) -> None:
        self._pool, self._recipe, self._tasks = pool, recipe, tasks
        self._progress, self._arrived = progress, arrived
        self._waiting = deque(tasks)
        self._busy: list[_Busy] = []
        #: What is there and may do nothing of what waits: all that has failed where it is.
        self._spare: list[Hand] = []
        self._doubts: dict[str, _Doubt] = {}
        #: Who has done a task, as in `_Doubt.tried`.
        self._able: set[str] = set()
        self._overruled: Counter[str] = Counter()
        self._killed: Counter[str] = Counter()
        #: How often a worker died while it loaded, by the number of its seat.
        self._lost_loading: Counter[int] = Counter()
        self._frames = 0
        #: When a worker was there last.
        self._seen = time.monotonic()
        self._begun: float | None = None
        #: When a task was done last, or the first one given.
        self._done_at = time.monotonic()
        self._results = Results()

    def to_the_end(self) -> Results:
        import ray

        self._show()
        try:
            while self._waiting or any(one.doing for one in self._busy):
                self._fill()
                if not self._busy:
                    self._believe()
                    continue
                ready, _ = ray.wait([one.answer for one in self._busy], timeout=1.0)
                for one in [one for one in self._busy if one.answer in ready]:
                    self._answered(one)
                self._ask()
        except BaseException:
            for hand in (*(one.hand for one in self._busy), *self._spare):
                self._pool.kill(hand)
            raise
        for one in self._busy:
            if one.hand.place is not None:
                self._pool.keep(one.hand)
            else:
                # It is still loading, and there is nothing left to do.
                self._pool.kill(one.hand)
        for hand in self._spare:
            self._pool.keep(hand)
        self._show()
        return self._results

    def _fill(self) -> None:
        """Have as many actors as there is room and work for, and those at work that may do what waits."""
        spare, self._spare = self._spare, []
        for hand in spare:
            self._give(hand)
        # What failed where all are that are there waits for one more.
        wanted = len(self._waiting) + self._at_work() + len(self._spare)
        while len(self._busy) + len(self._spare) < wanted:
            if (ready := self._pool.take()) is not None:
                # It may have died since it did its last task: that would be no fault of the next one.
                self._busy.append(_Busy(ready, None, ready.actor.alive.remote(), there=True))
            elif (made := self._pool.start(self._recipe)) is not None:
                self._busy.append(_Busy(made, None, made.actor.open.remote(self._recipe, made.seat.share)))
            else:
                return

    def _at_work(self) -> int:
        return sum(one.doing is not None for one in self._busy)

    def _give(self, hand: Hand) -> None:
        """Give an actor the first task that has not failed where it is."""
        where = self._where(hand)
        name = next((one for one in self._waiting if not self._failed_at(one, where)), None)
        if name is None:
            self._spare.append(hand)
            return
        self._waiting.remove(name)
        if self._begun is None:
            self._begun = self._done_at = time.monotonic()
        self._busy.append(_Busy(hand, name, hand.actor.run.remote(self._tasks[name]), there=True))

    def _where(self, hand: Hand) -> str:
        """What a failure may come from: its machine, or where there is one machine its process."""
        if hand.place is not None and self._pool.many:
            return hand.place.node
        return str(hand.number)

    def _failed_at(self, name: str, where: str) -> bool:
        return name in self._doubts and where in self._doubts[name].tried

    def _answered(self, one: _Busy) -> None:
        import ray

        self._busy.remove(one)
        self._seen = time.monotonic()
        try:
            outcome: _Outcome = ray.get(one.answer)
        except ray.exceptions.RayActorError as error:
            self._died(one, error)
            return
        except ray.exceptions.RayTaskError as error:
            # What was sent cannot be unpickled there: another version, or a package that is not installed.
            outcome = _Outcome(error=str(error).strip().rpartition("\n")[2])
        if one.doing is None:
            if outcome.error is not None:
                self._pool.leave_empty(one.hand, _fatal(outcome))
                where = "a worker" if outcome.value is None else outcome.value.host
                self._pool.say(f"one worker less: {where} cannot load the model ({outcome.error})")
                return
            one.hand.place = outcome.value
        elif outcome.fatal:
            self._pool.kill(one.hand)
            raise _fatal(outcome)
        else:
            self._done(one.doing, outcome, one.hand)
        if self._waiting:
            self._give(one.hand)
        else:
            self._pool.keep(one.hand)
        self._show()

    def _done(self, name: str, outcome: _Outcome, hand: Hand) -> None:
        if outcome.error is not None:
            self._doubt(name, Failure(outcome.error, outcome.unreadable), hand)
            hand.well = False
            hand.unreached = hand.unreached + 1 if outcome.kind == errors.SourceUnreachable.__name__ else 0
            self._require_reach(outcome.error, hand)
        else:
            hand.well, hand.unreached = True, 0
            self._done_at = time.monotonic()
            self._able.add(self._where(hand))
            self._overrule(name)
            self._frames += outcome.frames
            self._results.values[name] = outcome.value
            if self._arrived is not None:
                self._arrived(name, outcome.value, self._where(hand))

    def _doubt(self, name: str, failure: Failure, hand: Hand) -> None:
        """Believe a failure, or let another one try."""
        doubt = self._doubts.setdefault(name, _Doubt(failure))
        if hand.well:
            doubt.failure = failure
        doubt.tried[self._where(hand)] = failure
        doubt.hosts.add("" if hand.place is None else hand.place.host)
        doubt.believed |= hand.well
        if doubt.believed and len(doubt.tried) > 1:
            self._results.failed[name] = doubt.failure
            del self._doubts[name]
        else:
            # At once: two that fail are soon known to be right, and one that fails alone does not have it again.
            self._waiting.appendleft(name)

    def _require_reach(self, said: str, hand: Hand) -> None:
        """End where what videos need is away: each one would take its deadline on each machine, for hours.

        Raises:
            VideosFailed: For a while nothing was done, and nobody reaches anything.
        """
        silent_s = time.monotonic() - self._done_at
        hands = (hand, *(one.hand for one in self._busy if one.hand.place is not None), *self._spare)
        if silent_s > _OUTAGE_S and all(one.unreached >= _OUTAGE for one in hands):
            raise VideosFailed(
                f"no worker has reached a video for {silent_s / 60:.0f} minutes ({said}); when they can be, start "
                "the same command again: what is stored is not computed again"
            )

    def _believe(self) -> None:
        """Nobody is at work or on the way: what has failed has failed wherever there is somebody.

        Raises:
            HeadHuntError: There is nobody, as the model cannot be loaded.
        """
        if not self._spare and self._pool.not_loaded is not None:
            raise self._pool.not_loaded
        for name, doubt in self._doubts.items():
            self._waiting.remove(name)
            # Rather than by one that failed with everything, also where it was the other one's first.
            able = [failure for where, failure in doubt.tried.items() if where in self._able]
            self._results.failed[name] = doubt.failure if doubt.believed or not able else able[0]
        self._doubts.clear()
        self._show()

    def _overrule(self, name: str) -> None:
        """Tell a person of a machine that fails with what others do."""
        if (doubt := self._doubts.pop(name, None)) is None:
            return
        for host in doubt.hosts:
            self._overruled[host] += 1
            if self._overruled[host] == _OVERRULED:
                self._pool.say(
                    f"{host} fails with videos that other workers can do, and they do them; look at it "
                    f"({doubt.failure.text})"
                )

    def _died(self, one: _Busy, error: Exception) -> None:
        self._pool.require_here()
        if one.doing is None:
            self._lost_loading[one.hand.number] += 1
            if self._lost_loading[one.hand.number] < LOADS:
                self._pool.kill(one.hand)
                return
            why = ClusterUnavailable(
                f"{LOADS} workers in a row died while they loaded their model; is there memory for as many? Ask "
                f"for fewer with --workers ({one_line(error)[:200]})"
            )
            self._pool.leave_empty(one.hand, why)
            self._pool.say(f"one worker less: {why}")
            return
        # Also where it only cannot be reached: the next one needs what it holds.
        self._pool.kill(one.hand)
        self._killed[one.doing] += 1
        if self._killed[one.doing] < ATTEMPTS:
            self._pool.say(f"a worker died with {one.doing}; another one takes it")
            # At the end: should it be the video, the others come first.
            self._waiting.append(one.doing)
        else:
            # Whatever it failed with before.
            self._doubts.pop(one.doing, None)
            self._results.failed[one.doing] = Failure(f"{ATTEMPTS} workers died with it", unreadable=False)
            self._show()

    def _ask(self) -> None:
        """Kill actors that answer nothing, and refuse to wait for those that never come."""
        import ray

        now = time.monotonic()
        for one in list(self._busy):
            if one.asked is None:
                if not one.there or now - one.heard_at > _ASK_S:
                    one.asked, one.asked_at = one.hand.actor.alive.remote(), now
            elif ray.wait([one.asked], timeout=0)[0]:
                # Also where it died, which its answer will say.
                one.asked, one.heard_at, one.there = None, now, True
            elif one.there and now - one.asked_at > _HUNG_S:
                self._pool.say(f"a worker has not answered for {_HUNG_S:.0f} s; it is replaced")
                # A process that stands still may not even hear that it is killed: its answer is not waited for.
                self._busy.remove(one)
                self._died(one, TimeoutError("no answer"))
        if any(one.there for one in self._busy):
            self._seen = now
        elif now - self._seen > _START_S and self._busy:
            if self._spare:
                # Nobody else comes to try what failed where these are.
                for one in self._busy:
                    self._pool.kill(one.hand)
                self._busy = []
                self._believe()
                return
            seat = self._busy[0].hand.seat
            raise ClusterUnavailable(
                f"no worker could be started within {_START_S:.0f} s: each takes {seat.cpus} CPUs and {seat.gpus} "
                "GPUs of the Ray cluster; is it busy with something else?"
            )

    def _show(self) -> None:
        if self._progress is None:
            return
        done = len(self._results.values) + len(self._results.failed)
        rate = ""
        if self._begun is not None:
            seconds = max(time.monotonic() - self._begun, 1e-3)
            rate = f"{self._frames / seconds:.0f} frames/s, {self._at_work()} at work"
        self._progress(done, len(self._tasks), rate)


def _fatal(outcome: _Outcome) -> HeadHuntError:
    """The error that a worker had, as one of the same class."""
    kind = getattr(errors, outcome.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, HeadHuntError)):
        kind = HeadHuntError
    return kind(f"on a worker: {outcome.error}")


def _require_cluster(address: str) -> None:
    """Refuse an address where no Ray cluster answers, before Ray itself waits for it.

    Raises:
        ClusterUnavailable: Nobody answers, or somebody else.
    """
    if address == "auto":
        return
    way_out = "give the host:port that `ray start --head` printed"
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535 or "/" in address:
        raise ClusterUnavailable(f"--ray-address {address}: is no address of a Ray cluster; {way_out}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ClusterUnavailable(
            f"--ray-address {address}: cannot be reached ({error.strerror or error}); {way_out}"
        ) from error
    # In a process of its own: Ray has no deadline for whatever else answers there.
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, and no shell
            [sys.executable, "-c", _PROBE, address], capture_output=True, timeout=_HEALTH_S, check=False
        )
        code, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        code, said = 1, error.stderr or b""
    if code and b"uthenticat" in said:
        raise ClusterUnavailable(
            f"--ray-address {address}: the cluster asks for its token; set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to a file with the head's (`ray get-auth-token` there prints it)"
        )
    if code:
        raise ClusterUnavailable(
            f"--ray-address {address}: no Ray cluster of this version answers there, or this machine is not of it "
            f"(`ray start --address {address}` joins it); {way_out}"
        )
