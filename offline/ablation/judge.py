"""From a row's scores to its figures: its own locator, one ruler, intervals.

Every row gets the locator that suits it best on the validation videos, as a build would give it. Intervals are
over videos, with the same draws for every row, so that rows can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from edge_runtime.stream.locator import LocatorSpec
from offline.ablation.result import Candidate, Figure, Row
from offline.ablation.rows import Method
from offline.arrays import BoolArray, Floating
from offline.calibration.locator import ScoredVideo, best_threshold, calibrate, f1_curve
from offline.data.dataset import Video
from offline.evaluation.bootstrap import Resampling, bootstrap_differences, bootstrap_f1_at
from offline.evaluation.figures import SeriesFigures, class_of, evaluate_scores
from offline.evaluation.yardsticks import Series

_CALIBRATED = "calibrated"
LEVEL = 0.95
_NO_INTERVALS = Resampling(draws=0)


@dataclass(frozen=True, slots=True, eq=False)
class _Located:
    """One candidate: its raw scores, its locator and its AUC on the validation videos with that locator."""

    name: str
    series: Series
    locator: LocatorSpec
    validation_auc: float | None


class Judge:
    """Judges rows on the same videos. The first row is what the others are compared with.

    Args:
        validation: Videos with known times, of both kinds of frames.
        judged: The split; videos without known times are in no frame figure.
        unseen: Kinds of anomaly to judge apart, against all normal videos.
        draws: Of the bootstrap over videos.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        validation: Sequence[Video],
        judged: Sequence[Video],
        *,
        unseen: Sequence[str] = (),
        draws: int = 1000,
        seed: int = 0,
    ) -> None:
        self._validation, self._judged = tuple(validation), tuple(judged)
        self._unseen = tuple(v for v in judged if not v.anomalous or class_of(v) in unseen) if unseen else ()
        self._draws, self._seed = draws, seed
        self._first: list[tuple[BoolArray, Floating]] | None = None
        self._first_auc: float | None = None

    def row(self, method: Method, candidates: Mapping[str, Series]) -> Row:
        """Judge one row by the scores of each of its candidates; there are none where it gives a reason."""
        empty = Row(name=method.name, group=method.group, how=method.how, reason=method.reason)
        if not candidates:
            if method.reason is None:
                raise ValueError(f"row {method.name!r} has neither scores nor a reason for having none")
            return empty
        located = [self._locate(name, series, method) for name, series in candidates.items()]
        if method.pick == "mean":
            return self._mean(empty, located)
        best = max(located, key=lambda one: -1.0 if one.validation_auc is None else one.validation_auc)
        probe = method.probes.get(best.name)
        row = self._single(replace(empty, heads=() if probe is None else probe.heads), best)
        if method.pick == "only":
            return row
        return replace(
            row, chosen=best.name, candidates=tuple(Candidate(one.name, one.validation_auc) for one in located)
        )

    def _locate(self, name: str, series: Series, method: Method) -> _Located:
        scored = [ScoredVideo.of(video, series[video.name]) for video in self._validation]
        if method.smoothed:
            locator = calibrate(scored).full
        else:
            threshold, f1 = best_threshold(f1_curve(scored, 0.0, 0))
            locator = LocatorSpec(sigma=0.0, threshold=threshold, lookahead=0, calibrated=True, f1=f1)
        if method.threshold is not None:
            locator = LocatorSpec(
                sigma=locator.sigma, threshold=method.threshold, lookahead=locator.lookahead, calibrated=False
            )
        return _Located(name, series, locator, self._figures(self._validation, series, locator, 0).auc)

    def _single(self, row: Row, one: _Located) -> Row:
        figures = self._figures(self._judged, one.series, one.locator, self._draws)
        pairs = self._pairs(one)
        if self._first is None:
            self._first, self._first_auc, difference = pairs, figures.auc, None
        else:
            difference = Figure.of(
                _minus(figures.auc, self._first_auc),
                bootstrap_differences(pairs, self._first, draws=self._draws, level=LEVEL, seed=self._seed)["auc"],
            )
        f1 = figures.f1[_CALIBRATED]
        unseen = None
        if self._unseen:
            apart = self._figures(self._unseen, one.series, one.locator, self._draws)
            unseen = Figure.of(apart.auc, apart.intervals["auc"])
        interval = bootstrap_f1_at(pairs, one.locator.threshold, draws=self._draws, level=LEVEL, seed=self._seed)
        return replace(
            row,
            auc=Figure.of(figures.auc, figures.intervals["auc"]),
            ap=Figure.of(figures.pr_auc_trapezoid, figures.intervals["pr_auc_trapezoid"]),
            f1=Figure.of(None if f1 is None else f1.f1, interval),
            difference=difference,
            unseen=unseen,
            raw_auc=evaluate_scores(self._judged, one.series, resampling=_NO_INTERVALS).series["raw"].auc,
            classes={name: figure.auc for name, figure in figures.classes.items()},
            sigma=one.locator.sigma,
            threshold=one.locator.threshold,
        )

    def _mean(self, row: Row, located: Sequence[_Located]) -> Row:
        each = [(one, self._figures(self._judged, one.series, one.locator, 0)) for one in located]
        aucs = [figures.auc for _, figures in each]
        f1s = [figures.f1[_CALIBRATED] for _, figures in each]
        raw = [
            evaluate_scores(self._judged, one.series, resampling=_NO_INTERVALS).series["raw"].auc for one in located
        ]
        auc = _spread(aucs)
        return replace(
            row,
            auc=auc,
            ap=_spread([figures.pr_auc_trapezoid for _, figures in each]),
            f1=_spread([None if point is None else point.f1 for point in f1s]),
            difference=Figure(_minus(auc.value, self._first_auc), spread=auc.spread),
            unseen=_spread([self._figures(self._unseen, one.series, one.locator, 0).auc for one in located])
            if self._unseen
            else None,
            raw_auc=_spread(raw).value,
            classes={
                kind: _spread([figures.classes[kind].auc for _, figures in each]).value for kind in each[0][1].classes
            },
            candidates=tuple(
                Candidate(one.name, one.validation_auc, auc) for one, auc in zip(located, aucs, strict=True)
            ),
        )

    def _figures(self, videos: Sequence[Video], series: Series, locator: LocatorSpec, draws: int) -> SeriesFigures:
        """Frame figures of the smoothed scores."""
        smoothed = {v.name: series[v.name].smoothed(locator.sigma, locator.lookahead) for v in videos}
        points = {_CALIBRATED: locator.threshold}
        judged = evaluate_scores(videos, smoothed, thresholds=points, resampling=Resampling(draws, LEVEL, self._seed))
        # The only series is called raw there.
        return judged.series["raw"]

    def _pairs(self, one: _Located) -> list[tuple[BoolArray, Floating]]:
        """Labels and smoothed scores of every judged video with known times, in their order."""
        pairs: list[tuple[BoolArray, Floating]] = []
        for video in self._judged:
            if video.timed:
                scores = one.series[video.name].smoothed(one.locator.sigma, one.locator.lookahead).expand()
                known = ~np.isnan(scores)
                pairs.append((video.frame_labels(len(scores))[known], scores[known]))
        return pairs


def _spread(values: Sequence[float | None]) -> Figure:
    """Mean and sample standard deviation; undefined if any of them is."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Figure(None)
    return Figure(fmean(known), spread=stdev(known) if len(known) > 1 else None)


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
