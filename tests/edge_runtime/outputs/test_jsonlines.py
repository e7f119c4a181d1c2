"""Records reach their reader whole, or it is said that they did not."""

from __future__ import annotations

import json
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from edge_runtime.errors import OutputFailed
from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only, unfinished_events
from edge_runtime.records import CameraRecord, EventRecord, Record


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
