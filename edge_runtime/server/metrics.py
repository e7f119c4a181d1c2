"""A run in numbers, as Prometheus takes them. What is counted and where is in `watch.figures`; here are the names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from edge_runtime._version import __version__
from edge_runtime.errors import MissingExtra
from edge_runtime.records import GapReason, Quality
from edge_runtime.watch.figures import CameraFigures, Distribution, Figures, RunFigures

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_GAPS: Sequence[GapReason] = get_args(GapReason)
_WRONG: Sequence[Quality] = [quality for quality in get_args(Quality) if quality != "ok"]

#: The media type that is answered where nobody asks for another.
PLAIN = "text/plain"


class Metrics:
    """Answers a scrape. Any thread may ask, several at once.

    Args:
        figures: What is counted.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self, figures: RunFigures) -> None:
        try:
            from prometheus_client import CollectorRegistry, exposition
            from prometheus_client.process_collector import ProcessCollector
        except ImportError as error:
            raise MissingExtra(
                'prometheus-client is not installed; run: pip install "headhunt-edge[http]"'
            ) from error
        # Of its own: a program that embeds the edge has another one.
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(RunCollector(figures))
        self._choose = exposition.choose_encoder

    def render(self, accept: str = PLAIN) -> tuple[bytes, str]:
        """The text of all metrics.

        Args:
            accept: What the scraper's `Accept` header says: OpenMetrics or Prometheus' own form.

        Returns:
            The text and its media type.
        """
        encode, media = self._choose(accept)
        return encode(self._registry), media


