"""The simulator keeps count, obeys what queues must obey, and runs the plans that the real backlog and graphs run."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from triton_server import TritonServer, backends, served_bundle

from edge_runtime import Bundle, Detector
from edge_runtime.inference.triton_engine import TritonEngine

pytest.importorskip("simpy", reason="the simulator needs SimPy: pip install simpy")

from benchmarks import fleet
from benchmarks.fleet_picture import read_rows
from benchmarks.fleet_real import ServerFigures, measure_service, run_boxes, run_here
from benchmarks.fleet_simulator import Outcome, Plan, Service, StageTotals, Times, simulate

__all__ = ["backends", "served_bundle"]

FAST = Service((Times({1: (0.02,), 8: (0.08,)}),))


@pytest.mark.parametrize("cameras", [1, 50, 159, 400])
def test_every_segment_is_scored_or_lost(cameras: int) -> None:
    seconds, plan = 320.0, Plan(cameras=cameras)
    out = simulate(plan, FAST, seconds)
    offered = cameras * seconds / plan.period_s
    # What waits at the end is in neither count, and what waited at the beginning may be in one.
    assert len(out.latencies_s) + out.dropped + out.unscored == pytest.approx(
        offered, abs=2 * plan.waiting * cameras + 1
    )
    assert min(out.latencies_s) >= 0.02 - 1e-9
    assert out.busy_s <= seconds + 0.02


def test_what_a_server_cannot_do_is_lost_and_nothing_else() -> None:
    # 160 segments in 3.2 s are all that 20 ms each allow.
    assert simulate(Plan(cameras=150), FAST, 320).lost == 0.0
    assert simulate(Plan(cameras=320), FAST, 640).lost == pytest.approx(0.5, abs=0.01)
    # Batches of eight take 10 ms a segment.
    batched = Plan(cameras=300, box_batch=8, server_batch=8)
    assert simulate(batched, FAST, 320).lost == 0.0
    assert simulate(Plan(cameras=300, boxes=30, servers=2), FAST, 320).lost == 0.0


def test_many_cameras_wait_like_random_arrivals_of_the_same_load_or_less() -> None:
    """Pollaczek and Khinchine: M/D/1 waits ρ / (2 (1 - ρ)) service times; periodic arrivals of many wait less."""
    cameras, seconds = 400, 0.7 * 3.2 / 400
    out = simulate(Plan(cameras=cameras), Service((Times({1: (seconds,)}),)), 640, seed=1)
    waited = (np.mean(out.latencies_s) - seconds) / seconds
    assert 0.5 * 0.7 / 0.6 < waited < 1.15 * 0.7 / 0.6


def test_servers_gather_the_requests_of_boxes() -> None:
    alone = Plan(cameras=300, boxes=300, server_batch=1)
    together = Plan(cameras=300, boxes=300, server_batch=8)
    assert simulate(alone, FAST, 160).lost > 0.4
    assert simulate(together, FAST, 160).lost == 0.0


def test_stages_work_side_by_side() -> None:
    """Two stages of 20 ms each carry what one of 20 ms carries, and twice as late."""
    stage = FAST.stages[0]
    behind = simulate(Plan(cameras=150, boxes=150), Service((stage, stage)), 320)
    assert behind.lost == 0.0
    assert min(behind.latencies_s) >= 0.04 - 1e-9
    assert len(behind.stages) == 2
    for one in behind.stages:
        assert one.segments == pytest.approx(150 * 100, abs=150)
        assert one.worked_s == pytest.approx(0.02 * one.runs)
    assert simulate(Plan(cameras=150, boxes=150), Service((Times({1: (0.04,)}),)), 320).lost > 0.4
    # Stages that share a processor take as long as one that does the work of both.
    shared = simulate(Plan(cameras=150, boxes=150), Service((stage, stage), crowded=2.0), 320)
    assert shared.lost == pytest.approx(0.5, abs=0.05)
    alone = simulate(Plan(cameras=1), Service((stage, stage), crowded=2.0), 64)
    assert alone.latencies_s == pytest.approx([0.04] * len(alone.latencies_s))
    # Two at once of each.
    assert simulate(Plan(cameras=300, boxes=300, instances=2), Service((stage,)), 320).lost == 0.0


def test_a_lone_segment_waits_for_others_and_a_full_batch_does_not() -> None:
    lone = simulate(Plan(cameras=1, server_batch=8, delay_s=0.1), FAST, 64)
    assert lone.latencies_s == pytest.approx([0.12] * len(lone.latencies_s))
    # A second's wait before every batch would cost four segments of five.
    assert simulate(Plan(cameras=300, box_batch=8, server_batch=8, delay_s=1.0), FAST, 320).lost == 0.0
    assert simulate(Plan(cameras=300, box_batch=7, server_batch=8, delay_s=1.0), FAST, 320).lost > 0.7
    assert simulate(Plan(cameras=1), FAST, 32, warm_s=0).latencies_s
    assert Service((FAST.stages[0],), beside=Times({1: (0.3,)})).faster(2).beside == Times({1: (0.3,)})
    far = simulate(Plan(cameras=1), Service((FAST.stages[0],), beside=Times({1: (0.3,)})), 64)
    assert far.latencies_s == pytest.approx([0.32] * len(far.latencies_s))


def test_network_and_deadline_count() -> None:
    far = Plan(cameras=2, boxes=2, request_bytes=1_250_000, link_bytes_per_s=1.25e7, round_trip_s=0.05)
    assert min(simulate(far, FAST, 64).latencies_s) == pytest.approx(0.1 + 0.05 + 0.02)
    late = simulate(Plan(cameras=2, boxes=2, round_trip_s=0.05, deadline_s=0.06), FAST, 64)
    assert not late.latencies_s
    assert late.unscored == pytest.approx(2 * 64 / 3.2, abs=2)


def test_the_same_seed_gives_the_same_and_times_are_drawn_from_what_was_measured() -> None:
    known = Times({1: tuple(np.sort(np.random.default_rng(0).gamma(2, 0.01, 50))), 4: tuple(np.full(50, 0.1))})
    one, other = (simulate(Plan(cameras=40), Service((known,)), 100, seed=3).latencies_s for _ in range(2))
    assert one == other
    drawn = [known.seconds(1, share) for share in np.random.default_rng(1).random(4000)]
    assert np.quantile(drawn, 0.5) == pytest.approx(np.quantile(known.by_batch[1], 0.5), rel=0.1)
    assert known.seconds(8, 0.3) == pytest.approx(0.2)
    for share in (0.0, 0.31, 0.5, 0.999):
        single = np.quantile(known.by_batch[1], share)
        assert known.seconds(1, share) == pytest.approx(single)
        assert known.seconds(3, share) == pytest.approx(single + (0.1 - single) * 2 / 3)
        assert known.seconds(4, share) == pytest.approx(0.1)
    assert known.mean(1) == pytest.approx(np.mean(known.by_batch[1]), rel=0.05)
    assert known.faster(2).seconds(4, 0.5) == pytest.approx(0.05)


def test_the_real_thing_runs_the_same_plan(bundle: Bundle) -> None:
    """Where nothing is overloaded: all is scored, as many as were offered; how fast is the campaign's business."""
    plan = Plan(cameras=6, period_s=0.5)
    with Detector(bundle, provider="cpu", threads=1, self_test=False) as detector:
        known = measure_service(detector, 5)
        real = run_here(plan, detector, 4.0)
    simulated = simulate(plan, known, 4.0)
    assert len(simulated.latencies_s) == pytest.approx(48, abs=6)
    assert len(real.latencies_s) + real.dropped == pytest.approx(48, abs=8)


