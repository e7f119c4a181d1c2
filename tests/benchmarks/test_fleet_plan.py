"""The plan counts up: what is bought carries what is asked, with the share left free that was asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.fleet_plan import HOURS, Costs, cameras_a_box, cameras_a_gpu, main, plan_fleet

COSTS = Costs()
FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_costs_are_those_of_the_size_that_the_model_sees() -> None:
    """Pixels, JPEG and graphs are all of 448 x 448, as their files say."""
    table = (FOLDER / "pixels.txt").read_text()
    pixels = re.search(r"^1920 x 1080 +bicubic +448 .* ([\d.]+) +[\d.]+ *$", table, re.M)
    jpeg = re.search(r"^ *448 +95 +(\d+) .* ([\d.]+)$", (FOLDER / "wire.txt").read_text(), re.M)
    assert pixels is not None
    assert jpeg is not None
    assert float(pixels[1]) == COSTS.pixels_ms
    assert 1000 * float(jpeg[1]) == pytest.approx(COSTS.wire_bytes, rel=0.01)
    assert float(jpeg[2]) == pytest.approx(COSTS.encode_ms, abs=0.5)


def test_the_page_has_what_the_command_prints() -> None:
    page = (FOLDER.parent / "docs" / "scaling.md").read_text()
    assert f"$ python -m benchmarks.fleet_plan\n{CliRunner().invoke(main).output}" in page


@pytest.mark.parametrize("cameras", [1, 10, 999, 100_000])
def test_what_is_planned_carries_the_load_and_one_less_would_not(cameras: int) -> None:
    plan = plan_fleet(cameras, COSTS)
    core_s = COSTS.fps * COSTS.decode_ms / 1000 + (COSTS.pixels_ms + COSTS.encode_ms) / 1000 / COSTS.period_s
    # A box never takes a part of a camera.
    assert -(-cameras // plan.boxes) * core_s <= COSTS.full * COSTS.box_cores
    assert (plan.boxes - 1) * cameras_a_box(COSTS) < cameras
    work = cameras * COSTS.segment_tflop / COSTS.period_s
    each = COSTS.gpu_tflops * COSTS.full
    assert (plan.gpus - 1) * each < work <= plan.gpus * each * (1 + 1e-9)
    assert plan.uplink_mbit == pytest.approx(plan.boxes * plan.box_uplink_mbit)


def test_money_is_what_was_bought_and_burned() -> None:
    free = replace(COSTS, kwh_price=0.0)
    assert plan_fleet(1, free).yearly == pytest.approx((free.box_price + free.gpu_price) / free.years)
    burned = replace(COSTS, box_price=0.0, gpu_price=0.0)
    kilowatts = (burned.box_watts + burned.gpu_watts) / 1000
    assert plan_fleet(1, burned).yearly == pytest.approx(kilowatts * HOURS * burned.kwh_price)


def test_what_is_scored_on_the_box_is_not_encoded() -> None:
    assert cameras_a_box(replace(COSTS, wire_bytes=0)) == cameras_a_box(replace(COSTS, encode_ms=0.0))
    assert cameras_a_box(COSTS) < cameras_a_box(replace(COSTS, wire_bytes=0))


def test_half_the_work_needs_half_the_gpus() -> None:
    assert cameras_a_gpu(replace(COSTS, segment_tflop=COSTS.segment_tflop / 2)) == 2 * cameras_a_gpu(COSTS)


def test_the_command_takes_every_cost() -> None:
    words = [word for name in Costs.__dataclass_fields__ for word in (f"--{name.replace('_', '-')}", "3")]
    done = CliRunner().invoke(main, ["--cameras", "7", *words])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].split()[0] == "7"
