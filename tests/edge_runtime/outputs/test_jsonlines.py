"""Records reach their reader whole, or it is said that they did not."""

from __future__ import annotations

import json
import logging
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed
from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only, unfinished_events
from edge_runtime.outputs.rotation import Rotation, begun_at, older_file
from edge_runtime.records import CameraRecord, EventRecord, Record, RunRecord


def record(detail: str = "frames of 320 x 240") -> CameraRecord:
    return CameraRecord(camera="gate", state="online", detail=detail)


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """A disk that is full after 1000 bytes of one file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def event(number: int, state: Literal["new", "update", "end"]) -> EventRecord:
    return EventRecord(state, f"1a-gate-{number}", "gate", 0.0, 1.0, 0, 30, 0.9, 0.8)


def test_events_that_were_begun_and_not_ended_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert unfinished_events(path) == []
    told: list[Record] = [
        event(0, "new"),
        event(0, "end"),
        event(7, "new"),
        record(),
        event(7, "update"),
        event(9, "new"),
    ]
    path.write_text("".join(one.to_json() + "\n" for one in told) + '{"type":"eve')
    assert unfinished_events(path) == [event(7, "update"), event(9, "new")]
    with path.open("a") as file:
        file.write(
            "\n" + event(9, "end").to_json() + "\n" + "x" * 5 * 2**20 + "\n" + event(11, "new").to_json() + "\n"
        )
    assert unfinished_events(path) == [event(11, "new")]


def test_what_is_no_file_of_records_holds_no_events(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100)
    os.mkfifo(tmp_path / "pipe")
    for name in ("binary", "none", "."):
        assert unfinished_events(tmp_path / name) == []


def test_every_record_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path) as lines:
        for number in range(3):
            lines.write(record(f"Straße {number}"))
            written = path.read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["detail"] for line in written] == [f"Straße {n}" for n in range(number + 1)]


def test_a_restart_appends_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    with caplog.at_level(logging.WARNING):
        with JsonLines.to_file(path) as lines:
            lines.write(record("first"))
        assert caplog.messages == []
        with JsonLines.to_file(path) as lines:
            lines.write(record("second"))
        assert len(caplog.messages) == 1
    assert [json.loads(line)["detail"] for line in path.read_text().splitlines()] == ["first", "second"]


def test_a_half_line_of_a_power_cut_does_not_spoil_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"type":"seg')
    with JsonLines.to_file(path) as lines:
        lines.write(record("after"))
    half, after = path.read_text().splitlines()
    assert half == '{"type":"seg'
    assert json.loads(after)["detail"] == "after"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, file_size_limit: int) -> None:
    path = tmp_path / "out.jsonl"
    lines = JsonLines.to_file(path)
    written = 0
    with pytest.raises(OutputFailed, match=r"out\.jsonl: cannot be written"):  # noqa: PT012  which write, is asserted
        while written < file_size_limit:
            lines.write(record("x" * 37))
            written += 1
    kept = path.read_text()
    assert kept.endswith("\n")
    assert len(kept.splitlines()) == written > 0
    assert file_size_limit - 200 < len(kept) <= file_size_limit
    with pytest.raises(OutputFailed, match="closed"):
        lines.write(record())


def test_a_device_without_room() -> None:
    with pytest.raises(OutputFailed, match="No space left"), JsonLines.to_file(Path("/dev/full")) as lines:
        lines.write(record())


def test_a_reader_that_went_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with JsonLines(writer, "standard output") as lines, pytest.raises(OutputFailed, match="reader has gone"):
        lines.write(record())


@pytest.mark.parametrize("name", ["", "no/such/folder/out.jsonl", "nul\0byte"])
def test_places_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputFailed, match="cannot be opened for writing") as caught:
        JsonLines.to_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_first_failure_is_the_one_that_is_told() -> None:
    def work(lines: JsonLines) -> None:
        with lines:
            os.close(lines._descriptor or 0)  # as a file system that fails at the end: closing it is an error
            raise RuntimeError("first")

    with pytest.raises(RuntimeError, match="first"):
        work(JsonLines.to_file(Path(os.devnull)))


def test_what_libraries_print_does_not_mix_with_records(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_for_records_only() as lines:
        os.write(1, b"a library's chatter\n")
        lines.write(record())
    os.write(1, b"after\n")
    out, err = capfd.readouterr()
    assert out == record().to_json() + "\nafter\n"
    assert err == "a library's chatter\n"


def details(path: Path) -> list[str]:
    return [json.loads(line)["detail"] for line in path.read_text().splitlines()]


def fill_disk(most: int) -> None:
    """No file of this process grows beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 400), max_size=60),
    most=st.integers(1, 1500),
    restarts=st.sets(st.integers(0, 60)),
)
def test_files_that_begin_anew_hold_every_record_once_and_whole(
    lengths: list[int], most: int, restarts: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        sent = [f"{number} {'x' * length}" for number, length in enumerate(lengths)]
        lines = JsonLines.to_file(path, most, keep=100)
        for number, detail in enumerate(sent):
            if number in restarts:
                lines.close()
                lines = JsonLines.to_file(path, most, keep=100)
            lines.write(record(detail))
        lines.close()
        files = [older_file(path, number) for number in range(100, -1, -1)]
        contents = [file.read_bytes() for file in files if file.exists()]
        assert len(contents) == len(list(Path(folder).iterdir()))
        assert all(content.endswith(b"\n") for content in contents if content)
        assert all(len(content) <= most or content.count(b"\n") == 1 for content in contents)
        told = [json.loads(line)["detail"] for content in contents for line in content.splitlines()]
        assert told == sent


def test_the_oldest_files_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, 1, keep=3) as lines:
        for number in range(10):
            lines.write(record(str(number)))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.1",
        "out.jsonl.2",
        "out.jsonl.3",
    ]
    assert [details(older_file(path, number)) for number in range(4)] == [["9"], ["8"], ["7"], ["6"]]


