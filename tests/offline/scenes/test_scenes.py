"""The scene generator: deterministic to the byte, annotated to the frame, and not solved by counting motion."""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_runtime.errors import OutputFailed, SourceUnavailable, UsageError
from offline.scenes import (
    ABNORMAL_ACTIONS,
    DISTURBANCES,
    FOOTAGE,
    KIND_ACTIONS,
    KIND_LAYOUTS,
    KINDS,
    LAYOUTS,
    TIMES,
    WEATHERS,
    Encoding,
    FootageLoop,
    RenderedFrame,
    SceneSet,
    SceneSpec,
    SplitSize,
    contact_sheet,
    describe,
    draw_spec,
    event_ranges,
    generate,
    plan,
    render,
    write_mp4,
)
from offline.scenes.render import Scene

SMALL = (64, 48)
TINY = SceneSet(
    calibration=SplitSize(1, 2),
    validation=SplitSize(1, 1),
    test=SplitSize(1, 1),
    sizes=((64, 48), (80, 48)),
    seconds=(3.0, 4.0),
    event_seconds=(1.0, 1.5),
)
quick = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def specs(draw: st.DrawFn, kinds: tuple[str | None, ...] = (None, *KINDS)) -> SceneSpec:
    kind = draw(st.sampled_from(kinds))
    layouts = [layout for layout in LAYOUTS if kind is None or layout in KIND_LAYOUTS[kind]]
    return draw_spec(
        draw(st.integers(0, 2**40)),
        kind,
        layout=draw(st.sampled_from(layouts)),
        time_of_day=draw(st.sampled_from(TIMES)),
        weather=draw(st.sampled_from(WEATHERS)),
        disturbances=[d for d in DISTURBANCES if draw(st.booleans())],
        size=draw(st.sampled_from([(64, 48), (33, 70), (96, 40), (47, 47)])),
        fps=draw(st.sampled_from([5.0, 12.5, 30.0])),
        seconds=draw(st.floats(1.0, 5.0)),
        event_seconds=(0.3, 2.0),
    )


def actions(frames: list[RenderedFrame]) -> list[set[str]]:
    return [{thing.action for thing in frame.objects} for frame in frames]


# --- scenes in memory ---


@given(specs())
@quick
def test_same_spec_same_pictures_and_truth_of_the_asked_size(spec: SceneSpec) -> None:
    first, second = list(render(spec)), list(render(spec))
    assert len(first) == spec.frames
    for a, b in zip(first, second, strict=True):
        assert a.image.shape == (spec.size[1], spec.size[0], 3)
        assert a.image.dtype == np.uint8
        assert np.array_equal(a.image, b.image)
        assert a.objects == b.objects


@given(specs(), st.data())
@quick
def test_skipping_pictures_does_not_change_the_others(spec: SceneSpec, data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, spec.frames - 1), max_size=4))
    everything = list(render(spec))
    some = list(render(spec, wanted=wanted))
    assert [frame.index for frame in some] == sorted(wanted)
    for frame in some:
        assert np.array_equal(frame.image, everything[frame.index].image)
        assert frame.objects == everything[frame.index].objects


@given(specs())
@quick
def test_boxes_lie_in_the_picture_and_tracks_are_told_apart(spec: SceneSpec) -> None:
    for frame in render(spec):
        tracks = [thing.track for thing in frame.objects]
        assert len(tracks) == len(set(tracks))
        for thing in frame.objects:
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= spec.size[0]
            assert 0 <= top < bottom <= spec.size[1]


@given(st.integers(0, 2**40))
@settings(max_examples=15, deadline=None)
def test_normal_life_does_nothing_abnormal(seed: int) -> None:
    frames = render(draw_spec(seed, size=SMALL, seconds=10.0, fps=8.0))
    assert not any(thing.action in ABNORMAL_ACTIONS for frame in frames for thing in frame.objects)


