from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError, OutputFailed
from offline.data.dataset import (
    LABELS,
    SPLITS,
    Dataset,
    Video,
    check_frames,
    parse_events,
    read_dataset,
    write_dataset,
)

HEADER = "path,label,split,events,frames\n"


def manifest(folder: Path, body: str, header: str = HEADER) -> Path:
    path = folder / "data.csv"
    path.write_text(header + body, encoding="utf-8")
    return path


def video(name: str = "a.mp4", label: str = "anomalous", events: tuple[tuple[int, int], ...] = (), **rest) -> Video:
    return Video(path=Path(name), name=name, label=label, split="test", events=events, **rest)


spans = st.lists(st.integers(0, 5000), unique=True, max_size=8).map(
    lambda cuts: tuple(zip(sorted(cuts)[0::2], sorted(cuts)[1::2], strict=False))
)
names = (
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/\\"), min_size=1)
    .map(lambda text: text.strip())
    .filter(lambda text: text not in {"", ".", ".."})
)


@st.composite
def videos(draw: st.DrawFn) -> list[Video]:
    rows = []
    for name in draw(st.lists(st.tuples(st.sampled_from(["", "clips/", "/abs/"]), names), min_size=1, unique=True)):
        label = draw(st.sampled_from(LABELS))
        events = draw(spans) if label == "anomalous" else ()
        frames = draw(st.none() | st.integers(events[-1][1] if events else 1, 9999))
        rows.append(Video(Path("".join(name)), "".join(name), label, draw(st.sampled_from(SPLITS)), events, frames))
    return rows


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(videos())
def test_what_is_written_is_read_back(tmp_path: Path, rows: list[Video]) -> None:
    path = tmp_path / "data.csv"
    write_dataset(rows, path)
    dataset = read_dataset(path)
    assert [(v.name, v.label, v.split, v.events, v.frames) for v in dataset] == [
        (v.name, v.label, v.split, v.events, v.frames) for v in rows
    ]
    assert [v.path for v in dataset] == [tmp_path / v.name for v in rows]
    # Writing what was read changes nothing, to the byte.
    before = path.read_bytes()
    write_dataset(dataset, path)
    assert path.read_bytes() == before


@given(spans, st.integers(0, 200), st.integers(1, 200))
def test_labels_and_overlap_agree(events: tuple[tuple[int, int], ...], start: int, length: int) -> None:
    row = video(label="anomalous" if events else "normal", events=events)
    labels = row.frame_labels(6000)
    assert labels.dtype == np.bool_
    assert labels.sum() == sum(end - begin for begin, end in events)
    assert row.overlaps(start, start + length) == labels[start : start + length].any()


def test_byte_order_mark_crlf_blank_lines_and_column_order(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(
        (
            "\ufefflabel,path,frames,split,events\r\n\r\n" + "anomalous, ä b.mp4 ,,test, 1-2 ; 5 - 9\r\n,,,,\r\n"
        ).encode()
    )
    (row,) = read_dataset(path)
    assert (row.name, row.events, row.frames, row.line) == ("ä b.mp4", ((1, 2), (5, 9)), None, 3)


def test_splits_keep_order(tmp_path: Path) -> None:
    dataset = read_dataset(
        manifest(tmp_path, "b.mp4,normal,test,,\na.mp4,anomalous,test,,\nc.mp4,normal,validation,,\n")
    )
    assert [row.name for row in dataset.split("test")] == ["b.mp4", "a.mp4"]
    assert len(dataset.split("calibration")) == 0
    dataset.require_both_classes("test")
    with pytest.raises(DatasetError, match=r"data\.csv: split 'validation' has no anomalous video"):
        dataset.require_both_classes("validation")
    with pytest.raises(ValueError, match="unknown split"):
        dataset.split("train")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("a.mp4,strange,test,,\n", ":2: unknown label 'strange'"),
        ("a.mp4,normal,train,,\n", ":2: unknown split 'train'"),
        ("a.mp4,anomalous,test,5:9,\n", ":2: events '5:9': '5:9' is no frame range"),
        ("a.mp4,anomalous,test,5-9;,\n", ":2: events '5-9;': '' is no frame range"),
        ("a.mp4,anomalous,test,-5-9,\n", ":2: events '-5-9': '-5-9' is no frame range"),
        ("a.mp4,anomalous,test,1_0-2_0,\n", ":2: events '1_0-2_0'"),
        ("a.mp4,anomalous,test,٣-٩,\n", ":2: events"),
        ("a.mp4,anomalous,test,9-9,\n", ":2: event 9-9 holds no frame"),
        ("a.mp4,anomalous,test,9-5,\n", ":2: event 9-5 holds no frame"),
        ("a.mp4,anomalous,test,5-9;8-12,\n", ":2: events 5-9;8-12 overlap or are not sorted"),
        ("a.mp4,anomalous,test,50-90;8-12,\n", ":2: events 50-90;8-12 overlap or are not sorted"),
        ("a.mp4,anomalous,test,5-91,90\n", ":2: event 5-91 ends after the last frame of 90"),
        ("a.mp4,normal,test,5-9,90\n", ":2: a normal video with events 5-9"),
        ("a.mp4,normal,test,,ninety\n", ":2: frames 'ninety' is no frame count"),
        ("a.mp4,normal,test,,-4\n", ":2: frames '-4' is no frame count"),
        ("a.mp4,normal,test,,0\n", ":2: frames 0 is no frame count"),
        ("a.mp4,normal,test,," + "9" * 5000 + "\n", ":2: frames '999"),
        ("a.mp4,normal,test,,\n,normal,test,,\n", ":3: the path is empty"),
        (".,normal,test,,\n", ":2: path '.' names no video"),
        ("a.mp4,normal,test,,\na.mp4,normal,test,,\n", ":3: 'a.mp4' is the same video as on line 2; remove"),
        (
            "b.mp4,normal,test,,\na/../b.mp4,normal,test,,\n",
            ":3: 'a/../b.mp4' is the same video as on line 2, written",
        ),
        ("b.mp4,normal,test,,\n./b.mp4,anomalous,test,,\n", ":3: 'b.mp4' is the same video as on line 2"),
        ("a.mp4,normal,test\n", ":2: 3 cells where the header has 5"),
        ("a,b.mp4,normal,test,,\n", ":2: 6 cells where the header has 5"),
        ('"a.mp4,normal,test,,\n', ": not readable as CSV"),
        ("a\0.mp4,normal,test,,\n", ":2: "),
        ("a\tb.mp4,normal,test,,\n", ":2: path 'a\\tb.mp4' holds a control"),
        ("", ": a header, but no videos"),
    ],
)
def test_faults_name_file_line_and_value(tmp_path: Path, body: str, says: str) -> None:
    path = manifest(tmp_path, body)
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("path,label,split,events\n", ":1: column 'frames' is missing"),
        ("path,label,split,events,frames,fps\n", ":1: unknown column 'fps'"),
        ("path,label,split,events,frames,label\n", ":1: column 'label' is there twice"),
        ("", ": the file is empty"),
    ],
)
def test_headers_are_exact(tmp_path: Path, header: str, says: str) -> None:
    path = manifest(tmp_path, "", header=header)
    with pytest.raises(DatasetError, match=f"{path.name}{says}"):
        read_dataset(path)