def test_a_file_begins_anew_when_its_first_record_is_old(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(RunRecord("1a", "2026-01-01T00:00:00.000Z", "1a", "0", ["gate"]).to_json() + "\n")
    with JsonLines.to_file(path, rotate_s=3600) as lines:
        lines.write(record("today"))
        lines.write(record("today, too"))
    assert details(path) == ["today", "today, too"]
    assert "2026-01-01" in older_file(path, 1).read_text()
    assert not older_file(path, 2).exists()


@pytest.mark.parametrize("first", ["", "{", "[]", '{"type":"camera","camera":"a","state":"online","detail":"b"}\n'])
def test_a_first_record_without_a_time_is_of_now(tmp_path: Path, first: str) -> None:
    (tmp_path / "out.jsonl").write_text(first)
    with (tmp_path / "out.jsonl").open("rb") as file:
        assert begun_at(file.fileno()) == pytest.approx(time.time(), abs=60)


def test_a_link_stays_a_link_when_its_file_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.jsonl"
    link.symlink_to(tmp_path / "disk" / "records")
    with JsonLines.to_file(link, 1) as lines:
        lines.write(record("0"))
        lines.write(record("1"))
    assert link.is_symlink()
    assert details(link) == ["1"]
    assert details(tmp_path / "disk" / "records.1") == ["0"]


def test_a_file_that_cannot_begin_anew_grows_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    path = tmp_path / "out.jsonl"
    older_file(path, 1).mkdir()
    (older_file(path, 1) / "in the way").touch()
    with JsonLines.to_file(path, 1, keep=1, monotonic=clock) as lines:
        for number in range(5):
            lines.write(record(str(number)))
        assert details(path) == ["0", "1", "2", "3", "4"]
        assert len(caplog.messages) == 1
        assert "out.jsonl: cannot begin anew" in caplog.text
        (older_file(path, 1) / "in the way").unlink()
        older_file(path, 1).rmdir()
        clock.seconds += 2
        lines.write(record("5"))
    assert details(path) == ["5"]


def test_pipes_and_devices_do_not_begin_anew(tmp_path: Path) -> None:
    with JsonLines.to_file(Path(os.devnull), 1) as lines:
        for number in range(3):
            lines.write(record(str(number)))
    os.mkfifo(tmp_path / "pipe")
    # Open before it is written to: what lies in a pipe that nobody reads is lost.
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with JsonLines.to_file(tmp_path / "pipe", 1, persistent=True) as lines:
            for number in range(3):
                lines.write(record(str(number)))
        got = os.read(reader, 2**16)
    finally:
        os.close(reader)
    assert got.count(b"\n") == 3
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("bounds", [{"rotate_bytes": 0}, {"rotate_s": 0.0}, {"rotate_bytes": 1, "keep": 0}])
def test_bounds_that_would_lose_records(tmp_path: Path, bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"record|seconds"):
        JsonLines.to_file(tmp_path / "out.jsonl", **bounds)  # type: ignore[arg-type]
    assert Rotation(1).keep > 0


def test_a_live_run_goes_through_a_full_disk(
    tmp_path: Path, file_size_limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, persistent=True, monotonic=clock) as lines:
        for number in range(30):
            clock.seconds += 0.25
            lines.write(record(f"{number} {'x' * 30}"))
        before = details(path)
        assert before == [f"{number} {'x' * 30}" for number in range(len(before))]
        assert lines.missing == 30 - len(before) > 10
        assert [text for text in caplog.messages if "records are missing" in text] == [
            f"{path}: cannot be written (File too large), records are missing"
        ]
        clock.seconds += 60
        lines.write(record("x" * 100))
        assert f"{path}: {lines.missing - 1} more records are missing from the last 6" in caplog.text
        missing = lines.missing
        fill_disk(resource.RLIM_INFINITY)
        lines.write(record("too soon"))  # the disk was asked less than a second ago
        clock.seconds += 1.5
        lines.write(record("again"))
        lines.write(record("and again"))
        assert lines.missing == missing + 1
        assert f"can be written again; {lines.missing} records of the time since" in caplog.text
    assert details(path) == [*before, "again", "and again"]


def test_a_disk_that_is_full_again_counts_again(tmp_path: Path, file_size_limit: int) -> None:
    clock = Clock()
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, persistent=True, monotonic=clock) as lines:
        for full in (True, False, True, False):
            fill_disk(1 if full else resource.RLIM_INFINITY)
            clock.seconds += 2
            lines.write(record(str(full)))
    assert details(path) == ["False", "False"]
    assert lines.missing == 2


