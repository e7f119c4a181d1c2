"""The plan counts up: what is bought carries what is asked, with the share left free that was asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet_plan import HOURS, Costs, cameras_a_box, cameras_a_gpu, main, plan_fleet

COSTS = Costs()
# What may be none, and what may be so little that it is as good as none.
NONE_OR_MORE = {
    *("pixels_ms", "encode_ms", "wire_bytes"),
    *("box_price", "box_watts", "gpu_price", "gpu_watts", "kwh_price"),
}
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
    region = plan_fleet(2000, COSTS)
    said = f"{region.boxes} boxes, {region.gpus} GPUs and {region.uplink_mbit / 1000:.0f} Gbit/s each: "
    assert f"{said}{50 * region.boxes:,} boxes and {50 * region.gpus:,} GPUs in all" in page
    together = plan_fleet(1000, replace(COSTS, wire_bytes=0))
    assert together.boxes == together.gpus
    assert f"{together.boxes} boxes and as many GPUs for 1,000 cameras,\n{together.yearly:.2f} a camera" in page
    for pixels_ms, boxes_of in ((178.8, "448 x 448, bicubic"), (78.6, "448 x 448, area")):
        local, sent = (replace(COSTS, pixels_ms=pixels_ms, wire_bytes=wire) for wire in (0, COSTS.wire_bytes))
        assert f"| {boxes_of} | {cameras_a_box(local)} | {cameras_a_box(sent)} |" in page


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


@given(
    cameras=st.integers(1, 2000),
    gpu=st.floats(1.0, 5000.0),
    cores=st.integers(1, 32),
)
def test_where_nothing_travels_each_box_has_gpus_for_its_own_cameras(cameras: int, gpu: float, cores: int) -> None:
    costs = replace(COSTS, wire_bytes=0, gpu_tflops=gpu, box_cores=cores)
    plan = plan_fleet(cameras, costs)
    shared = plan_fleet(cameras, replace(costs, wire_bytes=1, encode_ms=0.0))
    assert plan.boxes == shared.boxes
    assert (plan.uplink_mbit, plan.box_uplink_mbit) == (0.0, 0.0)
    # No box without one, none fewer than shared ones would be, and in each box less than one too many.
    assert max(plan.boxes, shared.gpus) <= plan.gpus < shared.gpus + plan.boxes


def test_what_is_scored_on_the_box_is_not_encoded() -> None:
    assert cameras_a_box(replace(COSTS, wire_bytes=0)) == cameras_a_box(replace(COSTS, encode_ms=0.0))
    assert cameras_a_box(COSTS) < cameras_a_box(replace(COSTS, wire_bytes=0))


def test_half_the_work_needs_half_the_gpus() -> None:
    assert cameras_a_gpu(replace(COSTS, segment_tflop=COSTS.segment_tflop / 2)) == 2 * cameras_a_gpu(COSTS)


def test_the_command_takes_every_cost() -> None:
    words = [word for name in Costs.__dataclass_fields__ for word in (f"--{name.replace('_', '-')}", "1")]
    done = CliRunner().invoke(main, ["--cameras", "7", *words])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].split()[0] == "7"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e-320", "1e308"])
@pytest.mark.parametrize("name", [*Costs.__dataclass_fields__, "cameras"])
def test_no_number_is_a_traceback(name: str, value: str) -> None:
    """It is planned with, or refused by its option's name in one line."""
    option = f"--{name.replace('_', '-')}"
    done = CliRunner().invoke(main, [option, value])
    assert isinstance(done.exception, SystemExit | None), done.exception
    allowed = name in NONE_OR_MORE and (value == "0" or (value == "1e-320" and name != "wire_bytes"))
    assert done.exit_code == (0 if allowed else 2), done.output
    if done.exit_code:
        assert done.output.splitlines()[-1].startswith(f"Error: Invalid value for '{option}'")
