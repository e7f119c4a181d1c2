"""Metrics as Prometheus reads them: every name, unit and help text, and what is left when a camera goes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from clips import ROOT

from edge_runtime.outputs.clips import ClipOptions, Clips
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.outputs.spool import Spool
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.watch.figures import DECISION_S, CameraFigures, Histogram, RunFigures, ScoringCounts
from edge_runtime.watch.tally import Tally

pytest.importorskip("prometheus_client", reason="the extra [http] is not installed")

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from edge_runtime.server.metrics import Metrics

ODD = 'gate "7"\\\n'


class Kept:
    name = "standard output"

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Run:
    """A run that stands still."""

    run_id, bundle_id = "0123abcd-20260131T120000000", "0123abcd" * 8
    started_at = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __init__(self, *names: str) -> None:
        self.names = names
        self.scoring = ScoringCounts()
        self.scoring.scored(8, 0.5)
        self.scoring.scored(1, 0.04)
        self.scoring.ahead_s = 12.5

    def figures(self) -> list[CameraFigures]:
        return [self.camera(name) for name in self.names]

    @staticmethod
    def camera(name: str) -> CameraFigures:
        tally, decision = Tally(), Histogram(DECISION_S)
        tally.add(SegmentRecord(name, 0, 0, 48, 0.0, 3.2, 0.25, 0.125, False))
        tally.add(GapRecord(name, 3.2, 10.0, "lost"))
        tally.add(GapRecord(name, 10.0, 11.0, "lost"))
        decision.observe(0.3)
        return CameraFigures(
            name=name,
            up=True,
            frames=48,
            last_frame_age_s=0.5,
            tally=tally,
            reconnections=3,
            recent_reconnections=1,
            quality=("covered",),
            waiting=1,
            decision=decision.distribution(),
        )


@pytest.fixture
def scraped(tmp_path: Path) -> Callable[[Run], str]:
    figures = RunFigures()
    figures.outputs = Outputs([Output(Kept())])
    figures.spool = Spool(tmp_path / "spool.sqlite")
    for sink in ("mqtt", "webhook"):
        figures.spool.claim(sink)
    figures.spool.append("mqtt", GapRecord("gate", 0.0, 1.0, "lost"))
    figures.clips = Clips(ClipOptions(folder=tmp_path / "clips", most_bytes=1000))
    metrics = Metrics(figures)

    def scrape(run: Run) -> str:
        figures.follow(run)
        return metrics.render()[0].decode()

    return scrape


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_counted_is_what_is_told(scraped: Callable[[Run], str]) -> None:
    found = samples(scraped(Run("gate", ODD)))

    def of(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    for camera in ("gate", ODD):
        assert of("headhunt_camera_up", camera=camera) == 1
        assert of("headhunt_camera_frames_total", camera=camera) == 48
        assert of("headhunt_camera_last_frame_age_seconds", camera=camera) == 0.5
        assert of("headhunt_camera_segments_total", camera=camera) == 1
        assert of("headhunt_camera_events_total", camera=camera) == 0
        assert of("headhunt_camera_score", camera=camera) == 0.25
        assert of("headhunt_camera_smoothed_score", camera=camera) == 0.125
        assert of("headhunt_camera_anomalous", camera=camera) == 0
        assert of("headhunt_camera_reconnections_total", camera=camera) == 3
        assert of("headhunt_camera_recent_reconnections", camera=camera) == 1
        assert of("headhunt_camera_waiting_segments", camera=camera) == 1
        assert of("headhunt_camera_gaps_total", camera=camera, reason="lost") == 2
        assert of("headhunt_camera_gaps_total", camera=camera, reason="dropped") == 0
        assert of("headhunt_camera_gap_seconds_total", camera=camera, reason="lost") == pytest.approx(7.8)
        assert of("headhunt_camera_quality", camera=camera, quality="covered") == 1
        assert of("headhunt_camera_quality", camera=camera, quality="frozen") == 0
        assert of("headhunt_camera_decision_seconds_bucket", camera=camera, le="0.25") == 0
        assert of("headhunt_camera_decision_seconds_bucket", camera=camera, le="0.5") == 1
        assert of("headhunt_camera_decision_seconds_count", camera=camera) == 1
        assert of("headhunt_camera_decision_seconds_sum", camera=camera) == pytest.approx(0.3)
    assert of("headhunt_cameras") == 2
    assert of("headhunt_scoring_seconds_count") == 2
    assert of("headhunt_scoring_seconds_sum") == pytest.approx(0.54)
    assert of("headhunt_scoring_batch_segments_bucket", le="1.0") == 1
    assert of("headhunt_scoring_batch_segments_bucket", le="8.0") == 2
    assert of("headhunt_encode_ahead_seconds_total") == 12.5
    assert of("headhunt_output_waiting_records", sink="standard output") == 0
    assert of("headhunt_output_lost_records_total", sink="standard output") == 0
    assert of("headhunt_spool_records", sink="mqtt") == 1
    assert of("headhunt_spool_records", sink="webhook") == 0
    assert of("headhunt_spool_oldest_age_seconds", sink="mqtt") >= 0
    assert of("headhunt_spool_lost_records_total") == 0
    assert of("headhunt_spool_in_memory") == 0
    assert of("headhunt_clips_bytes") == 0
    assert of("headhunt_clips_limit_bytes") == 1000
    assert of("headhunt_clips_failing") == 0
    assert of("process_resident_memory_bytes") > 1e6
    assert of("process_threads") >= 1
    assert of("process_open_fds") >= 3
    started = Run.started_at.timestamp()
    assert of("headhunt_run_start_time_seconds") == started
    (info,) = (labels for name, labels in found if name == "headhunt_run_info")
    assert dict(info).keys() == {"run", "version", "bundle"}


def test_of_a_camera_that_is_gone_nothing_is_left(scraped: Callable[[Run], str]) -> None:
    def cameras(text: str) -> set[str]:
        return {dict(labels)["camera"] for _, labels in samples(text) if "camera" in dict(labels)}

    assert cameras(scraped(Run("gate", "yard"))) == {"gate", "yard"}
    assert cameras(scraped(Run("yard"))) == {"yard"}
    assert cameras(scraped(Run())) == set()


def test_before_a_run_has_begun_there_is_the_process() -> None:
    text, media = Metrics(RunFigures()).render()
    assert media.startswith("text/plain; version=0.0.4")
    found = samples(text.decode())
    assert found["process_threads", ()] >= 1
    assert ("headhunt_run_start_time_seconds", ()) not in found


def test_who_asks_for_openmetrics_gets_it(scraped: Callable[[Run], str], tmp_path: Path) -> None:
    figures = RunFigures()
    figures.follow(Run("gate"))
    text, media = Metrics(figures).render("application/openmetrics-text; version=1.0.0")
    assert media.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in openmetrics_families(text.decode())}
    assert families["headhunt_camera_frames"] == "counter"
    assert families["headhunt_run"] == "info"


# What `promtool check metrics` looks for: base units, no types in names, `_total` of counters and of nothing else.
_UNITS = re.compile(
    "(milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)?(milliseconds|minutes|hours?|days?|weeks?|bits|ms|us|ns|min|kb|mb|gb)"
)


def test_names_units_and_help_are_as_prometheus_wants_them(scraped: Callable[[Run], str]) -> None:
    text = scraped(Run("gate"))
    for family in text_string_to_metric_families(text):
        ours = family.name.startswith("headhunt_")
        assert re.fullmatch("[a-z][a-z0-9_]*", family.name)
        assert family.documentation.strip()
        assert not ours or family.documentation[0].isupper()
        assert not ours or family.documentation.endswith(".")
        assert not _UNITS.fullmatch(family.name.split("_")[-1]), family.name
        assert not set(family.name.split("_")) & {"counter", "gauge", "histogram", "summary"}, family.name
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names == {f"{family.name}_total"}
        elif family.type == "histogram":
            assert names == {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            assert not any(name.endswith(("_total", "_count", "_sum", "_bucket")) for name in names)
        if ours and ("seconds" in family.name or "bytes" in family.name):
            assert family.name.endswith(("_seconds", "_bytes"))
    # One block each, and no sample twice.
    assert len(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)) == len(
        set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    )
    lines = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_buckets_rise_and_end_with_all(scraped: Callable[[Run], str]) -> None:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    found = samples(scraped(Run("gate")))
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            series[name].append((float(dict(labels)["le"]), value))
    for name, buckets in series.items():
        assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1][0] == float("inf")
        count = sum(value for (other, _), value in found.items() if other == name.replace("_bucket", "_count"))
        assert buckets[-1][1] == count


def test_every_metric_is_documented_and_every_documented_one_is_there(scraped: Callable[[Run], str]) -> None:
    text = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    told = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    there = {
        re.sub("_(bucket|count|sum)$", "", sample.name)
        for family in text_string_to_metric_families(scraped(Run("gate")))
        for sample in family.samples
    }
    assert told == there
    # Alerts and the dashboard ask for nothing else.
    for asked in (text, (ROOT / "deploy" / "grafana.json").read_text()):
        for name in re.findall(r"\bheadhunt_\w+", asked):
            assert re.sub("_(bucket|count|sum)$", "", name) in there, name


def test_what_the_page_and_the_dashboard_hold_can_be_read() -> None:
    text = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    scrape, alerts = (yaml.safe_load(block) for block in re.findall("```yaml\n(.*?)```", text, re.DOTALL))
    assert scrape["scrape_configs"][0]["job_name"] == "headhunt"
    (group,) = alerts["groups"]
    assert {"CameraDown", "FallingBehind", "DiskFull"} <= {rule["alert"] for rule in group["rules"]}
    assert all(rule["expr"] for rule in group["rules"])
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
