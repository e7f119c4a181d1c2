"""What ten marks do at a site whose normal life the calibration set never showed, against a threshold alone.

    python benchmarks/feedback.py --act jogger --output feedback        # benchmarks/feedback.txt

Calibration, validation and test scenes are generated without one kind of normal act; at the site it happens all the
time. Ten alarms of the first half of the site's videos are marked as false, the scorer is refitted, and the second
half and the real events of the test scenes are judged, before and after, over twenty draws of the ten. The threshold
alone is raised until it gives as few false alarms in the second half as the marks do: the best that it could do,
since nobody at a site knows where that is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engines import fitted_on, open_engine
from edge_runtime.site.feedback import Rule, alarms
from edge_runtime.site.scorer import SiteScorer, refit
from edge_runtime.stream.locator import LocatorSpec
from models.reference.architecture import REFERENCE
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import read_dataset
from offline.evaluation.metrics import frame_auc
from offline.extraction.extract import ExpertFeatures, Extracted, Extraction, extract
from offline.recipes.build import BuildOptions, build
from offline.scenes import SceneSet, SplitSize, directors, generate, life
from offline.scenes.world import World

MARKS, DRAWS = 10, 20
NOTHING = SplitSize(0, 0)
ACTS = ("jogger", "greeting", "shoelace", "crowd", "sweeper", "cyclist", "bag_rest")


@contextmanager
def acting(change: Callable[[list[life.Act]], list[life.Act]]) -> Iterator[None]:
    """Scenes with other normal acts."""
    plain = directors._acts

    def changed(world: World) -> list[life.Act]:
        return change(plain(world))

    with patch.object(directors, "_acts", changed):
        yield


@dataclass(frozen=True)
class Judged:
    """Videos with their features, on one axis of time."""

    videos: Sequence[Extracted]
    calibration: Calibration
    locator: LocatorSpec

    def scores(self, weights: np.ndarray) -> list[np.ndarray]:
        """Segment by segment, of each video."""
        scorer = SiteScorer(weights, self.calibration.mean, self.calibration.scale)
        return [scorer.probabilities(one.features).astype(np.float64) for one in self.videos]

    def alarms(self, weights: np.ndarray, threshold: float) -> list[tuple[int, float, float]]:
        """The video, start and end frame of each alarm."""
        found = []
        for place, (one, scores) in enumerate(zip(self.videos, self.scores(weights), strict=True)):
            spans = one.spans.astype(np.float64)
            for alarm in alarms("", spans[:, 0], spans[:, 1], scores, Rule(self.locator, threshold)):
                found.append((place, alarm.start, alarm.end))
        return found

    def auc(self, weights: np.ndarray) -> float:
        """Frame-level AUC of the smoothed scores."""
        from offline.data.scores import VideoScores

        labels, values = [], []
        for one, scores in zip(self.videos, self.scores(weights), strict=True):
            video = VideoScores.of_segments(one.video.name, one.frames, one.spans, scores.tolist())
            labels.append(one.video.frame_labels(one.frames))
            values.append(video.smoothed(self.locator.sigma, self.locator.lookahead).expand())
        return float(frame_auc(np.concatenate(labels), np.concatenate(values)) or 0.0)

    def found_events(self, weights: np.ndarray, threshold: float) -> tuple[int, int]:
        """How many real events an alarm meets, and how many there are."""
        told = self.alarms(weights, threshold)
        events = [(place, *span) for place, one in enumerate(self.videos) for span in one.video.events]
        hit = [any(at == place and a < end and b > start for at, a, b in told) for place, start, end in events]
        return sum(hit), len(hit)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--act", choices=ACTS, default="jogger")
    parser.add_argument("--output", type=Path, required=True, help="Folder for scenes and bundle; used again.")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--site-videos", type=int, default=60)
    given = parser.parse_args(arguments)
    act: life.Act = getattr(life, given.act)
    console = Console(quiet=True)
    folder: Path = given.output

    with acting(lambda acts: [one for one in acts if one is not act]):
        plan = SceneSet(calibration=SplitSize(16, 16), validation=SplitSize(10, 10), test=SplitSize(12, 16))
        without = generate(folder / f"without-{given.act}", seed=given.seed, scenes=plan)
    print(f"scenes without {given.act}: {without}", file=sys.stderr, flush=True)
    with acting(lambda acts: [act] * (2 * len(acts)) + acts):
        plan = SceneSet(calibration=NOTHING, validation=NOTHING, test=SplitSize(given.site_videos, 0))
        site_csv = generate(folder / f"site-{given.act}", seed=given.seed + 1, scenes=plan)
    print(f"the site's scenes: {site_csv}", file=sys.stderr, flush=True)

    target = folder / f"bundle-{given.act}"
    if not target.is_dir():
        build(BuildOptions(model=REFERENCE, manifest=without, output=target, depth_curve=False), console)
    bundle = Bundle.open(target)
    print(f"bundle: {target}", file=sys.stderr, flush=True)
    manifest, calibration = bundle.manifest, bundle.calibration()
    graphs = open_engine(bundle, fitted_on(manifest))
    extraction = Extraction(
        ExpertFeatures(graphs, [entry.sha256 for entry in manifest.files if entry.path.endswith((".onnx", ".data"))]),
        manifest.pixels,
        manifest.segment,
        EntryStore(folder / f"cache-{given.act}"),
    )

    def judged(csv: Path) -> list[Extracted]:
        videos = list(read_dataset(csv).split("test"))
        return extract(videos, {video.name: "segment" for video in videos}, extraction)

    def among(videos: Sequence[Extracted]) -> Judged:
        return Judged(videos, calibration, manifest.locators.full)

    site, real = judged(site_csv), among(judged(without))
    half = len(site) // 2
    marking, later = among(site[:half]), among(site[half:])
    report(given.act, manifest.locators.full, calibration, marking, later, real)


def report(
    act: str, locator: LocatorSpec, calibration: Calibration, marking: Judged, later: Judged, real: Judged
) -> None:
    """Judge and print."""
    prior, threshold = calibration.prior_mean, locator.threshold
    pool = marking.alarms(prior, threshold)
    hours = sum(one.frames / (one.fps or 15.0) for one in later.videos) / 3600
    before = len(later.alarms(prior, threshold))
    found, events = real.found_events(prior, threshold)
    print(f"$ python benchmarks/feedback.py --act {act}\n")
    print(
        f"{len(marking.videos)} + {len(later.videos)} site videos with {act}, {len(real.videos)} test videos "
        f"without; {len(pool)} alarms to mark from; sigma {locator.sigma:g}, threshold {threshold:g}"
    )
    print(f"{'':34} {'false alarms an hour':>24} {'gone':>7} {'events found':>13} {'AUC':>7}")

    def row(name: str, false: float, hit: float, auc: float) -> None:
        gone = f"{100 * (1 - false / before):.0f} %" if before else "-"
        print(f"{name:34} {false / hours:24.1f} {gone:>7} {hit:7.1f} of {events:<2} {auc:7.3f}")

    row("the bundle's scorer", before, found, real.auc(prior))
    rng = np.random.default_rng(0)
    results = []
    for _ in range(DRAWS if len(pool) > MARKS else 1):
        drawn = [pool[place] for place in rng.permutation(len(pool))[:MARKS]]
        rows, groups = [], []
        for number, (video, start, end) in enumerate(drawn):
            one = marking.videos[video]
            inside = (one.spans[:, 0] >= start) & (one.spans[:, 1] <= end)
            rows.append(one.features[inside])
            groups += [number] * int(inside.sum())
        features = np.concatenate(rows)
        fit = refit(calibration, features, np.zeros(len(features), bool), groups)
        false = len(later.alarms(fit.weights, threshold))
        hit, _ = real.found_events(fit.weights, threshold)
        # The lowest threshold with as few false alarms.
        limit = next(t for t in np.linspace(threshold, 1.0, 1001) if len(later.alarms(prior, float(t))) <= false)
        raised = real.found_events(prior, float(limit))[0]
        results.append((false, hit, real.auc(fit.weights), limit, len(later.alarms(prior, float(limit))), raised))
    false, hit, auc, limit, quiet, raised = np.mean(results, axis=0)
    row(f"{min(MARKS, len(pool))} marks, mean of {len(results)} draws", false, hit, auc)
    row(f"threshold alone at {limit:.2f}", quiet, raised, real.auc(prior))
    spread = np.std(results, axis=0)
    print(
        f"\nbetween draws: ± {spread[0] / hours:.1f} false alarms an hour, ± {spread[1]:.1f} events, "
        f"± {spread[2]:.3f} AUC"
    )


if __name__ == "__main__":
    main()
