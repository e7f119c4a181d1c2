"""Turned cameras, three weeks of unchanged ones, day and night, and budgets: on features of generated cameras.

    python benchmarks/drift_features.py BUNDLE features.npz       # about 15 minutes on one core, once
    python benchmarks/drift.py features.npz [WEEKS [SEEDS]]       # 3 weeks and 3 seeds: 6 to 25 minutes

Weeks are drawn from half an hour of a site in blocks of 40 successive segments (128 s), so that what follows each
other within two minutes still does, and what is rarer than once in half an hour never comes. For budgets each block's
log odds are shifted by a draw of its own (Laplace, 0.3): without that, three weeks would have a few hundred distinct
scores and no threshold between them. In the second form they also swing by 0.5 with the hour, and rise by 0.2 a week.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.records import SegmentRecord
from edge_runtime.site import state
from edge_runtime.site.budget import DAY_S, Budget
from edge_runtime.site.drift import BLOCK, LEARNING, DriftSpace, DriftWatch
from edge_runtime.site.watching import Known, SiteCamera
from edge_runtime.stream.locator import Smoother
from edge_runtime.stream.segments import Segment

STEP_S, TOGETHER, PER_DAY = 3.2, 40, 2.0
DAY = int(DAY_S / STEP_S)
VIEWS = ("turned_25", "turned_8", "rolled_12", "blurred", "dusk", "night")

Floats = NDArray[np.float64]


def whitened(kept: dict[str, Any]) -> tuple[DriftSpace, dict[str, Floats]]:
    """Features of all sites in the space of the calibration, and the space in which they already are distances."""
    space = DriftSpace.fitted(kept["calibration"])
    size = len(space.mean)
    zeros, ones = np.zeros(size), np.ones(size)
    rows = {name: space.whitened(kept[name]) for name in kept if name.startswith("site") and "scores" not in name}
    return DriftSpace.of(zeros, ones, zeros, ones, np.zeros((0, size))), rows


def drawn(rows: NDArray[Any], segments: int, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    """So many segments, in blocks of successive ones."""
    for _ in range(-(-segments // TOGETHER)):
        start = int(rng.integers(len(rows) - TOGETHER + 1))
        yield rows[start : start + TOGETHER]


def live(watch: DriftWatch, rows: Floats, segments: int, rng: np.random.Generator, now: int = 0) -> tuple[int, int]:
    """Let so many segments pass; how many times drift was told, and the number of the segment behind them."""
    told = 0
    for block in drawn(rows, segments, rng):
        for features in block:
            change = watch.push(features, now * STEP_S, (now + 1) * STEP_S)
            told += change is not None and change.drifted
            now += 1
    return told, now


def turned(space: DriftSpace, rows: dict[str, Floats], site: int, seeds: int) -> dict[str, list[int | None]]:
    """Segments until a change is told, from every third start in each view; None where 80 were not enough."""
    found: dict[str, list[int | None]] = {}
    still = rows[f"site{site}_still"]
    for seed in range(seeds):
        rng = np.random.default_rng([seed, site])
        watch = DriftWatch(space)
        live(watch, still, LEARNING * BLOCK + DAY, rng)
        kept = watch.arrays()
        for view in VIEWS:
            shown = rows.get(f"site{site}_{view}")
            for start in range(0, 0 if shown is None else 36, 3):
                again = DriftWatch(space)
                again.restore(kept)
                # Blocks begin anywhere.
                for features in still[: int(rng.integers(BLOCK))]:
                    again.push(features, 0, 0)
                told = next((n for n, x in enumerate(np.roll(shown, -start, 0), 1) if again.push(x, n, n)), None)
                found.setdefault(view, []).append(told)
    return found


def days_and_nights(space: DriftSpace, rows: dict[str, Floats], site: int, learning: int) -> list[int]:
    """Times drift was told on each of five days of twelve hours' light, an hour's dusk, ten hours' night and dusk."""
    rng = np.random.default_rng(site)
    watch, now, told = DriftWatch(space, learning=learning), 0, []
    for _ in range(5):
        count = 0
        for view, hours in (("still", 12), ("dusk", 1), ("night", 10), ("dusk", 1)):
            of_view, now = live(watch, rows[f"site{site}_{view}"], DAY * hours // 24, rng, now)
            count += of_view
        told.append(count)
    return told


def budget(scores: NDArray[Any], weeks: float, seed: int, moving: bool) -> tuple[float, float]:
    """Events a day under a budget, once it is in force, and how many there would have been above 0.65."""
    rng = np.random.default_rng([seed, 7])
    clipped = np.clip(np.asarray(scores, dtype=np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(clipped / (1 - clipped))
    kept, smoother = Budget(PER_DAY, 0.65, STEP_S), Smoother(1.0, 0)
    open_, calibrated_open, events, calibrated, index, counted = False, False, 0, 0, 0, 0
    for block in drawn(odds, int(weeks * 7 * DAY), rng):
        hour = 2 * np.pi * index / DAY
        shift = rng.laplace(0.0, 0.3) + (0.5 * np.sin(hour) + 0.2 * index / DAY / 7 if moving else 0.0)
        for value in block + shift:
            ((_, smoothed),) = smoother.push(index, float(1 / (1 + np.exp(-value))))
            in_force = kept.threshold.by_budget
            above, above_calibrated = smoothed > kept.threshold.value, smoothed > 0.65
            events += in_force and above and not open_
            calibrated += in_force and above_calibrated and not calibrated_open
            counted += in_force
            open_, calibrated_open = above, above_calibrated
            kept.push(index, smoothed)
            index += 1
    return events / counted * DAY, calibrated / counted * DAY


def cost(size: int) -> str:
    """Time and memory of one camera with features of a size, and of its file."""
    rng = np.random.default_rng(0)
    space = DriftSpace.of(
        np.zeros(size), np.ones(size), np.zeros(size), np.ones(size), rng.standard_normal((size, size)) / size**0.5
    )
    known = Known(space, 1e9, rng.random(300))
    tracemalloc.start()
    camera, kept = SiteCamera(known), Budget(PER_DAY, 0.65, STEP_S)
    features = rng.standard_normal((2000, size)).astype(np.float32)
    before = tracemalloc.get_traced_memory()[0]
    took = []
    for index in range(30_000):
        start_s, end_s = index * STEP_S, (index + 1) * STEP_S
        segment = Segment(index, index, index + 1, start_s, end_s, np.zeros((1, 1, 1, 3), np.uint8))
        score = float(rng.random() * 0.6)
        record = SegmentRecord("gate", index, index, index + 1, start_s, end_s, score, score, False)
        tracing = index < 20_000
        if index == 20_000:
            memory = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
        start = time.perf_counter()
        camera.seen(segment, features[index % 2000])
        camera.located(record)
        kept.push(record.index, record.smoothed)
        if not tracing:
            took.append(time.perf_counter() - start)
    file = len(state.pack("0" * 64, "gate", "", camera.parts() | {"budget": kept.events.arrays()}))
    return (
        f"D = {size}: {np.mean(took) * 1e3:.2f} ms a segment (99 % below {np.quantile(took, 0.99) * 1e3:.2f}), "
        f"{memory / 2**20:.2f} MiB a camera, file {file / 2**10:.0f} KiB"
    )


def main(path: Path, weeks: float, seeds: int) -> None:
    """Print all of it."""
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    space, rows = whitened(kept)
    sites = sorted(int(name[4:-6]) for name in rows if name.endswith("_still"))
    videos = len(np.unique(kept["video"]))
    print(f"{len(kept['calibration'])} normal segments of {videos} calibration videos, {len(sites)} sites")
    print(
        f"\nChanges of the camera, after a day of learning and one more, {seeds} seeds: told after (2 minutes are 37)"
    )
    print("view        cases   median   longest   within 2 minutes   never in 4")
    found: dict[str, list[int | None]] = {}
    for site in sites:
        for view, cases in turned(space, rows, site, seeds).items():
            found.setdefault(view, []).extend(cases)
    for view, cases in found.items():
        told = [case for case in cases if case is not None]
        within = sum(case <= 37 for case in told) / len(cases)
        median, longest = (f"{np.median(told):.0f}", f"{max(told)}") if told else ("-", "-")
        print(
            f"{view:10}  {len(cases):5}   {median:>6}   {longest:>7}   {within:15.0%}    {len(cases) - len(told):9}"
        )
    print(f"\nUnchanged cameras, {weeks:g} weeks after a day of learning: times told wrongly")
    wrong = 0
    for site in sites:
        told_of = []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, site, 1])
            told_of.append(live(DriftWatch(space), rows[f"site{site}_still"], int(weeks * 7 * DAY) + DAY, rng)[0])
        wrong += sum(told_of)
        print(f"site {site}: {', '.join(map(str, told_of))}")
    print(f"{wrong} in {weeks * seeds * len(sites):g} weeks of cameras")
    print("\nFive days with nights, nothing else changed: times told on each day")
    for site in sites:
        if f"site{site}_night" in rows:
            usual, at_once = (days_and_nights(space, rows, site, learning) for learning in (LEARNING, LEARNING // 24))
            print(f"site {site}: {usual}; with an hour of learning instead of a day: {at_once}")
    for moving in (False, True):
        print(
            f"\nBudget of {PER_DAY:g} a day, {weeks:g} weeks, {'moving' if moving else 'drawn alike'}: events a day"
        )
        for site in sites:
            pairs = [
                budget(kept[f"site{site}_still_scores"], weeks, 100 * site + seed, moving) for seed in range(seeds)
            ]
            held, above = (", ".join(f"{pair[which]:.2f}" for pair in pairs) for which in (0, 1))
            print(f"site {site}: {held}   (above 0.65: {above})")
    print("\nCost of one camera, drift, p-values and budget together")
    for size in (160, 640):
        print(cost(size))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        *(float(one) for one in sys.argv[2:3] or ["3"]),
        *(int(one) for one in sys.argv[3:4] or [3]),
    )