def test_what_is_printed_can_be_drawn(tmp_path: Path) -> None:
    out = Outcome([0.02, 0.04, 0.4], dropped=1, stages=[StageTotals(3, 3, 8.0), StageTotals(2, 3, 4.0)])
    lines = ["cameras   latency", fleet._row(120, "real", out, 10.0, Plan(cameras=120))]
    lines += [fleet._row(7, "simulated", Outcome(), 10.0, Plan(cameras=7)), "3 real segments, 4 ms"]
    one, none = read_rows(lines)
    assert (one.cameras, one.name, one.lost, one.busy) == (120, "real", 25.0, 80.0)
    assert one.latencies_ms == pytest.approx((40, 364, 393), abs=0.5)
    assert np.isnan(none.latencies_ms).all()
    (tmp_path / "fleet.txt").write_text("\n".join(lines))
    done = CliRunner().invoke(fleet.main, ["picture", f"{tmp_path}/fleet.txt", f"{tmp_path}/fleet.svg"])
    assert done.exit_code == 0, done.output
    assert "<svg" in (tmp_path / "fleet.svg").read_text()
    (tmp_path / "fleet.txt").write_text("nothing\n")
    done = CliRunner().invoke(fleet.main, ["picture", f"{tmp_path}/fleet.txt", f"{tmp_path}/none.svg"])
    assert done.exit_code == 1
    assert "no row" in done.output


def test_a_simulation_without_what_was_measured_is_one_line(tmp_path: Path) -> None:
    words = ["simulate", "--service", f"{tmp_path}/service.json"]
    for content in (None, b"", b"{}", b"nothing", b"\xff"):
        if content is not None:
            (tmp_path / "service.json").write_bytes(content)
        done = CliRunner().invoke(fleet.main, words)
        assert done.exit_code == 1
        assert re.fullmatch(r"Error: .*service\.json: cannot be read \(.*fleet service --output .*\n", done.output)
    for option in ("--faster", "--link-gbit", "--seconds"):
        for value in ("0", "nan"):
            done = CliRunner().invoke(fleet.main, [*words, option, value])
            assert done.exit_code == 2
            assert f"Error: Invalid value for '{option}'" in done.output


def test_boxes_share_a_real_server(bundle: Bundle, bundle_dir: Path, served_bundle: TritonServer) -> None:
    """Where there is room: all is scored, as the server counts it as well, and it says how it was configured."""
    plan = replace(figures_plan(bundle, served_bundle, 6), period_s=0.5)
    assert (plan.server_batch, plan.instances, plan.delay_s) == (4, 1, 0.0005)
    engine = TritonEngine(bundle.manifest, served_bundle.address)
    with (
        closing(engine),
        closing(ServerFigures(bundle.manifest, served_bundle.address)) as figures,
        Detector(bundle, engine=engine, self_test=False) as detector,
    ):
        known = figures.measure(detector, 3)
        assert len(known.stages) == 2
        assert all(min(stage.by_batch[1]) > 0 for stage in known.stages)
        assert 1 <= known.crowded < 10
        real = run_boxes(plan, bundle_dir, served_bundle.address, figures, 4.0)
    assert real.unscored == 0
    assert len(real.latencies_s) + real.dropped == pytest.approx(48, abs=8)
    for stage in real.stages:
        assert stage.segments == pytest.approx(len(real.latencies_s), abs=8)
        assert stage.runs <= stage.segments
    simulated = simulate(plan, known, 4.0)
    assert len(simulated.latencies_s) == pytest.approx(48, abs=6)


def figures_plan(bundle: Bundle, server: TritonServer, cameras: int) -> Plan:
    with closing(ServerFigures(bundle.manifest, server.address)) as figures:
        return figures.plan(cameras, boxes=2)
