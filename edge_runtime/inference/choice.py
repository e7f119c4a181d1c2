"""Which provider `auto` takes: the fastest on this machine of those that compute what the builder's did.

Measured once for a bundle on a machine, on its first golden segment, and remembered in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import BundleRefused, HeadHuntError, OutputFailed, first_line
from edge_runtime.files import format_bytes, make_folder, printable, write_atomic
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import CPU, OPENVINO, find_provider
from edge_runtime.inference.selftest import compare
from edge_runtime.machine import available_memory, package_version, processor
from edge_runtime.strict_json import parse_object

log = logging.getLogger(__name__)

#: Seconds that all candidates may take together.
BUDGET_S = 60.0
_ROUNDS = 5
# Bundles and machines that are remembered; the oldest go.
_REMEMBERED = 50
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", OPENVINO)


@dataclass(frozen=True, slots=True)
class Trial:
    """How one candidate did.

    Attributes:
        provider: Its name.
        seconds: For a segment; None where it is out.
        said: The figures, or why it is out.
    """

    provider: str
    seconds: float | None
    said: str


def choose(
    bundle: Bundle,
    candidates: Sequence[str],
    threads: int | None,
    open_one: Callable[[str], Engine],
    anew: bool = False,
) -> str:
    """Take the fastest provider that gives a bundle's golden features.

    Args:
        bundle: Whose graphs are run.
        candidates: Providers that are installed, the likeliest first; one alone is taken unmeasured.
        threads: What they will be run with.
        open_one: Opens the bundle's graphs on one.
        anew: Whether it is measured again, whatever is remembered.

    Returns:
        A provider's name. `cpu` where nothing can be measured, or nothing gives the golden features; the self-test of
        whoever opened the bundle then says so.
    """
    candidates = [provider for provider in candidates if _fits(bundle, provider)]
    if len(candidates) < 2:
        return candidates[0] if candidates else CPU
    place, key = _memory(), _key(bundle, candidates, threads)
    known = _recall(place)
    if not anew and (found := known.get(key)) is not None and found.get("provider") in candidates:
        log.info("provider %s, as measured on this machine: %s", found["provider"], printable(str(found.get("said"))))
        return str(found["provider"])
    try:
        golden = bundle.golden()
    except BundleRefused:
        return CPU
    log.info("measuring %s on a golden segment, %.0f s at most", ", ".join(candidates), BUDGET_S)
    trials = _measure(bundle, golden, candidates, open_one)
    said = "; ".join(f"{trial.provider} {trial.said}" for trial in trials)
    passed = [(trial.seconds, trial.provider) for trial in trials if trial.seconds is not None]
    if not passed:
        log.warning("provider %s: no other gives the golden features (%s)", CPU, said)
        return CPU
    provider = min(passed)[1]
    log.info("provider %s, measured on this machine: %s", provider, said)
    known.pop(key, None)  # the newest stands last
    _remember(place, known | {key: {"provider": provider, "said": said}})
    return provider


def _measure(
    bundle: Bundle, golden: Golden, candidates: Sequence[str], open_one: Callable[[str], Engine]
) -> list[Trial]:
    """Try each candidate in turn, as long as there is time; only one is in memory at a time."""
    first = Golden(golden.frames[:1], golden.tokens[:1], golden.features[:1], golden.probabilities[:1])
    allowed = max(PRECISIONS[precision].golden_tolerance for precision in bundle.manifest.graphs.precisions)
    begun = time.monotonic()
    trials: list[Trial] = []
    for number, provider in enumerate(candidates):
        left = BUDGET_S - (time.monotonic() - begun)
        if left <= 0:
            trials.append(Trial(provider, None, "not tried, there was no time"))
            continue
        try:
            engine = open_one(provider)
        except HeadHuntError as error:
            trials.append(Trial(provider, None, f"does not load ({first_line(error)})"))
            continue
        try:
            trials.append(_try(engine, first, allowed, left / (len(candidates) - number)))
        except HeadHuntError as error:
            trials.append(Trial(provider, None, f"fails ({first_line(error)})"))
        finally:
            engine.close()
    return trials


def _fits(bundle: Bundle, provider: str) -> bool:
    """Whether there is memory for it: else trying it could end this process, or another one on the machine."""
    weights = sum(entry.bytes for entry in bundle.manifest.files if entry.path.endswith(".data"))
    widest = max(PRECISIONS[precision].widening for precision in bundle.manifest.graphs.precisions)
    needed, free = int(find_provider(provider).memory * widest * weights), available_memory()
    # The CPU's is the least of all: without it there is nothing.
    if provider == CPU or free is None or needed <= free:
        return True
    log.info("provider %s is not tried: it takes %s, %s are free", provider, format_bytes(needed), format_bytes(free))
    return False


def _try(engine: Engine, golden: Golden, allowed: float, budget_s: float) -> Trial:
    """Compare one segment with the builder's, then time it a few times."""
    begun = time.monotonic()
    # The scorer is not the engine's: its golden answers stand for it.
    differences = compare(engine, golden, allowed, lambda _features: golden.probabilities)
    took = [time.monotonic() - begun]
    worst = next((one for one in differences if not one.passed), max(differences, key=lambda one: one.relative))
    if not worst.passed:
        apart = f"its {worst.stage} differ by {worst.relative:.2g} of their scale, allowed are {allowed:g}"
        return Trial(engine.provider, None, apart)
    # The first run pays for memory and kernels that are made once; it counts where there is no time for another.
    rounds: list[float] = []
    while len(rounds) < _ROUNDS and sum(took) + took[-1] < budget_s:
        begun = time.monotonic()
        engine.features(golden.frames)
        took.append(time.monotonic() - begun)
        rounds.append(took[-1])
    seconds = statistics.median(rounds or took)
    return Trial(engine.provider, seconds, f"{seconds:.3g} s a segment, {worst.relative:.1g} off")


def _key(bundle: Bundle, candidates: Sequence[str], threads: int | None) -> str:
    """Changes with the graphs, the machine, and what is installed on it."""
    graphs = [entry.sha256 for entry in bundle.manifest.files if entry.path.startswith(("vision.", "language."))]
    facts = [sorted(graphs), list(candidates), threads, platform.node(), platform.machine(), os.cpu_count()]
    facts += [package_version(name) for name in _PACKAGES] + [processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _memory() -> Path | None:
    """Where choices are remembered; None where there is no home."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home) / "headhunt-edge" / "providers.json"


def _recall(place: Path | None) -> dict[str, dict[str, Any]]:
    """What is remembered. Nothing where it cannot be read: then it is measured again."""
    if place is None:
        return {}
    try:
        found = parse_object(place.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)}


def _remember(place: Path | None, known: dict[str, dict[str, Any]]) -> None:
    if place is None:
        return
    try:
        make_folder(place.parent)
        write_atomic(place, json.dumps(dict(list(known.items())[-_REMEMBERED:]), indent=1).encode())
    except OutputFailed as error:
        log.warning("the choice of the provider is not remembered: %s", error)