@pytest.mark.parametrize("kind", KINDS)
def test_abnormal_actions_are_seen_when_the_event_is_planned(kind: str) -> None:
    for seed in range(4):
        spec = draw_spec(seed, kind, size=SMALL, seconds=9.0)
        assert spec.event is not None
        frames = list(render(spec))
        ranges = event_ranges(actions(frames), ABNORMAL_ACTIONS)
        assert ranges == event_ranges(actions(frames), KIND_ACTIONS[kind])
        assert len(ranges) == 1, "one event, without holes"
        start, end = ranges[0]
        assert 0 < start < end <= spec.frames
        # A vehicle has to come into the picture; every other event begins on the planned frame.
        assert 0 <= start - spec.event[0] <= (10 if kind == "pavement_driving" else 0)
        # Whoever flees or drives may be out of the picture early, and an owner may come back a little late.
        if kind not in ("snatch", "pavement_driving", "abandoned_object"):
            assert end == spec.event[1]


@pytest.mark.parametrize("kind", ["fall", "fight", "fire", "crash", "vandalism", "climbing"])
def test_an_event_leaves_the_pictures_before_it_alone(kind: str) -> None:
    """Moving the event later must not change what is seen before both: nothing may give it away."""
    spec = draw_spec(5, kind, size=SMALL, seconds=9.0)
    assert spec.event is not None
    start, end = spec.event
    frames = list(render(spec, wanted=range(start)))
    assert not event_ranges(actions(frames), ABNORMAL_ACTIONS)
    first = next(iter(render(spec, wanted=range(start, end))))
    assert {thing.action for thing in first.objects} & KIND_ACTIONS[kind]


def test_people_are_large_enough_to_be_recognised() -> None:
    heights = [
        (thing.box[3] - thing.box[1]) / 120
        for seed in range(12)
        for frame in render(draw_spec(seed, size=(160, 120), seconds=6.0, people=3), wanted=range(0, 90, 15))
        for thing in frame.objects
        if thing.kind == "person" and thing.action in ("standing", "talking", "walking")
    ]
    assert len(heights) > 30
    assert 0.28 < float(np.median(heights)) < 0.55


def test_the_boxes_are_where_something_was_drawn() -> None:
    """Between two frames of an undisturbed day, what changes is inside the boxes of one or the other."""
    spec = draw_spec(3, "fight", layout="plaza", time_of_day="day", weather="clear", disturbances=(), seconds=9.0)
    frames = list(render(spec, wanted=range(0, spec.frames, 10)))
    inside = outside = 0
    for a, b in itertools.pairwise(frames):
        changed = np.abs(a.image.astype(int) - b.image).max(axis=2) > 60
        boxes = np.zeros(changed.shape, np.uint8)
        for thing in (*a.objects, *b.objects):
            left, top, right, bottom = (round(side) for side in thing.box)
            cv2.rectangle(boxes, (left, top), (right, bottom), 1, -1)
        inside += int((changed & (boxes == 1)).sum())
        outside += int((changed & (boxes == 0)).sum())
    assert inside > 1000
    assert outside < 0.03 * inside


def test_describe_tells_who_does_what_and_where_to() -> None:
    spec = draw_spec(2, "abandoned_object", layout="plaza", seconds=10.0, size=SMALL)
    assert spec.event is not None
    frames = list(render(spec))
    facts = describe(frames[spec.event[0] : spec.event[1]])
    assert facts.conditions.layout == "plaza"
    assert facts.actions["bag", "abandoned"] == 1
    bag = next(track for track in facts.tracks if "abandoned" in track.actions)
    assert (bag.kind, bag.direction, bag.main_action) == ("bag", "still", "abandoned")
    walker = next(track for track in facts.tracks if track.kind == "person" and track.direction in ("left", "right"))
    seen = [thing for frame in frames[slice(*spec.event)] for thing in frame.objects if thing.track == walker.track]
    assert (seen[-1].foot[0] > seen[0].foot[0]) == (walker.direction == "right")
    most = max(sum(thing.kind == "person" for thing in frame.objects) for frame in frames[slice(*spec.event)])
    assert facts.counts["person"] == most
    with pytest.raises(ValueError, match="no frames"):
        describe([])


def test_conditions_show_in_the_picture() -> None:
    spec = draw_spec(8, layout="plaza", disturbances=(), size=SMALL, seconds=1.0)

    def brightness(time_of_day: str) -> float:
        scene = replace(spec, time_of_day=time_of_day, weather="clear")
        return float(np.mean([frame.image.mean() for frame in render(scene)]))

    day, dusk, night = map(brightness, TIMES)
    assert day > dusk > night

    def contrast(weather: str) -> float:
        scene = replace(spec, time_of_day="day", weather=weather)
        return float(np.mean([frame.image.std() for frame in render(scene)]))

    assert contrast("fog") < contrast("clear")