class RunCollector:
    """Makes the metrics of a run when they are asked for: of cameras that are gone nothing is left.

    Args:
        figures: What is counted.
    """

    def __init__(self, figures: RunFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        now = self._figures.take()
        yield from _of_the_run(now)
        yield from _of_cameras(now.cameras)
        yield from _of_scoring(now)
        yield from _of_outputs(now)


def _of_the_run(now: Figures) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    if now.started is not None:
        yield InfoMetricFamily(
            "headhunt_run",
            "The run: its id, the version of the program and the bundle that scores.",
            {"run": now.run, "version": __version__, "bundle": now.bundle_id},
        )
        text = "When the run started, since 1970."
        yield GaugeMetricFamily("headhunt_run_start_time_seconds", text, value=now.started.timestamp())
    yield GaugeMetricFamily("headhunt_cameras", "Cameras that are watched now.", value=len(now.cameras))
    if now.process.threads is not None:
        yield GaugeMetricFamily("process_threads", "Threads of the process.", value=now.process.threads)


def _of_cameras(cameras: Sequence[CameraFigures]) -> Iterator[Metric]:
    for make, name, text, value in _CAMERAS:
        family = _family(make, name, text, ["camera"])
        for camera in cameras:
            if (found := value(camera)) is not None:
                family.add_metric([camera.name], found)
        yield family
    yield from _of_gaps(cameras)
    quality = _family(
        "gauge",
        "headhunt_camera_quality",
        "Whether this is wrong with the picture (1) or not (0).",
        ["camera", "quality"],
    )
    decision = _family(
        "histogram",
        "headhunt_camera_decision_seconds",
        "From the end of a segment to its record, what the locator waits for included.",
        ["camera"],
    )
    for camera in cameras:
        for wrong in _WRONG:
            quality.add_metric([camera.name, wrong], float(wrong in camera.quality))
        decision.add_metric([camera.name], _buckets(camera.decision), camera.decision.total)
    yield quality
    yield decision


def _of_gaps(cameras: Iterable[CameraFigures]) -> Iterator[Metric]:
    labels = ["camera", "reason"]
    count = _family("counter", "headhunt_camera_gaps_total", "Stretches that could not be scored.", labels)
    seconds = _family(
        "counter", "headhunt_camera_gap_seconds_total", "How long stretches were that could not be scored.", labels
    )
    for camera in cameras:
        for reason in _GAPS:
            gaps, lasted_s = camera.gaps(reason)
            count.add_metric([camera.name, reason], gaps)
            seconds.add_metric([camera.name, reason], lasted_s)
    yield count
    yield seconds


def _of_scoring(now: Figures) -> Iterator[Metric]:
    for name, text, found in (
        (
            "headhunt_scoring_seconds",
            "One call that scores segments, from their pixels to their probabilities.",
            now.scoring_seconds,
        ),
        ("headhunt_scoring_batch_segments", "Segments that were scored in one call.", now.scoring_batch),
    ):
        family = _family("histogram", name, text, [])
        family.add_metric([], _buckets(found), found.total)
        yield family
    ahead = _family(
        "counter", "headhunt_encode_ahead_seconds_total", "Time spent on frames before their segment ended.", []
    )
    ahead.add_metric([], now.ahead_s)
    yield ahead


def _of_outputs(now: Figures) -> Iterator[Metric]:
    waiting = _family(
        "gauge", "headhunt_output_waiting_records", "Records that wait in memory for an output.", ["sink"]
    )
    lost = _family(
        "counter", "headhunt_output_lost_records_total", "Records that an output will never get.", ["sink"]
    )
    for output in now.outputs:
        waiting.add_metric([output.sink], output.waiting)
        lost.add_metric([output.sink], output.lost)
    yield waiting
    yield lost
    if now.spool_lost is not None:
        yield from _of_the_spool(now, now.spool_lost)
    if now.clips is not None:
        for name, text, value in (
            ("headhunt_clips_bytes", "Bytes that snapshots and clips take.", now.clips[0]),
            ("headhunt_clips_limit_bytes", "Bytes that snapshots and clips may take.", now.clips[1]),
            ("headhunt_clips_failing", "Whether their folder cannot be written (1) or can (0).", now.clips_failing),
        ):
            family = _family("gauge", name, text, [])
            family.add_metric([], float(value))
            yield family


def _of_the_spool(now: Figures, dropped: int) -> Iterator[Metric]:
    records = _family("gauge", "headhunt_spool_records", "Records that wait in the spool for an output.", ["sink"])
    oldest = _family(
        "gauge", "headhunt_spool_oldest_age_seconds", "How long the oldest of them has waited.", ["sink"]
    )
    for sink in sorted({*now.spool, *now.spooled}):
        waiting = now.spool.get(sink)
        records.add_metric([sink], 0 if waiting is None else waiting.records)
        oldest.add_metric([sink], 0.0 if waiting is None else waiting.oldest_s)
    yield records
    yield oldest
    lost = _family("counter", "headhunt_spool_lost_records_total", "Records that the spool had to drop.", [])
    lost.add_metric([], dropped)
    yield lost
    memory = _family(
        "gauge",
        "headhunt_spool_in_memory",
        "Whether the disk takes nothing, and records wait in memory (1), or not (0).",
        [],
    )
    memory.add_metric([], float(now.spool_in_memory))
    yield memory


def _smoothed(camera: CameraFigures) -> float | None:
    return None if camera.last is None else camera.last.smoothed


def _score(camera: CameraFigures) -> float | None:
    return None if camera.last is None else camera.last.score


def _anomalous(camera: CameraFigures) -> float | None:
    return None if camera.last is None else float(camera.last.anomalous)


_CAMERAS: Sequence[tuple[str, str, str, Callable[[CameraFigures], float | None]]] = (
    ("gauge", "headhunt_camera_up", "Whether the camera gives frames (1) or not (0).", lambda one: float(one.up)),
    ("counter", "headhunt_camera_frames_total", "Frames that came.", lambda one: one.frames),
    (
        "gauge",
        "headhunt_camera_last_frame_age_seconds",
        "How long ago the last frame came; since when the camera is watched where none has.",
        lambda one: one.last_frame_age_s,
    ),
    (
        "counter",
        "headhunt_camera_segments_total",
        "Segments that have a score.",
        lambda one: one.tally.counts["segments"],
    ),
    ("counter", "headhunt_camera_events_total", "Events that began.", lambda one: one.tally.counts["events"]),
    ("gauge", "headhunt_camera_score", "The score of the last segment, 0 to 1.", _score),
    ("gauge", "headhunt_camera_smoothed_score", "The same as the locator smooths it.", _smoothed),
    ("gauge", "headhunt_camera_anomalous", "Whether the last segment was anomalous (1) or not (0).", _anomalous),
    (
        "counter",
        "headhunt_camera_reconnections_total",
        "How often the camera came back.",
        lambda one: one.reconnections,
    ),
    (
        "gauge",
        "headhunt_camera_recent_reconnections",
        "How often the camera came back in the last 60 minutes.",
        lambda one: one.recent_reconnections,
    ),
    ("gauge", "headhunt_camera_waiting_segments", "Segments that wait to be scored.", lambda one: one.waiting),
)


def _family(kind: str, name: str, text: str, labels: Sequence[str]) -> Any:
    """One metric without samples."""
    from prometheus_client import core

    made = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }[kind]
    return made(name, text, labels=list(labels))


def _buckets(found: Distribution) -> list[tuple[str, int]]:
    return [("+Inf" if math.isinf(bound) else str(float(bound)), count) for bound, count in found.up_to()]
