"""Whatever cameras deliver and however slowly it is taken: order is kept, nothing vanishes, memory is bounded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.records import CameraRecord, GapReason
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.watch.backlog import Backlog, Item

PIXELS = np.zeros((1, 1, 1, 3), np.uint8)
CAMERAS = ("gate", "yard")


def clip(index: int) -> Segment:
    return Segment(index, 10 * index, 10 * index + 10, float(index), index + 1.0, PIXELS)


def hole(index: int, segments: int, reason: GapReason) -> Gap:
    return Gap(index, segments, float(index), float(index + segments), reason)


def state(camera: str) -> CameraRecord:
    return CameraRecord(camera=camera, state="offline", detail="")


def places(item: Segment | Gap) -> range:
    return range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1))


# What a camera does (a segment, an outage of n places, a change of state), or that one item is taken.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(CAMERAS),
        st.one_of(st.just("clip"), st.integers(1, 4), st.just("state"), st.just("take")),
    ),
    max_size=200,
)


@given(STEPS, st.integers(1, 3), st.integers(4, 12))
def test_what_comes_out_is_contiguous_and_what_waits_is_bounded(
    steps: list[tuple[str, str | int]], clips: int, items: int
) -> None:
    backlog = Backlog(CAMERAS, clips, items)
    next_index = dict.fromkeys(CAMERAS, 0)
    waiting: dict[str, int] = dict.fromkeys(CAMERAS, 0)
    out: list[tuple[str, Item]] = []
    for camera, step in steps:
        index = next_index[camera]
        if step == "take":
            taken = backlog.take(0.0)
            out += [taken] if taken else []
        elif step == "clip":
            backlog.put(camera, clip(index))
            next_index[camera] += 1
        elif isinstance(step, int):
            backlog.put(camera, hole(index, step, "lost"))
            next_index[camera] += step
        else:
            backlog.put(camera, state(camera))
    rest: list[tuple[str, Item]] = []
    while (taken := backlog.take(0.0)) is not None:
        rest.append(taken)
    for camera in CAMERAS:
        waiting[camera] = sum(name == camera for name, _ in rest)
        assert waiting[camera] <= items + 1
        assert sum(name == camera and isinstance(item, Segment) for name, item in rest) <= clips
        covered = [
            place
            for name, item in out + rest
            if name == camera and isinstance(item, Segment | Gap)
            for place in places(item)
        ]
        assert covered == list(range(next_index[camera]))
        assert backlog.is_empty(camera)


def test_the_oldest_segment_makes_room_in_its_place() -> None:
    backlog = Backlog(["gate"], clips=2)
    for item in (clip(0), hole(1, 2, "stalled"), clip(3), clip(4)):
        backlog.put("gate", item)
    taken = [backlog.take(0.0) for _ in range(4)]
    assert taken[:2] == [("gate", hole(0, 1, "dropped")), ("gate", hole(1, 2, "stalled"))]
    assert [item.index for _, item in filter(None, taken[2:]) if isinstance(item, Segment)] == [3, 4]


def test_cameras_take_turns() -> None:
    backlog = Backlog(CAMERAS)
    for index in range(2):
        for camera in CAMERAS:
            backlog.put(camera, clip(index))
    assert [taken[0] for _ in range(4) if (taken := backlog.take(0.0))] == ["gate", "yard", "gate", "yard"]
