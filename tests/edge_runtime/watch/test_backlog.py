"""Whatever cameras deliver and however slowly it is taken: order is kept, nothing vanishes, memory is bounded."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from edge_runtime.records import CameraRecord, CameraState, GapReason, Quality
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.watch.backlog import Backlog, CameraEnd, Item, SampledFrames, sum_up

PIXELS = np.zeros((1, 1, 1, 3), np.uint8)
CAMERAS = ("gate", "yard")


def segment(index: int) -> Segment:
    return Segment(index, 10 * index, 10 * index + 10, float(index), index + 1.0, PIXELS)


def gap(index: int, segments: int, reason: GapReason) -> Gap:
    return Gap(index, segments, float(index), float(index + segments), reason)


def state(camera: str) -> CameraRecord:
    return CameraRecord(camera=camera, state="offline", detail="")


def backlog_of(*cameras: str, segments: int = 2, items: int = 64) -> Backlog:
    backlog = Backlog(segments, items)
    for camera in cameras:
        backlog.add(camera)
    return backlog


def places(item: Segment | Gap) -> range:
    return range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1))


# What a camera does (a segment, an outage of n places, a change of state), or that one item is taken.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(CAMERAS),
        st.one_of(st.just("segment"), st.integers(1, 4), st.just("state"), st.just("take")),
    ),
    max_size=200,
)


@given(STEPS, st.integers(1, 3), st.integers(4, 12))
def test_what_comes_out_is_contiguous_and_what_waits_is_bounded(
    steps: list[tuple[str, str | int]], segments: int, items: int
) -> None:
    backlog = backlog_of(*CAMERAS, segments=segments, items=items)
    next_index = dict.fromkeys(CAMERAS, 0)
    waiting: dict[str, int] = dict.fromkeys(CAMERAS, 0)
    out: list[tuple[str, Item]] = []
    for camera, step in steps:
        index = next_index[camera]
        if step == "take":
            taken = backlog.take(0.0)
            out += [taken] if taken else []
        elif step == "segment":
            backlog.put(camera, segment(index))
            next_index[camera] += 1
        elif isinstance(step, int):
            backlog.put(camera, gap(index, step, "lost"))
            next_index[camera] += step
        else:
            backlog.put(camera, state(camera))
    rest: list[tuple[str, Item]] = []
    while (taken := backlog.take(0.0)) is not None:
        rest.append(taken)
    for camera in CAMERAS:
        waiting[camera] = sum(name == camera for name, _ in rest)
        assert waiting[camera] <= items + 1
        assert sum(name == camera and isinstance(item, Segment) for name, item in rest) <= segments
        covered = [
            place
            for name, item in out + rest
            if name == camera and isinstance(item, Segment | Gap)
            for place in places(item)
        ]
        assert covered == list(range(next_index[camera]))
        assert backlog.is_empty(camera)


def test_the_oldest_segment_makes_room_in_its_place() -> None:
    backlog = backlog_of("gate", segments=2)
    for item in (segment(0), gap(1, 2, "stalled"), segment(3), segment(4)):
        backlog.put("gate", item)
    taken = [backlog.take(0.0) for _ in range(4)]
    # No frame is missing where a segment made room: those that overlap it still cover it.
    assert taken[:2] == [("gate", replace(gap(0, 1, "dropped"), interrupts=False)), ("gate", gap(1, 2, "stalled"))]
    assert [item.index for _, item in filter(None, taken[2:]) if isinstance(item, Segment)] == [3, 4]


def test_cameras_take_turns() -> None:
    backlog = backlog_of(*CAMERAS)
    for index in range(2):
        for camera in CAMERAS:
            backlog.put(camera, segment(index))
    assert [taken[0] for _ in range(4) if (taken := backlog.take(0.0))] == ["gate", "yard", "gate", "yard"]


def test_a_higher_priority_goes_first_and_equal_ones_take_turns() -> None:
    backlog = Backlog(segments=3)
    for camera, priority in (("yard", 0), ("gate", 5), ("hall", 0)):
        backlog.add(camera, priority)
    for index in range(2):
        for camera in ("yard", "gate", "hall"):
            backlog.put(camera, segment(index))
    order = [taken[0] for _ in range(6) if (taken := backlog.take(0.0))]
    assert order == ["gate", "gate", "yard", "hall", "yard", "hall"]


STATES = st.builds(
    lambda state, quality: CameraRecord("gate", state, "", quality=quality),
    st.sampled_from(get_args(CameraState)),
    st.one_of(st.just(UNSET), st.lists(st.sampled_from(get_args(Quality)), min_size=1, max_size=2)),
)


@given(st.lists(st.one_of(STATES, st.integers(1, 3)), max_size=300), st.integers(4, 12))
def test_however_long_nobody_looks_the_last_state_and_the_last_quality_are_told(
    steps: list[CameraRecord | int], items: int
) -> None:
    backlog, index = backlog_of("gate", items=items), 0
    for step in steps:
        if isinstance(step, int):
            backlog.put("gate", gap(index, step, "lost"))
            index += step
        else:
            backlog.put("gate", step)
    out = [item for _, item in iter(lambda: backlog.take(0.0), None)]
    assert len(out) <= items
    put = [step for step in steps if isinstance(step, CameraRecord)]
    told = [item for item in out if isinstance(item, CameraRecord)]
    assert told[-1:] == put[-1:]
    judged = [[state for state in states if state.quality is not UNSET] for states in (told, put)]
    assert judged[0][-1:] == judged[1][-1:]
    # What is told was so, in the order in which it was.
    rest = iter(put)
    assert all(any(state is other for other in rest) for state in told)


def test_an_outage_does_not_hide_what_the_picture_was_like() -> None:
    covered = CameraRecord("gate", "online", "", quality=["covered"])
    assert sum_up([state("gate"), covered, gap(0, 1, "lost"), state("gate")]) == [
        gap(0, 1, "lost"),
        covered,
        state("gate"),
    ]
    assert sum_up([state("gate"), covered]) == [covered]


def test_a_camera_of_another_bundle_has_a_bound_of_its_own() -> None:
    backlog = Backlog(segments=2)
    backlog.add("gate")
    backlog.add("yard", segments=5)
    for index in range(10):
        for camera in CAMERAS:
            backlog.put(camera, segment(index))
    taken = [item for item in iter(lambda: backlog.take(0.0), None) if isinstance(item[1], Segment)]
    assert [sum(camera == name for name, _ in taken) for camera in CAMERAS] == [2, 5]


def test_every_segment_that_makes_room_is_told_to_who_counts_them() -> None:
    told: list[bool] = []
    backlog = Backlog(segments=2, dropped=told.append)
    backlog.add("gate")
    for index in range(5):
        backlog.put("gate", segment(index))
    assert told == [False] * 3
    backlog.left_out("gate", 1.0, 2.0)
    backlog.left_out("removed", 1.0, 2.0)
    assert told == [False] * 3 + [True]


def test_a_camera_that_was_removed_puts_nothing_in_and_comes_back_with_an_empty_queue() -> None:
    backlog = backlog_of(*CAMERAS)
    backlog.put("gate", segment(0))
    backlog.remove("gate")
    backlog.put("gate", segment(1))
    assert backlog.take(0.0) is None
    assert backlog.is_empty("gate")
    backlog.add("gate")
    backlog.put("gate", segment(2))
    taken = backlog.take(0.0)
    assert taken is not None
    assert isinstance(taken[1], Segment)
    assert (taken[0], taken[1].index) == ("gate", 2)
    with pytest.raises(ValueError, match="gate"):
        backlog.add("gate")


def test_the_end_of_a_camera_survives_a_full_queue() -> None:
    backlog = backlog_of("gate", items=4)
    backlog.put("gate", CameraEnd())
    for index in range(20):
        backlog.put("gate", gap(index, 1, "lost"))
    taken = [item for item in iter(lambda: backlog.take(0.0), None) if isinstance(item[1], CameraEnd)]
    assert len(taken) == 1


def test_drops_are_said_once_and_then_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge_runtime")
    backlog = backlog_of("gate")
    for index in range(500):
        backlog.put("gate", segment(index))
    assert len(caplog.messages) == 1
    assert "the segment from 0.0 s is dropped" in caplog.messages[0]
    backlog.remove("gate")
    assert len(caplog.messages) == 2
    # 500 came, 2 may wait, 1 was said before.
    assert "497 more segments were dropped" in caplog.messages[1]


def test_a_camera_with_braces_in_its_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge_runtime")
    backlog = backlog_of("a{0}{b")
    for index in range(9):
        backlog.put("a{0}{b", segment(index))
    backlog.remove("a{0}{b")
    assert "camera a{0}{b: 6 more segments were dropped" in caplog.messages[-1]


def test_frames_to_encode_ahead_never_wait_behind_what_they_are_part_of() -> None:
    backlog = backlog_of("gate")
    frame = PIXELS[0, 0]
    first, more = SampledFrames((frame,)), SampledFrames((frame, frame))
    backlog.put("gate", first)
    backlog.put("gate", more)
    assert backlog.take(0.0) == ("gate", more), "the newer ones hold the older ones"
    assert backlog.take(0.0) is None
    backlog.put("gate", first)
    whole = segment(0)
    backlog.put("gate", whole)
    assert backlog.take(0.0) == ("gate", whole)
    assert backlog.take(0.0) is None