def test_a_full_disk_that_a_rotation_frees(tmp_path: Path, file_size_limit: int) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, 800, persistent=True) as lines:
        for number in range(30):
            lines.write(record(f"{number} {'x' * 30}"))
        assert lines.missing == 0


def test_a_disk_that_was_plugged_in_again(tmp_path: Path, file_size_limit: int) -> None:
    """The file of the same name is another one now: the one that is open is never written again."""
    clock = Clock()
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, persistent=True, monotonic=clock) as lines:
        lines.write(record("x" * 900))
        path.unlink()
        path.write_text(record("0").to_json() + '\n{"half')
        lines.write(record("x" * 900))  # fails
        clock.seconds += 2
        lines.write(record("1"))
    first, half, last = path.read_text().splitlines()
    assert (first, half, last) == (record("0").to_json(), '{"half', record("1").to_json())


def test_a_live_run_ends_when_its_reader_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with (
        JsonLines(writer, "standard output", persistent=True) as lines,
        pytest.raises(OutputFailed, match="reader has gone"),
    ):
        lines.write(record())


def test_events_are_found_again_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLines.to_file(path, 400) as lines:
        for one in (event(1, "new"), event(2, "new"), event(3, "new"), event(1, "end"), event(4, "new")):
            lines.write(one)
    assert older_file(path, 1).exists()
    assert {one.id for one in unfinished_events(path)} <= {f"1a-gate-{number}" for number in (2, 3, 4)}
    assert event(4, "new") in unfinished_events(path)
    with JsonLines.to_file(path, 1) as lines:
        lines.write(event(4, "update"))
        lines.write(record())
    assert event(4, "update") in unfinished_events(path)