@given(st.lists(st.booleans(), max_size=40))
def test_event_ranges_cover_exactly_the_abnormal_frames(flags: list[bool]) -> None:
    ranges = event_ranges([["burning"] if flag else ["walking"] for flag in flags], ABNORMAL_ACTIONS)
    covered = [any(start <= i < end for start, end in ranges) for i in range(len(flags))]
    assert covered == flags
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))


def test_contact_sheet_puts_frames_side_by_side() -> None:
    frames = list(render(draw_spec(0, size=SMALL, seconds=1.0)))
    sheet = contact_sheet([frames[:3], frames[:2]])
    assert sheet.shape == (96, 192, 3)
    assert np.array_equal(sheet[:48, 64:128], frames[1].image)
    assert not sheet[48:, 128:].any()
    assert contact_sheet([frames[:2]], cell=(32, 32), boxes=True).shape == (32, 64, 3)
    with pytest.raises(ValueError, match="no frames"):
        contact_sheet([[]])


# --- clips on disk ---


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("scenes"), seed=7, scenes=TINY).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_data_csv_says_what_the_clips_hold(clips: Path) -> None:
    with (clips / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    planned = plan(TINY, seed=7)
    assert [row["path"] for row in rows] == [clip.name for clip in planned]
    for row, clip in zip(rows, planned, strict=True):
        assert list(row) == ["path", "label", "split", "events", "frames"]
        assert row["split"] == clip.split
        assert row["label"] == ("normal" if clip.spec.kind is None else "anomalous")
        with av.open(str(clips / row["path"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height) == clip.spec.size
            assert stream.average_rate == 15
            assert sum(1 for _ in container.decode(stream)) == int(row["frames"]) == clip.spec.frames
        shown = event_ranges(actions(list(render(clip.spec))), ABNORMAL_ACTIONS)
        assert row["events"] == ";".join(f"{start}-{end}" for start, end in shown)
        assert bool(row["events"]) == (row["label"] == "anomalous")


def test_one_seed_one_set_of_bytes(clips: Path, tmp_path: Path) -> None:
    generate(tmp_path, seed=7, scenes=TINY)
    assert contents(tmp_path) == contents(clips)
    other = {clip.spec.digest() for clip in plan(TINY, seed=8)}
    assert not other & {clip.spec.digest() for clip in plan(TINY, seed=7)}


def test_bytes_do_not_depend_on_what_was_in_memory(tmp_path: Path) -> None:
    """glibc fills fresh memory with a given byte: an encoder that reads what it never wrote would show it."""
    script = (
        "import sys; from pathlib import Path; from offline.scenes import *;"
        "images = [frame.image for frame in render(draw_spec(2, size=(64, 48), seconds=4.0))];"
        "[write_mp4(Path(sys.argv[1]) / p, images, size=(64, 48), fps=15.0, encoding=Encoding(19, p))"
        " for p in ('ultrafast', 'superfast', 'veryfast')]"
    )
    made = []
    for filling in ("1", "170", "255"):
        folder = tmp_path / filling
        folder.mkdir()
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True, env=environment)
        made.append(contents(folder))
    assert made[0] == made[1] == made[2]


def test_splits_share_no_scene() -> None:
    seeds = [clip.spec.seed for clip in plan(SceneSet.of_videos(60), seed=0)]
    assert len(seeds) == len(set(seeds)) == 60


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_goes_on_and_ends_the_same(clips: Path, tmp_path: Path, after: int) -> None:
    def stop(done: int, total: int) -> None:
        assert total == TINY.videos
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, seed=7, scenes=TINY, progress=stop)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert len(stamps) == after
    generate(tmp_path, seed=7, scenes=TINY)
    assert contents(tmp_path) == contents(clips)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "done is not done again"


def test_what_is_damaged_or_of_another_seed_is_made_again(clips: Path, tmp_path: Path) -> None:
    generate(tmp_path, seed=7, scenes=TINY)
    videos = sorted(tmp_path.glob("*.mp4"))
    videos[0].write_bytes(videos[0].read_bytes()[:-1])
    videos[1].unlink()
    videos[2].with_suffix(".json").write_text('{"digest": ')
    (tmp_path / f".{videos[3].name}.part").write_bytes(b"left by a killed run")
    generate(tmp_path, seed=7, scenes=TINY)
    made = contents(tmp_path)
    made.pop(f".{videos[3].name}.part", None)
    assert made == contents(clips)


def test_of_videos_spreads_over_splits_and_labels() -> None:
    for videos in (6, 7, 20, 40, 61):
        scenes = SceneSet.of_videos(videos)
        assert scenes.videos == videos
        assert all(min(split.normal, split.anomalous) >= 1 for _, split in scenes.splits())
    kinds = {clip.spec.kind for clip in plan(SceneSet.of_videos(80), seed=1) if clip.split == "test"}
    assert kinds == {None, *KINDS}


def test_videos_and_events_last_as_long_as_asked_for() -> None:
    for clip in plan(SceneSet.of_videos(40, seconds=(20.0, 40.0), event_seconds=(4.0, 16.0)), seed=3):
        assert 300 <= clip.spec.frames <= 600
        if clip.spec.event is not None:
            assert clip.spec.event[1] - clip.spec.event[0] in range(60, 241)


# --- real footage as background ---


@pytest.fixture(scope="module")
def checkerboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video at 30 fps whose 20 pictures get brighter from one to the next."""
    path = tmp_path_factory.mktemp("footage") / "board.mp4"
    images = (np.full((60, 90, 3), 60 + 6 * i, np.uint8) for i in range(20))
    write_mp4(path, images, size=(90, 60), fps=30.0, encoding=Encoding(10, "ultrafast"))
    return path


def test_footage_loops_at_the_scenes_rate_and_size(checkerboard: Path) -> None:
    loop = FootageLoop(checkerboard, size=SMALL, fps=15.0)
    assert len(loop) == 10
    assert loop.picture(0).shape == (48, 64, 3)
    assert np.array_equal(loop.picture(3), loop.picture(13))
    assert loop.picture(9).mean() > loop.picture(0).mean() + 80
    assert len(FootageLoop(checkerboard, size=SMALL, fps=60.0)) == 40


def test_events_are_composited_into_footage(checkerboard: Path, tmp_path: Path) -> None:
    manifest = generate(tmp_path, seed=1, scenes=TINY, background=checkerboard)
    assert len(manifest.read_text().splitlines()) == TINY.videos + 1
    loop = FootageLoop(checkerboard, size=SMALL, fps=15.0)
    spec = draw_spec(
        4, "fire", layout=FOOTAGE, size=SMALL, seconds=4.0, time_of_day="day", weather="clear", disturbances=()
    )
    for frame in render(spec, footage=loop.picture):
        untouched = np.abs(frame.image[:8].astype(int) - loop.picture(frame.index)[:8])
        assert np.median(untouched) <= 6, "only sensor noise lies over the sky"


def test_real_footage_is_background() -> None:
    path = os.environ.get("HEADHUNT_FOOTAGE")
    if path is None:
        pytest.skip("HEADHUNT_FOOTAGE names no video")
    loop = FootageLoop(Path(path), size=SMALL, fps=5.0)
    spec = draw_spec(4, "fall", layout=FOOTAGE, size=SMALL, fps=5.0, seconds=8.0)
    frames = list(render(spec, footage=loop.picture))
    assert event_ranges(actions(frames), ABNORMAL_ACTIONS) == [spec.event]


# --- what is refused ---


def test_errors_name_the_thing(tmp_path: Path, checkerboard: Path) -> None:
    with pytest.raises(UsageError, match=r"'explosion'.*fall"):
        draw_spec(0, "explosion")
    with pytest.raises(UsageError, match="'explosion'"):
        replace(TINY, kinds=("explosion",))
    with pytest.raises(UsageError, match="'crash' cannot happen in the layout 'plaza'"):
        draw_spec(0, "crash", layout="plaza")
    with pytest.raises(UsageError, match="at least one"):
        SceneSet(SplitSize(0, 0), SplitSize(0, 0), SplitSize(0, 0))
    with pytest.raises(UsageError, match="5 videos are too few"):
        SceneSet.of_videos(5)
    with pytest.raises(UsageError, match="5 to 3"):
        replace(TINY, seconds=(5.0, 3.0))
    with pytest.raises(UsageError, match="event of 16 s leaves too little normal life in a video of 8 s"):
        SceneSet.of_videos(20, event_seconds=(4.0, 16.0))
    with pytest.raises(UsageError, match=r"even width.*65x48"):
        replace(TINY, sizes=((65, 48),))
    with pytest.raises(UsageError, match="-1"):
        generate(tmp_path, seed=-1, scenes=TINY)
    with pytest.raises(UsageError, match="'climbing' cannot happen in the layout 'footage'"):
        generate(tmp_path, seed=0, scenes=replace(TINY, kinds=("fall", "climbing")), background=checkerboard)
    with pytest.raises(SourceUnavailable, match=r"missing\.avi"):
        generate(tmp_path, seed=0, scenes=TINY, background=tmp_path / "missing.avi")
    text = tmp_path / "notes.avi"
    text.write_text("no video at all")
    with pytest.raises(SourceUnavailable, match=r"notes\.avi: cannot be read"):
        generate(tmp_path, seed=0, scenes=TINY, background=text)
    with pytest.raises(UsageError, match=r"notes\.avi.*cannot be written"):
        generate(text, seed=0, scenes=TINY)
    images = (np.zeros((48, 64, 3), np.uint8) for _ in range(2))
    with pytest.raises(OutputFailed, match=r"gone/clip\.mp4"):
        write_mp4(tmp_path / "gone" / "clip.mp4", images, size=SMALL, fps=5.0, encoding=Encoding(20, "ultrafast"))
    with pytest.raises(UsageError, match="belong together"):
        Scene(draw_spec(0, layout=FOOTAGE))


def test_a_failed_clip_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    def breaking() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        yield np.zeros((48, 64, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(tmp_path / "clip.mp4", breaking(), size=SMALL, fps=5.0, encoding=Encoding(20, "ultrafast"))
    assert not (tmp_path / "clip.mp4").exists()


# --- difficulty ---


def test_motion_and_brightness_do_not_solve_it() -> None:
    """Few-shot logistic regression on what a motion detector sees stays below 0.80 frame AUC."""
    scenes = SceneSet(
        calibration=SplitSize(10, 10),
        validation=SplitSize(0, 0),
        test=SplitSize(12, 12),
        sizes=((64, 48),),
        seconds=(8.0, 9.0),
    )
    features: dict[str, list[list[float]]] = {"calibration": [], "test": []}
    truth: dict[str, list[list[bool]]] = {"calibration": [], "test": []}
    for clip in plan(scenes, seed=0):
        motion, change, abnormal = [0.0], [0.0], []
        previous: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None
        for frame in render(clip.spec):
            grey = frame.image.mean(axis=2)
            if previous is not None:
                motion.append(float(np.abs(grey - previous).mean()))
                change.append(abs(float(grey.mean() - previous.mean())))
            previous = grey
            abnormal.append(any(thing.action in ABNORMAL_ACTIONS for thing in frame.objects))
        for start in range(0, len(abnormal), 48):
            part = slice(start, start + 48)
            features[clip.split].append(
                [float(f(series[part])) for series in (motion, change) for f in (np.mean, np.std, np.max)]
            )
            truth[clip.split].append(abnormal[part])
    labels = [np.mean(part) > 0.5 for part in truth["calibration"]]
    frames = np.concatenate(truth["test"])
    lengths = [len(part) for part in truth["test"]]
    for columns in ([0], [3], [0, 1, 2], [3, 4, 5], [0, 1, 2, 3, 4, 5]):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(np.array(features["calibration"])[:, columns], labels)
        scores = model.predict_proba(np.array(features["test"])[:, columns])[:, 1]
        assert roc_auc_score(frames, np.repeat(scores, lengths)) < 0.80
    for column in (0, 3):  # the bare figures, with the benefit of hindsight about their sign
        area = roc_auc_score(frames, np.repeat(np.array(features["test"])[:, column], lengths))
        assert max(area, 1 - area) < 0.80
