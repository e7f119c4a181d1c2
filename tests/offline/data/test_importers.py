"""Annotations made up here, one for each trap that the published ones hold; and the published ones, where given."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import DatasetError, HeadHuntError, UsageError
from offline.cli import cli
from offline.data.dataset import Video, read_dataset, write_dataset
from offline.data.importers import IMPORTERS, Interval, Request, draw_calibration
from offline.data.importers import import_dataset as import_request
from offline.data.importers.annotation import merged, stem

ANNOTATIONS = os.environ.get("HEADHUNT_ANNOTATIONS")
published = pytest.mark.skipif(
    ANNOTATIONS is None, reason="HEADHUNT_ANNOTATIONS names no folder of published annotations"
)

Write = Callable[[str, str], Path]


def import_dataset(
    name: str,
    *,
    calibration_fraction: float | None = None,
    seed: int = 0,
    relative_to: Path | None = None,
    **request: Any,
) -> list[Video]:
    return import_request(
        name, Request(**request), calibration_fraction=calibration_fraction, seed=seed, relative_to=relative_to
    )


@pytest.fixture
def put(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def facts(rows: list[Video]) -> dict[str, tuple]:
    return {row.name: (row.label, row.split, row.events, row.frames) for row in rows}


# ---- the published annotations, to the frame


@published
@pytest.mark.parametrize(
    ("name", "prefix", "videos", "anomalous", "frames", "half_open", "inclusive"),
    [
        ("ucf-crime", "ucf_crime", 290, 140, 1_111_808, 84_182, 84_331),
        ("xd-violence", "xd_violence", 800, 500, 2_335_801, 538_324, 539_562),
    ],
)
def test_published_totals(name, prefix, videos, anomalous, frames, half_open, inclusive, tmp_path: Path) -> None:
    folder = Path(str(ANNOTATIONS))
    for interval, abnormal in (("half-open", half_open), ("inclusive", inclusive)):
        rows = import_dataset(
            name,
            annotations=folder / f"{prefix}_test_temporal.txt",
            frame_counts=folder / f"{prefix}_test_frames.txt",
            interval=interval,  # type: ignore[arg-type]
        )
        assert (len(rows), sum(row.anomalous for row in rows)) == (videos, anomalous)
        assert sum(row.frames or 0 for row in rows) == frames
        assert sum(int(row.frame_labels(row.frames or 0).sum()) for row in rows) == abnormal
        write_dataset(rows, tmp_path / "data.csv")
        assert facts(list(read_dataset(tmp_path / "data.csv"))) == facts(rows)


@published
def test_published_training_list_and_the_papers_one_percent() -> None:
    rows = import_dataset("ucf-crime", annotations=Path(str(ANNOTATIONS)) / "ucf_crime_train.txt")
    assert (len(rows), sum(row.anomalous for row in rows)) == (1610, 810)
    assert {row.split for row in rows} == {"calibration"}
    drawn = draw_calibration(rows, 0.01, seed=0)
    assert [row.anomalous for row in drawn].count(True) == 8
    assert [row.anomalous for row in drawn].count(False) == 8


# ---- UCF-Crime

UCF = """\
Abuse028_x264.mp4  Abuse  165  240  -1  -1  
Arson011_x264.mp4  Arson  150  420  680  1267  
Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  
"""  # noqa: W291 - the trailing blanks are in the published file
UCF_FRAMES = "Abuse028_x264 0 1411 0\nNormal_Videos_003_x264 0 99 0\nArson011_x264 0 1265 0"


def test_ucf_crime_two_events_blanks_and_an_end_after_the_last_frame(put: Write) -> None:
    rows = import_dataset("ucf-crime", annotations=put("t.txt", UCF), frame_counts=put("f.txt", UCF_FRAMES))
    assert facts(rows) == {
        "Abuse028_x264.mp4": ("anomalous", "test", ((165, 240),), 1412),
        "Arson011_x264.mp4": ("anomalous", "test", ((150, 420), (680, 1266)), 1266),
        "Normal_Videos_003_x264.mp4": ("normal", "test", (), 100),
    }
    inclusive = import_dataset("ucf-crime", annotations=put("t.txt", UCF), interval="inclusive")
    assert [row.events for row in inclusive] == [((165, 241),), ((150, 421), (680, 1268)), ()]
    assert [row.frames for row in inclusive] == [None] * 3


def test_what_could_not_be_checked_is_said(put: Write, caplog: pytest.LogCaptureFixture) -> None:
    import_dataset("ucf-crime", annotations=put("t.txt", UCF))
    assert "no frame counts: the events of 2 videos are as annotated" in caplog.text
    assert "--frame-counts" in caplog.text
    caplog.clear()
    import_dataset("ucf-crime", annotations=put("t.txt", UCF), frame_counts=put("f.txt", UCF_FRAMES))
    # Its last event ends one frame after the last: that is the end of the video, however frames are counted.
    assert caplog.text == ""
    import_dataset("xd-violence", annotations=put("t.txt", XD))
    assert "only its 2 anomalous videos; the test set's normal ones are not in it" in caplog.text
    caplog.clear()
    import_dataset("xd-violence", annotations=put("t.txt", XD), frame_counts=put("f.txt", XD_FRAMES))
    assert caplog.text == ""


def test_the_command_sums_up_only_what_is_known(
    put: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def said(name: str, text: str, *more: str) -> str:
        arguments = ["import", name, "--annotations", str(put("t.txt", text)), "--output", str(tmp_path / "o.csv")]
        assert run_command(cli, [*arguments, *more]) == 0
        return capfd.readouterr().out.split(": ", 1)[1].strip()

    videos = "3 videos (2 anomalous, 1 normal)"
    counts = ("--frame-counts", str(put("f.txt", UCF_FRAMES)))
    assert said("ucf-crime", UCF, *counts) == f"{videos}, 2,778 frames, 931 frames abnormal"
    assert said("ucf-crime", UCF) == f"{videos}, frame counts unknown, 932 frames abnormal"
    listed = said("ucf-crime", "Abuse/Abuse001_x264.mp4\nNormal/Normal_Videos001_x264.mp4\n")
    assert listed.endswith("frame counts unknown, 0 frames abnormal; when is unknown of 1 anomalous videos")


@pytest.mark.parametrize("beyond", [0, 1, 2, 40])
def test_events_that_end_after_their_video_are_cut_and_told_once(
    put: Write, beyond: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"Abuse{n:03d}_x264.mp4 Abuse 5 9 20 {100 + beyond - n} \n" for n in range(3)]
    counts = put("f.txt", "".join(f"Abuse{n:03d}_x264 100\n" for n in range(3)))
    rows = import_dataset("ucf-crime", annotations=put("t.txt", "".join(lines)), frame_counts=counts)
    assert [row.events for row in rows] == [((5, 9), (20, min(100, 100 + beyond - n))) for n in range(3)]
    overlong = [beyond - n for n in range(3) if beyond - n > 1]
    said = [record.getMessage() for record in caplog.records]
    if overlong:
        (line,) = said
        assert line.startswith(f"{len(overlong)} of 3 videos with events have one that ends after their last frame, ")
        assert f"by up to {beyond} frames (" in line
        assert "t.txt:1)" in line
    else:
        assert said == []


@published
def test_published_ends_beyond_the_video_take_one_line(caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(str(ANNOTATIONS))
    for name, prefix in (("ucf-crime", "ucf_crime"), ("xd-violence", "xd_violence")):
        caplog.clear()
        temporal, frames = (folder / f"{prefix}_test_{kind}.txt" for kind in ("temporal", "frames"))
        import_dataset(name, annotations=temporal, frame_counts=frames)
        assert len(caplog.records) <= 1


@pytest.mark.parametrize(
    ("text", "counts", "says"),
    [
        ("Abuse028_x264.mp4 Abuse 165 240 -1", None, "t.txt:1: 5 fields"),
        ("Abuse/Abuse001_x264.mp4\nAbuse028_x264.mp4 Abuse 1 2 -1 -1", None, "t.txt:2: 6 fields, unlike"),
        ("Party028_x264.mp4 Party 165 240 -1 -1", None, "t.txt:1: 'Party028_x264.mp4' is of no UCF-Crime class"),
        ("Abuse028_x264.mp4 Party 165 240 -1 -1", None, "t.txt:1: unknown class 'Party'"),
        ("Abuse028_x264.mp4 Abuse -1 -1 -1 -1", None, "t.txt:1: name, class 'Abuse' and 0 events contradict"),
        ("Normal_Videos_1.mp4 Normal 3 5 -1 -1", None, "t.txt:1: name, class 'Normal' and 1 events contradict"),
        ("Abuse028_x264.mp4 Abuse 165 -1 -1 -1", None, "t.txt:1: event 165--1 holds no frame"),
        ("Abuse028_x264.mp4 Abuse 165 x -1 -1", None, "t.txt:1: frame 'x' is no whole number"),
        ("Abuse028_x264.mp4 Abuse 165 240 200 300", None, "t.txt:1: event 200-300 overlaps"),
        ("Abuse028_x264.mp4 Abuse 165 240 -1 -1", "Abuse028_x264 0 99 0", "t.txt:1: event 165-240 is after the last"),
        (
            "Abuse028_x264.mp4 Abuse 165 240 -1 -1",
            "Abuse030_x264 0 999 0",
            "t.txt:1: Abuse028_x264.mp4 has no line in",
        ),
        ("Abuse028_x264.mp4 Abuse 165 240 -1 -1", "Abuse028_x264 1 999", "f.txt:1: the first frame is 1"),
        ("Abuse028_x264.mp4 Abuse 165 240 -1 -1", "Abuse028_x264 0", "f.txt:1: 0 is no frame count"),
        ("Abuse028_x264.mp4 Abuse 165 240 -1 -1", "Abuse028_x264", "f.txt:1: 'Abuse028_x264' has no number"),
        (
            "Abuse028_x264.mp4 Abuse 165 240 -1 -1",
            "Abuse028_x264 300\nAbuse028_x264.mp4 0 300",
            "f.txt:2: Abuse028_x264.mp4 was 300 frames above",
        ),
        ("Abuse/Abuse028_x264.mp4\nAbuse/Abuse028_x264.mp4", None, "t.txt:2: Abuse/Abuse028_x264.mp4 was at"),
        ("\n \n", None, "t.txt: the file is empty"),
    ],
)
def test_ucf_crime_faults_name_the_line(put: Write, text: str, counts: str | None, says: str) -> None:
    with pytest.raises(DatasetError) as caught:
        import_dataset(
            "ucf-crime",
            annotations=put("t.txt", text),
            frame_counts=put("f.txt", counts) if counts is not None else None,
        )
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ucf_crime_training_list_in_every_layout(put: Write, tmp_path: Path) -> None:
    listed = put("train.txt", "Abuse/Abuse001_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\n")
    layouts = {
        "folders": ["Abuse/Abuse001_x264.mp4", "Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4"],
        "flat": ["Abuse001_x264.mp4", "Normal_Videos001_x264.mp4"],
        "zips": [
            "Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4",
            "Training-Normal-Videos-Part-1/Normal_Videos001_x264.mp4",
            "Normal_Videos_for_Event_Recognition/Normal_Videos001_x264.mp4",
            "__MACOSX/Abuse/._Abuse001_x264.mp4",
        ],
    }
    for layout, files in layouts.items():
        for file in files:
            put(f"{layout}/{file}", "the same video")
        rows = import_dataset(
            "ucf-crime", annotations=listed, videos=tmp_path / layout, relative_to=tmp_path, calibration_fraction=1.0
        )
        assert [row.name for row in rows] == [f"{layout}/{file}" for file in files[:2]]
        assert [(row.label, row.split) for row in rows] == [("anomalous", "calibration"), ("normal", "calibration")]
        assert all(row.path.is_file() for row in rows)


def test_videos_that_are_missing_or_ambiguous_are_named(put: Write, tmp_path: Path) -> None:
    listed = put("t.txt", UCF)
    put("v/Abuse028_x264.mp4", "")
    with pytest.raises(DatasetError, match=r"2 of 3 .*: Arson011_x264\.mp4, Normal_Videos_003_x264\.mp4"):
        import_dataset("ucf-crime", annotations=listed, videos=tmp_path / "v")
    put("v/Arson011_x264.mp4", "")
    put("v/Normal_Videos_003_x264.mp4", "")
    put("v/elsewhere/Abuse028_x264.mp4", "")
    assert len(import_dataset("ucf-crime", annotations=listed, videos=tmp_path / "v")) == 3
    put("v/elsewhere/Abuse028_x264.mp4", "another video")
    with pytest.raises(DatasetError, match=r"t\.txt:1: Abuse028_x264\.mp4 is .* with other content"):
        import_dataset("ucf-crime", annotations=listed, videos=tmp_path / "v")
    with pytest.raises(DatasetError, match="not a folder"):
        import_dataset("ucf-crime", annotations=listed, videos=tmp_path / "nowhere")


# ---- XD-Violence

BAD_BOYS = "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6"
QUIET = "A.Beautiful.Mind.2001__#00-25-20_00-29-20_label_A"
XD = f"{BAD_BOYS} 10 20 30 41\nv=x__#1_label_B1-0-0.mp4 0 7"
XD_FRAMES = f"{QUIET} 0 59 4\n{BAD_BOYS} 0 99 1,6\nv=x__#1_label_B1-0-0 0 9 3\n"


def test_xd_violence_dots_suffixes_classes_in_names_and_unlisted_normal_videos(put: Write) -> None:
    expected = {
        f"{BAD_BOYS}.mp4": ("anomalous", "test", ((10, 20), (30, 41)), 100),
        "v=x__#1_label_B1-0-0.mp4": ("anomalous", "test", ((0, 7),), 10),
        f"{QUIET}.mp4": ("normal", "test", (), 60),
    }
    rows = import_dataset("xd-violence", annotations=put("t.txt", XD), frame_counts=put("f.txt", XD_FRAMES))
    assert facts(rows) == expected
    assert len(import_dataset("xd-violence", annotations=put("t.txt", XD))) == 2


def test_xd_violence_normal_videos_from_the_folder(put: Write, tmp_path: Path) -> None:
    for name in (BAD_BOYS, QUIET, "v=x__#1_label_B1-0-0"):
        put(f"v/{name}.mp4", "")
    rows = import_dataset("xd-violence", annotations=put("t.txt", XD), videos=tmp_path / "v", relative_to=tmp_path)
    assert {row.name for row in rows if not row.anomalous} == {f"v/{QUIET}.mp4"}
    assert len(rows) == 3
    put("v/v=train__#1_label_B4-0-0.mp4", "")
    with pytest.raises(DatasetError, match="v=train__#1_label_B4-0-0 is anomalous, but not in"):
        import_dataset("xd-violence", annotations=put("t.txt", XD), videos=tmp_path / "v")


def test_xd_violence_training_list_has_no_timing(put: Write) -> None:
    rows = import_dataset("xd-violence", annotations=put("t.txt", f"{BAD_BOYS}.mp4\n{QUIET}\n"))
    assert [(row.label, row.split, row.timed) for row in rows] == [
        ("anomalous", "calibration", False),
        ("normal", "calibration", True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{BAD_BOYS} 10 20 30", ":1: 3 frame numbers"),
        (f"{QUIET} 10 20", ":1: .* is normal by its name, but has events"),
        ("clip.mp4 10 20", ":1: 'clip' does not end in a class"),
        ("v=x__#1_label_B3-0-0 10 20", ":1: .* does not end in a class"),
        (f"{BAD_BOYS} 10 20\n{BAD_BOYS}.mp4 30 40", ":2: .* was at .*t.txt:1 already"),
        (f"{BAD_BOYS} 10 20 15 40", ":1: event 15-40 overlaps"),
        (f"{BAD_BOYS} 30 40 10 20", ":1: event 10-20 overlaps or precedes"),
        (f"{BAD_BOYS} 10 20\nv=x__#1_label_B1-0-0", ":2: a line with and one without events"),
    ],
)
def test_xd_violence_faults_name_the_line(put: Write, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"t\.txt{says}"):
        import_dataset("xd-violence", annotations=put("t.txt", text))


# ---- MSAD

MSAD = (
    "name,scenario,total frames,starting frame of anomaly,ending frame of anomaly\n"
    "Assault_1,shop,426,55,426\nFire_2,street,300,10,90\n"
)


def test_msad_table_alone_and_with_lists(put: Write, tmp_path: Path) -> None:
    table = put("m/anomaly_annotation.csv", MSAD)
    assert facts(import_dataset("msad", annotations=table)) == {
        "Assault_1.mp4": ("anomalous", "test", ((54, 426),), 426),
        "Fire_2.mp4": ("anomalous", "test", ((9, 90),), 300),
    }
    put("m/MSAD_I3D_WS_Train.list", "/data/MSAD_normal_1_i3d.npy\n/data/Fire_2_i3d.npy\n")
    put("m/MSAD_I3D_WS_Test.list", "/data/x/MSAD_normal_testing_3_i3d.npy\n/data/MSAD_Assault_1_i3d.npy\n")
    assert facts(import_dataset("msad", annotations=tmp_path / "m")) == {
        "MSAD_normal_testing_3.mp4": ("normal", "test", (), None),
        "Assault_1.mp4": ("anomalous", "test", ((54, 426),), 426),
        "MSAD_normal_1.mp4": ("normal", "calibration", (), None),
        "Fire_2.mp4": ("anomalous", "calibration", ((9, 90),), 300),
    }
    put("m/MSAD_I3D_WS_Test.list", "/data/Riot_9_i3d.npy\n")
    with pytest.raises(DatasetError, match=r"Test\.list:1: Riot_9 is not in"):
        import_dataset("msad", annotations=tmp_path / "m")
    put("m/MSAD_I3D_WS_Test.list", "/data/Fire_2_i3d.npy\n")
    with pytest.raises(DatasetError, match="Fire_2 is in two splits"):
        import_dataset("msad", annotations=tmp_path / "m")


def test_msad_counts_from_one_as_its_authors_labels_do(put: Write) -> None:
    table = put("a.csv", MSAD.splitlines()[0] + "\nFire_2,street,300,20,200\n")
    (row,) = import_dataset("msad", annotations=table)
    # Where the authors' own array of labels changes.
    assert np.flatnonzero(np.diff(row.frame_labels(300).astype(int))).tolist() == [18, 199]


def labelled_by(interval: str, first: int, last: int, total: int) -> list[bool]:
    counted = range(1, total + 1) if interval == "one-based" else range(total)
    return [first <= number and (number < last if interval == "half-open" else number <= last) for number in counted]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), total=st.integers(1, 40), interval=st.sampled_from([None, *get_args(Interval)]))
def test_what_interval_says_holds_for_every_dataset_that_leaves_it_open(
    put: Write, data: st.DataObject, total: int, interval: Interval | None
) -> None:
    name = data.draw(st.sampled_from(sorted(key for key, one in IMPORTERS.items() if one.interval)))
    meant = interval or {"msad": "one-based"}.get(name, "half-open")
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first + 1, total + 5))
    file = BAD_BOYS if name == "xd-violence" else "Abuse028_x264"
    lines = {
        "ucf-crime": f"Abuse028_x264.mp4 Abuse {first} {last} -1 -1",
        "xd-violence": f"{BAD_BOYS} {first} {last}",
        "msad": MSAD.splitlines()[0] + f"\nFire_2,street,{total},{first},{last}",
    }
    counts = None if name == "msad" else put("f.txt", f"{file} {total}\n")
    rows = import_dataset(name, annotations=put("t.txt", lines[name]), frame_counts=counts, interval=interval)
    assert rows[0].frame_labels(total).tolist() == labelled_by(meant, first, last, total)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,scenario\nAssault_1,shop\n", ":1: column 'total frames' is missing"),
        (MSAD + "Fire_2,street,300,10,90\n", ":4: 'Fire_2' was at .*:3 already"),
        (MSAD + "Fire_3,street,300,310,390\n", ":4: event 310-390 is after the last frame of 300"),
        (MSAD + "Fire_3,street,300\n", ":4: not as many cells"),
        (MSAD + "Fire_3,street,300,a,9\n", ":4: starting frame of anomaly 'a' is no whole number"),
    ],
)
def test_msad_faults_name_the_line(put: Write, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"a\.csv{says}"):
        import_dataset("msad", annotations=put("a.csv", text))


# ---- frame masks


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_shanghaitech_masks_come_back_frame_for_frame(tmp_path_factory: pytest.TempPathFactory, mask: list) -> None:
    folder = tmp_path_factory.mktemp("masks")
    np.save(folder / "01_0014.npy", np.array(mask, dtype=np.int64))
    (row,) = import_dataset("shanghaitech", annotations=folder)
    assert (row.name, row.anomalous, row.frames) == ("01_0014.avi", any(mask), len(mask))
    assert row.frame_labels(len(mask)).tolist() == mask


def test_shanghaitech_faults_name_the_file(tmp_path: Path, put: Write) -> None:
    with pytest.raises(DatasetError, match=r"no \*\.npy in it"):
        import_dataset("shanghaitech", annotations=tmp_path)
    counts = put("f.txt", "01_0014 5\n")
    for mask, says in (
        (np.array([0, 2, 1]), "holds 2, but labels are 0 and 1"),
        (np.zeros((4, 4)), "is not one label per frame"),
        (np.zeros(0), "is not one label per frame"),
        (np.zeros(6), "6 labels, but the frame counts say 5"),
        (np.array([{}]), "not readable as a frame mask"),
    ):
        np.save(tmp_path / "01_0014.npy", mask)
        with pytest.raises(DatasetError, match=rf"01_0014\.npy: .*{says}"):
            import_dataset("shanghaitech", annotations=tmp_path, frame_counts=counts)


def picture_masks(mask: list[int]) -> np.ndarray:
    cells = np.empty((1, len(mask)), dtype=object)
    for index, abnormal in enumerate(mask):
        cells[0, index] = np.full((4, 6), 0, dtype=np.uint8)
        cells[0, index][2, 3] = abnormal
    return cells


def test_avenue_masks_by_number_and_the_training_video_of_the_same_name(tmp_path: Path, put: Write) -> None:
    masks = tmp_path / "testing_label_mask"
    masks.mkdir()
    savemat(masks / "10_label.mat", {"volLabel": picture_masks([1, 0])})
    savemat(masks / "2_label.mat", {"volLabel": picture_masks([0, 1, 1, 0, 1])})
    for folder in ("training_videos", "testing_videos"):
        put(f"v/{folder}/02.avi", folder)
        put(f"v/{folder}/10.avi", folder)
    rows = import_dataset("avenue", annotations=masks, videos=tmp_path / "v", relative_to=tmp_path)
    assert facts(rows) == {
        "v/testing_videos/02.avi": ("anomalous", "test", ((1, 3), (4, 5)), 5),
        "v/testing_videos/10.avi": ("anomalous", "test", ((0, 1),), 2),
    }


def test_ranges_of_all_videos_in_one_file(tmp_path: Path, put: Write) -> None:
    cells = np.empty((1, 3), dtype=object)
    cells[0, 0] = np.array([[61], [180]])
    cells[0, 1] = np.array([[5, 140], [90, 200]], dtype=np.uint8)
    cells[0, 2] = np.zeros((0, 0))
    savemat(tmp_path / "ped2.mat", {"gt": cells})
    expected = [("anomalous", ((60, 180),)), ("anomalous", ((4, 90), (139, 200))), ("normal", ())]
    rows = import_dataset("ped2", annotations=tmp_path / "ped2.mat")
    assert [(row.name, row.label, row.events) for row in rows] == [
        (f"{number:02d}.avi", *facts) for number, facts in enumerate(expected, start=1)
    ]
    assert facts(import_dataset("avenue", annotations=tmp_path / "ped2.mat")) == facts(rows)
    listing = put(
        "UCSDped2.m",
        "TestVideoFile = {};\nTestVideoFile{end+1}.gt_frame = [61:180];\n"
        "% TestVideoFile{end+1}.gt_frame = [1:9];\n"
        "TestVideoFile{end+1}.gt_frame = [5:90, 140:200];\nTestVideoFile{end+1}.gt_frame = [];\n",
    )
    rows = import_dataset("ped2", annotations=listing)
    assert [(row.name, row.label, row.events) for row in rows] == [
        (f"Test{number:03d}.avi", *facts) for number, facts in enumerate(expected, start=1)
    ]


def test_matlab_faults_name_the_file_and_the_video(tmp_path: Path, put: Write) -> None:
    with pytest.raises(DatasetError, match=r"a\.m: video 1: '61-180' is no frame range"):
        import_dataset("ped2", annotations=put("a.m", "T{end+1}.gt_frame = [61-180];"))
    with pytest.raises(DatasetError, match=r"a\.m: video 1: .* are not MATLAB's"):
        import_dataset("ped2", annotations=put("a.m", "T{end+1}.gt_frame = [0:180];"))
    with pytest.raises(DatasetError, match="no gt_frame"):
        import_dataset("ped2", annotations=put("a.m", "x = 1;"))
    with pytest.raises(DatasetError, match=r"a\.mat: not readable as a MATLAB file"):
        import_dataset("ped2", annotations=put("a.mat", "x = 1;"))
    savemat(tmp_path / "b.mat", {"other": np.zeros(3)})
    with pytest.raises(DatasetError, match="no variable 'gt'"):
        import_dataset("ped2", annotations=tmp_path / "b.mat")
    savemat(tmp_path / "b.mat", {"gt": np.array([[np.zeros((3, 2))]], dtype=object)})
    with pytest.raises(DatasetError, match=r"video 1 has .* of shape"):
        import_dataset("ped2", annotations=tmp_path / "b.mat")


# ---- UBnormal


def test_ubnormal_tracks_of_several_objects_and_the_published_splits(put: Write, tmp_path: Path) -> None:
    put(
        "u/Scene1/abnormal_scene_1_scenario_1_annotations/abnormal_scene_1_scenario_1_tracks.txt", "1,10,19\n2,5,12\n"
    )
    put("u/Scene4/abnormal_scene_4_scenario_2_annotations/abnormal_scene_4_scenario_2_tracks.txt", "1.0,0.0,3.0\n")
    put("u/normal_training_video_names.txt", "normal_scene_1_scenario1_2\n")
    put("u/abnormal_validation_video_names.txt", "abnormal_scene_4_scenario_2")
    put("u/abnormal_test_video_names.txt", "abnormal_scene_1_scenario_1\n")
    assert facts(import_dataset("ubnormal", annotations=tmp_path / "u")) == {
        "normal_scene_1_scenario1_2.mp4": ("normal", "calibration", (), None),
        "abnormal_scene_4_scenario_2.mp4": ("anomalous", "validation", ((0, 4),), None),
        "abnormal_scene_1_scenario_1.mp4": ("anomalous", "test", ((5, 20),), None),
    }
    put("u/abnormal_training_video_names.txt", "abnormal_scene_9_scenario_9\n")
    with pytest.raises(DatasetError, match="abnormal_scene_9_scenario_9 has no abnormal_scene_9_scenario_9_tracks"):
        import_dataset("ubnormal", annotations=tmp_path / "u")


def test_ubnormal_without_lists(put: Write, tmp_path: Path) -> None:
    put("u/abnormal_scene_1_scenario_1_tracks.txt", "1,10,19\n")
    with pytest.raises(UsageError, match="normal videos are unknown"):
        import_dataset("ubnormal", annotations=tmp_path / "u")
    put("v/Scene1/abnormal_scene_1_scenario_1.mp4", "")
    put("v/Scene1/normal_scene_1_scenario_3.mp4", "")
    rows = import_dataset("ubnormal", annotations=tmp_path / "u", videos=tmp_path / "v", relative_to=tmp_path)
    assert [(row.name, row.events) for row in rows] == [
        ("v/Scene1/abnormal_scene_1_scenario_1.mp4", ((10, 20),)),
        ("v/Scene1/normal_scene_1_scenario_3.mp4", ()),
    ]
    put("u/abnormal_scene_1_scenario_1_tracks.txt", "1,10\n")
    with pytest.raises(DatasetError, match=r"_tracks\.txt:1: '1,10' is no track"):
        import_dataset("ubnormal", annotations=tmp_path / "u", videos=tmp_path / "v")


# ---- what all have in common


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_every_importer_says_what_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        import_dataset(name, annotations=tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(HeadHuntError, match="binary") as caught:
        import_dataset(name, annotations=tmp_path / "binary")
    assert "\n" not in str(caught.value)


def test_options_that_do_not_go_together(put: Write) -> None:
    with pytest.raises(UsageError, match="unknown dataset 'ucf'; there are ucf-crime"):
        import_dataset("ucf", annotations=put("t.txt", UCF))
    for interval in get_args(Interval):
        with pytest.raises(UsageError, match="leave --interval out"):
            import_dataset("ubnormal", annotations=put("t.txt", UCF), interval=interval)
    with pytest.raises(UsageError, match="calibration draw"):
        import_dataset("ucf-crime", annotations=put("t.txt", UCF), split="test", calibration_fraction=0.5)


def row(index: int, label: str) -> Video:
    return Video(Path(f"{label}{index}.mp4"), f"{label}{index}.mp4", label, "test")  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.001, 1.0), st.integers(0, 9), st.randoms())
def test_the_draw_is_stratified_and_repeatable(normal, anomalous, fraction, seed, shuffle) -> None:
    rows = [row(i, "normal") for i in range(normal)] + [row(i, "anomalous") for i in range(anomalous)]
    drawn = draw_calibration(rows, fraction, seed)
    for label, count in (("normal", normal), ("anomalous", anomalous)):
        assert sum(video.label == label for video in drawn) == max(1, round(fraction * count))
    assert {video.split for video in drawn} == {"calibration"}
    shuffle.shuffle(rows)
    assert {video.name for video in draw_calibration(rows, fraction, seed)} == {video.name for video in drawn}


def test_the_draw_needs_both_classes_and_a_fraction() -> None:
    with pytest.raises(DatasetError, match="no anomalous video"):
        draw_calibration([row(0, "normal")], 0.5, 0)
    for fraction in (0.0, 1.1, float("nan")):
        with pytest.raises(UsageError, match="fraction"):
            draw_calibration([row(0, "normal"), row(1, "anomalous")], fraction, 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=8))
def test_a_union_holds_the_same_frames(ranges: list[tuple[int, int]]) -> None:
    union = merged((start, start + length) for start, length in ranges)
    frames = {frame for start, length in ranges for frame in range(start, start + length)}
    assert {frame for start, end in union for frame in range(start, end)} == frames
    assert all(a[1] < b[0] for a, b in itertools.pairwise(union))


def test_only_a_video_suffix_is_cut() -> None:
    assert stem(f"x/{BAD_BOYS}.mp4") == stem(BAD_BOYS) == BAD_BOYS
    assert stem("folder\\clip.AVI") == "clip"


words = st.sampled_from(
    [
        "Abuse028_x264.mp4",
        "Abuse",
        "Normal",
        BAD_BOYS,
        QUIET,
        "-1",
        "0",
        "7",
        "12",
        "x",
        ",",
        "=[1:9]",
        "gt_frame",
        "\0",
        " ",
        "\n",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.sampled_from(sorted(IMPORTERS)), st.lists(words, max_size=20).map(" ".join))
def test_any_annotation_is_read_or_one_line_of_error(put: Write, tmp_path: Path, name: str, text: str) -> None:
    path = put("x_tracks.txt" if name == "ubnormal" else "any.txt", text)
    try:
        rows = import_dataset(name, annotations=tmp_path if name == "ubnormal" else path)
    except HeadHuntError as error:
        fault = str(error)
    else:
        fault = "none" if rows else ""
    assert len(fault.splitlines()) == 1