def test_missing_folder_and_foreign_encoding(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data\.csv: no such file"):
        read_dataset(tmp_path / "data.csv")
    with pytest.raises(DatasetError, match="directory"):
        read_dataset(tmp_path)
    path = tmp_path / "data.csv"
    path.write_bytes(HEADER.encode() + "straße.mp4,normal,test,,\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"data\.csv:2: byte 0xdf is not UTF-8"):
        read_dataset(path)


def test_a_link_to_the_same_video_is_the_same_video(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("b.mp4")
    with pytest.raises(DatasetError, match="same video as on line 2"):
        read_dataset(manifest(tmp_path, "b.mp4,normal,test,,\nlink.mp4,normal,test,,\n"))


def test_missing_videos_are_listed(tmp_path: Path) -> None:
    rows = "".join(f"{index}.mp4,normal,test,,\n" for index in range(6))
    (tmp_path / "0.mp4").touch()
    dataset = read_dataset(manifest(tmp_path, rows))
    with pytest.raises(DatasetError, match=r"5 of 6 .*: 1\.mp4 \(line 3\), 2\.mp4 .*3\.mp4 \(line 5\) and 2 more"):
        dataset.require_files()
    Dataset(dataset.path, dataset.videos[:1]).require_files()


def test_the_decoded_video_must_agree() -> None:
    check_frames(video(events=((3, 9),)), 9)
    check_frames(video(frames=9), 9)
    with pytest.raises(DatasetError, match="ends after the last frame, the video has 8"):
        check_frames(video(events=((3, 9),)), 8)
    with pytest.raises(DatasetError, match="says 10 frames, the video has 9"):
        check_frames(video(frames=10), 9)


def test_unknown_timing_is_never_guessed() -> None:
    untimed = video()
    assert not untimed.timed
    with pytest.raises(DatasetError, match="when is unknown"):
        untimed.frame_labels(10)
    with pytest.raises(DatasetError, match="when is unknown"):
        untimed.overlaps(0, 10)
    assert not video(label="normal").frame_labels(10).any()


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.csv"
    write_dataset([video("a.mp4")], path)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputFailed, match="No space left"):
        write_dataset([video("b.mp4")], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputFailed, match="No such file"):
        write_dataset([video("b.mp4")], tmp_path / "nowhere" / "data.csv")
    with pytest.raises(DatasetError, match="same video"):
        write_dataset([video("b.mp4"), video("c/../b.mp4")], path)
    with pytest.raises(DatasetError, match="no videos"):
        write_dataset([], path)


@given(spans)
def test_ranges_are_read_as_written(events: tuple[tuple[int, int], ...]) -> None:
    assert parse_events(";".join(f"{start}-{end}" for start, end in events)) == events


cells = st.sampled_from(
    [
        "a.mp4",
        "normal",
        "anomalous",
        "test",
        "3-9",
        "3-9;8-9",
        "12",
        "",
        " ",
        ",",
        ",",
        ",",
        '"',
        "\n",
        "\r\n",
        "\0",
        "\x85",
        "é",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(cells, max_size=30).map("".join), st.booleans())
def test_any_text_is_a_dataset_or_one_line_of_error(tmp_path: Path, text: str, header: bool) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(((HEADER if header else "") + text).encode())
    try:
        dataset = read_dataset(path)
    except DatasetError as error:
        fault = str(error)
    else:
        fault = f"{path}: none"
        write_dataset(dataset, path)
        assert read_dataset(path) == dataset
    assert fault.startswith(str(path))
    assert len(fault.splitlines()) == 1


def test_a_name_too_long_for_the_system_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="1 of 1 videos are not there"):
        read_dataset(manifest(tmp_path, "a" * 5000 + ".mp4,normal,test,,\n")).require_files()
