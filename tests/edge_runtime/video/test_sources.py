"""What an operator may write as a source, and what is shown of it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_runtime.errors import HeadHuntError, SourceUnavailable, UsageError
from edge_runtime.video.sources import Source, check_file, parse_source


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("street.mp4", "a=b.mp4", "b.mp4", "7", "my video.v2.mkv"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "kind", "target"),
    [
        ("street.mp4", "street", "file", "street.mp4"),
        ("gate=street.mp4", "gate", "file", "street.mp4"),
        ("my video.v2.mkv", "my video.v2", "file", "my video.v2.mkv"),
        ("a=b.mp4", "a=b", "file", "a=b.mp4"),  # there is such a file
        ("c=b.mp4", "c", "file", "b.mp4"),  # there is not
        ("./a=b.mp4", "a=b", "file", "./a=b.mp4"),
        ("x=a=b.mp4", "x", "file", "a=b.mp4"),
        ("./7", "7", "file", "./7"),
        ("7", "camera7", "device", "7"),
        ("door=0", "door", "device", "0"),
        ("/dev/video2", "camera2", "device", "2"),
        ("rtsp://10.0.0.9:554/live", "10.0.0.9", "rtsp", "rtsp://10.0.0.9:554/live"),
        ("rtsps://cam.example/live", "cam.example", "rtsp", "rtsps://cam.example/live"),
        ("RTSP://CAM/Live", "cam", "rtsp", "rtsp://CAM/Live"),  # FFmpeg knows only lower-case schemes
        ("http://cam/video?channel=1&x=y", "cam", "http", "http://cam/video?channel=1&x=y"),
        ("https://cam/", "cam", "http", "https://cam/"),
        ("loop:street.mp4", "street", "loop", "street.mp4"),
        ("gate=loop:street.mp4", "gate", "loop", "street.mp4"),
        ("loop:none.mp4", "none", "loop", "none.mp4"),  # it may come later
        ("./loop:x", "loop:x", "file", "./loop:x"),
        ("Gate-1.a_b=rtsp://u:p@cam/x?a=b", "Gate-1.a_b", "rtsp", "rtsp://u:p@cam/x?a=b"),
    ],
)
def test_sources_that_are_understood(folder: Path, text: str, name: str, kind: str, target: str) -> None:
    source = parse_source(text)
    assert (source.name, source.kind, source.target) == (name, kind, target)
    assert source.live == (kind != "file")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "gate=",
        "ftp://cam/x",
        "file:///x",
        "rtsp://",
        "rtsp:///x",
        "rtsp://:554/x",
        "rtsp://cam:0/",
        "rtsp://cam:99999/",
        "rtsp://cam:port/",
        "rtsp://cam/a b",
        "rtsp://cam/\nx",
        "http://[::1/",
        "name=ftp://x",
        "loop:",
        "gate=loop: ",
        "loop:rtsp://cam/x",
    ],
)
def test_what_is_no_source_is_wrong_usage(folder: Path, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_source(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("none.mp4", "no such file"),
        (".", "is a folder"),
        ("gate=none.mp4", "no such file"),
        ("x\0y", "null byte|no such file"),
    ],
)
def test_a_file_that_is_not_there_cannot_be_opened(folder: Path, text: str, reason: str) -> None:
    source = parse_source(text)
    with pytest.raises(SourceUnavailable, match=reason) as refused:
        check_file(Path(source.target))
    assert str(refused.value).isprintable()


def test_files_that_no_decoder_should_see(tmp_path: Path) -> None:
    empty, fifo = tmp_path / "empty.mp4", tmp_path / "fifo"
    empty.touch()
    os.mkfifo(fifo)
    with pytest.raises(SourceUnavailable, match=r"empty\.mp4: the file is empty"):
        check_file(empty)
    with pytest.raises(SourceUnavailable, match="not a plain file"):  # reading one would block for ever
        check_file(fifo)
    with pytest.raises(SourceUnavailable, match="not UTF-8"):
        check_file(tmp_path / "caf\udce9.mp4")
    if os.geteuid() != 0:
        empty.write_bytes(b"x")
        empty.chmod(0)
        with pytest.raises(SourceUnavailable, match="permissions"):
            check_file(empty)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:geheim@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://admin:ge@heim@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("http://cam/v?usr=admin&pwd=geheim&channel=1", "http://cam/v?usr=***&pwd=***&channel=1"),
        ("http://cam/v?resolution=640x480&fps=5", "http://cam/v?resolution=640x480&fps=5"),
        ("http://cam/v?geheim", "http://cam/v?***"),
        ("http://cam/v#geheim", "http://cam/v#***"),
        ("http://cam/v?%70wd=geheim", "http://cam/v?%70wd=***"),
        (
            "rtsp://cam/user=admin&password=geheim&channel=1&stream=0.sdp",
            "rtsp://cam/user=***&password=***&channel=1&stream=0.sdp",
        ),
        (
            "rtsp://cam/user=admin_password=geheim_channel=1_stream=0.sdp",
            "rtsp://cam/user=***_password=***_channel=1_stream=0.sdp",
        ),
    ],
)
def test_what_is_shown_of_a_url(text: str, shown: str) -> None:
    source = parse_source(text)
    assert source.shown == shown
    assert "geheim" not in repr(source)
    assert source.target == text


PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=3, max_size=12)


@given(PASSWORDS, st.booleans(), st.sampled_from(["", "gate="]))
@example("12/34", False, "")
@example("0/x", False, "")
@example("a@b/c", False, "gate=")
@example("x?y", False, "")
def test_no_password_is_ever_shown(password: str, encoded: bool, name: str) -> None:
    # Marked, so that finding it again is no accident; unencoded, it may well make the URL unreadable.
    secret = f"Q{password}Q"
    text = f"{name}rtsp://admin:{quote(secret, safe='') if encoded else secret}@cam.example/live"
    try:
        source = parse_source(text)
    except UsageError as refused:
        source, said = None, str(refused)
    else:
        said = source.shown + source.name + repr(source)
    if encoded:
        assert source is not None
        assert source.name == ("gate" if name else "cam.example")
    assert secret not in said
    assert quote(secret, safe="") not in said
    for part in secret.replace("@", "/").replace("?", "/").replace("#", "/").split("/"):
        assert len(part) < 4 or part not in said


@pytest.mark.parametrize(
    "text", ["admin:geheim@10.0.0.9/live", "rtsp:/admin:geheim@cam/x", "gate=rtsp:u:geheim@cam", "loop:u:geheim@cam"]
)
def test_a_forgotten_scheme_is_not_quoted_as_a_file(folder: Path, text: str) -> None:
    with pytest.raises(UsageError, match="no such file, and no URL") as refused:
        parse_source(text)
    assert "geheim" not in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_one_of_our_errors(text: str) -> None:
    try:
        said = parse_source(text).shown
    except HeadHuntError as refused:
        said = str(refused)
    assert said.isprintable()


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [("", "rtsp", "rtsp://x"), ("a\nb", "file", "x"), ("a", "file", ""), ("a", "device", "x")],
)
def test_a_source_refuses_nonsense(name: str, kind: str, target: str) -> None:
    with pytest.raises(UsageError):
        Source(name, kind, target, target)  # type: ignore[arg-type]  # one of the four, for mypy


def test_parsing_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="edge_runtime")
    parse_source("rtsp://a:geheim@cam/")
    assert not caplog.records
