"""The two processes of `benchmarks.faults.teaching`, which kills them: a run in simulated time, and an operator.

Both speak JSON lines. No picture is scored: features are drawn, the same of the same camera and segment each time.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import Conflict, HeadHuntError
from edge_runtime.records import RunRecord
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.learned import read_learned
from edge_runtime.site.place import Site
from edge_runtime.site.recorders import Recorders
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.site.seal import Seal
from edge_runtime.site.sites import Sites
from edge_runtime.site.teaching import Teaching
from edge_runtime.stream.clock import rfc3339
from edge_runtime.stream.segments import Segment

STEP_S = 3.2
CAMERAS = ("gate", "path", "yard")
# Of each camera: every so many segments something happens, for so many of them.
_EVERY, _LONG = 240, 5
_TOLD_EVERY = 25


def site_of(bundle: Bundle, folder: Path) -> Site:
    """Where both processes keep what they learn."""
    return Site.of(bundle, folder / "site", Seal(folder / "state"))


def weights_name(weights: NDArray[np.float64] | list[float] | None) -> str:
    """A short name of a scorer's weights; that of the bundle's own is `bundle`."""
    return "bundle" if weights is None else hashlib.sha256(np.asarray(weights).tobytes()).hexdigest()[:12]


class Drawn:
    """Features of cameras: ordinary life, of which each has its own; the same false alarm now and then; and a drift.

    Args:
        calibration: Of the bundle.
        drift: How far the cameras drift in eight hours, in deviations of the calibration's features.
    """

    def __init__(self, calibration: Calibration, drift: float = 1.0) -> None:
        self._mean, self._scale = calibration.mean, calibration.scale
        way = calibration.prior_mean[:-1]
        self._way, self._intercept = way / (way @ way), calibration.prior_mean[-1]
        rng = np.random.default_rng(11)
        size = len(way)
        # At right angles to what the scorer looks at, so that only what is drawn below alarms.
        self._places = {camera: self._beside(rng.normal(size=size), way, 0.3) for camera in CAMERAS}
        self._alarms = {camera: self._beside(rng.normal(size=size), way, 2.0) for camera in CAMERAS}
        self._drift = {camera: self._beside(rng.normal(size=size), way, drift) for camera in CAMERAS}

    @staticmethod
    def _beside(other: NDArray[np.float64], way: NDArray[np.float64], deviations: float) -> NDArray[np.float64]:
        other = other - way * (way @ other) / (way @ way)
        return np.asarray(other * deviations * np.sqrt(len(way)) / np.linalg.norm(other), dtype=np.float64)

    def features(self, camera: str, index: int, segments: int) -> NDArray[np.float32]:
        """Of one segment of `segments`, (D,)."""
        place = CAMERAS.index(camera)
        rng = np.random.default_rng([place, index])
        alarm = (index + 80 * place) % _EVERY < _LONG
        logit = 4.0 if alarm else -4.0
        z = self._way * (logit - self._intercept) + self._places[camera]
        z = z + self._drift[camera] * index / segments + (self._alarms[camera] if alarm else 0.0)
        return (self._mean + self._scale * (z + rng.normal(size=len(z)) * 0.1)).astype(np.float32)


def run(path: Path, folder: Path, zero: float, first: int, segments: int, pace_s: float) -> None:
    """Play segments from `first` on, until all are, or the process is killed; tells every so many how far it is."""
    bundle = Bundle.open(path)
    with Detector(bundle, "cpu", self_test=False) as detector:
        site, drawn = site_of(bundle, folder), Drawn(bundle.calibration())
        recorders = Recorders(Teaching())
        recorders.add(site, detector)
        drifted: list[str] = []
        alarms = Alarms(None, calibrated=bundle.manifest.locators.full.threshold, step_s=STEP_S)
        sites = Sites(alarms, folder / "cameras")
        started = rfc3339(datetime.fromtimestamp(zero, UTC))
        recorders.write(RunRecord("r", started, bundle.manifest.bundle_id, "", list(CAMERAS)))
        located = {camera: detector.located(camera, run=f"{first:08d}") for camera in CAMERAS}
        streams = {
            camera: sites.begin(detector, "full", None, stream, lambda _, detail, *__: drifted.append(detail))
            for camera, stream in located.items()
        }
        nothing = np.empty((0, 0, 0, 3), np.uint8)
        for index in range(first, segments):
            start = index * STEP_S
            for camera in CAMERAS:
                segment = Segment(index - first, index * 48, index * 48 + 48, start, start + STEP_S, nothing)
                features = drawn.features(camera, index, segments)
                score = detector.score_features(camera, segment, features[None])
                for record in streams[camera].located(located[camera].take(segment, score)):
                    recorders.write(record)
            if index % _TOLD_EVERY == 0 or index + 1 == segments:
                scorer = detector.site_scorer
                used = scorer.weights if isinstance(scorer, SiteScorer) else None
                _tell({"index": index, "scorer": weights_name(used), "rss": _rss(), "drifted": len(drifted)})
            time.sleep(pace_s)
        # It is asked which scorer it uses, until it is told to end.
        for _ in sys.stdin:
            scorer = detector.site_scorer
            _tell({"index": segments, "scorer": weights_name(getattr(scorer, "weights", None)), "rss": _rss()})
        recorders.close()
        sites.close()


def operate(path: Path, folder: Path) -> None:
    """Do what each line asks for, and acknowledge it when it is done."""
    bundle = Bundle.open(path)
    site = site_of(bundle, folder)
    teaching = Teaching([site])
    for asked in _lines():
        try:
            _tell({"done": _operated(teaching, site, asked)})
        except Conflict as error:
            _tell({"refused": str(error)})
        except HeadHuntError as error:
            _tell({"failed": str(error)})


def _operated(teaching: Teaching, site: Site, asked: dict[str, Any]) -> Any:
    def mark() -> int | None:
        mark = teaching.mark_event(asked["event"], asked["verdict"])
        return None if mark is None else mark.id

    def undo() -> int:
        learned = teaching.undo()
        return 0 if learned is None else learned.number

    def events() -> list[list[Any]]:
        with site.open_store(create=False) as store:
            return [[event.id, event.camera, event.start, event.end] for event in store.events()]

    def state() -> dict[str, Any]:
        learned = read_learned(site)
        marks = [[mark.id, mark.verdict, mark.camera, mark.start, mark.end, mark.event] for mark in teaching.marks()]
        return {
            "marks": marks,
            "number": 0 if learned is None else learned.number,
            "scorer": weights_name(None if learned is None else learned.weights),
        }

    ways: dict[str, Callable[[], Any]] = {
        "mark": mark,
        "missed": lambda: teaching.mark_missed(asked["camera"], asked["start"], asked["end"]).id,
        "unmark": lambda: teaching.unmark(asked["mark"]),
        "accept": lambda: teaching.accept(teaching.propose().id).number,
        "undo": undo,
        "forget": lambda: teaching.forget(asked["camera"], asked["start"], asked["end"]).kept.segments,
        "events": events,
        "state": state,
    }
    return ways[asked["do"]]()


def _lines() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _tell(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


def _rss() -> float:
    """MiB of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "run":
        run(Path(words[1]), Path(words[2]), float(words[3]), int(words[4]), int(words[5]), float(words[6]))
    else:
        operate(Path(words[1]), Path(words[2]))
