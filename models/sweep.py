"""How a model that may be larger than the memory runs: which of its stages have their weights at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edge_runtime.errors import UsageError
from edge_runtime.files import format_bytes, free_space
from edge_runtime.machine import available_memory
from models.states import State, StateStore
from models.weights import Weights

GIB = 2**30
# Of what is free when the work begins; the rest is for videos, pages of files, and whoever else is there.
_SHARE = 0.8
# Where neither the system nor the container says.
_UNKNOWN = 8 * GIB
# A killed run loses the sweep that it was in.
UNITS = 256


@dataclass(frozen=True, slots=True)
class Sweep:
    """How units go through a model.

    Attributes:
        weights: Bytes of weights in memory at a time; None keeps all weights, and units go through one by one.
        states: Bytes for what lies between two stages; more is spilled to the disk.
        spill: The folder for that.
        units: How many units go through together.
    """

    weights: int | None
    states: int
    spill: Path
    units: int = 1

    @property
    def streams(self) -> bool:
        """Whether weights are read anew for every sweep."""
        return self.weights is not None


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One step of a model.

    Attributes:
        module: What needs its weights while the step runs.
        run: Takes the number of a unit and what the stage below gave for it.
    """

    module: nn.Module
    run: Callable[[int, State], State]


def run_stages(
    units: Iterable[State],
    stages: Sequence[Stage],
    weights: Weights,
    sweep: Sweep,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[State]:
    """Run units through all stages.

    With all weights in memory each unit goes through all stages before the next one is asked for; else all units go
    through some stages before the next stages' weights are read.

    Args:
        units: What the first stage takes.
        stages: In order.
        weights: Of all stages.
        sweep: How much is in memory at a time.
        progress: Told how many groups of stages are done, and how many there are.

    Yields:
        What the last stage gives, unit by unit.

    Raises:
        OutputFailed: What does not fit into memory cannot be written.
    """
    states = StateStore(sweep.states, sweep.spill)
    parts = groups(stages, weights, sweep.weights)
    try:
        count = 0
        for number, part in enumerate(parts):
            first, last = number == 0, number == len(parts) - 1
            modules = [stage.module for stage in part]
            if not sweep.streams:
                # All weights stay: the next units need them again.
                weights.fill(*modules)
            with weights.held(*modules):
                below = enumerate(units) if first else ((unit, states.take(unit)) for unit in range(count))
                for unit, given in below:
                    state = {name: tensor.to(weights.device) for name, tensor in given.items()}
                    for stage in part:
                        state = stage.run(unit, state)
                    count = max(count, unit + 1)
                    if last:
                        yield state
                    else:
                        states.put(unit, state)
            if progress is not None:
                progress(number + 1, len(parts))
    finally:
        states.clear()


def groups(stages: Sequence[Stage], weights: Weights, limit: int | None) -> list[list[Stage]]:
    """Put neighbouring stages together as far as their weights stay within a limit; each group has at least one."""
    if limit is None:
        return [list(stages)]
    found: list[list[Stage]] = []
    held = 0
    for stage in stages:
        size = weights.size(stage.module)
        if not found or held + size > limit:
            found.append([])
            held = 0
        found[-1].append(stage)
        held += size
    return found


@dataclass(frozen=True, slots=True)
class Demand:
    """What running a model takes, in bytes.

    Attributes:
        whole: All weights that are run.
        largest: The weights of the largest stage.
        state: What lies between two stages, of one unit.
        work: What a stage needs beside its weights and the state.
        features: The head features of one unit.
    """

    whole: int
    largest: int
    state: int
    work: int
    features: int


def plan_sweep(demand: Demand, memory: int | None, stream: bool | None, spill: Path) -> Sweep:
    """Choose how units go through a model within the memory.

    Args:
        demand: What it takes.
        memory: Bytes that may be used; None for most of what is free.
        stream: Whether weights are read stage by stage; None where they do not fit otherwise.
        spill: A folder for what does not fit.

    Raises:
        UsageError: Not even one stage at a time fits; the message has the figures.
    """
    allowed = _allowed(memory)
    alone = demand.work + demand.state + demand.features
    if stream is None:
        stream = demand.whole + alone > allowed
    if not stream:
        if demand.whole + alone > allowed:
            raise UsageError(
                f"the model needs {format_bytes(demand.whole)} for its weights and {format_bytes(alone)} to run, "
                f"{format_bytes(allowed)} are allowed; say --stream-layers, or allow more with --memory"
            )
        return Sweep(None, demand.state, spill)
    least = demand.largest + alone
    if least > allowed:
        raise UsageError(
            f"one layer needs {format_bytes(demand.largest)} for its weights and {format_bytes(alone)} to run, "
            f"{format_bytes(allowed)} are allowed; allow more with --memory, or let the model see fewer frames with "
            "--sampled"
        )
    features = min(UNITS * demand.features, (allowed - least) // 2)
    units = max(1, min(UNITS, features // max(1, demand.features)))
    left = max(allowed - demand.largest - demand.work - units * demand.features, demand.state)
    # What does not fit between two stages waits on the disk, which has to have room for it.
    room = left + int(_SHARE * free_space(spill))
    return Sweep(demand.largest, left, spill, max(1, min(units, room // max(1, demand.state))))


def require_whole(name: str, needed: int, memory: int | None) -> None:
    """Refuse work for which all weights must be in memory, before they are read.

    Args:
        name: The model's.
        needed: Bytes of all its weights.
        memory: Bytes that may be used; None for most of what is free.

    Raises:
        UsageError: They do not fit; the message has the figures.
    """
    allowed = _allowed(memory)
    if needed > allowed:
        raise UsageError(
            f"{name}: answers in words need all its weights, {format_bytes(needed)}; {format_bytes(allowed)} are "
            "allowed; take a smaller model or a server (--endpoint), or allow more with --memory"
        )


def _allowed(memory: int | None) -> int:
    return int(_SHARE * (available_memory() or _UNKNOWN)) if memory is None else memory
