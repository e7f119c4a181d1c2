"""Cameras that cost little are cameras like others, and what is measured of a run over them adds up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rtsp import rtsp_missing

from benchmarks.faults.watching import Read
from benchmarks.live import looked, opening, scale
from benchmarks.live.served import LoopServer, hanging, loop
from benchmarks.live.spent import PARTS, Sample, between
from edge_runtime.video.network import NetworkConnection
from edge_runtime.video.sources import parse_source

FPS, SECONDS = 5, 2


@pytest.fixture(scope="module")
def sent(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (reason := rtsp_missing()) is not None:
        pytest.skip(reason)
    return loop(tmp_path_factory.mktemp("loops"), clip_path, (320, 180), FPS, SECONDS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, sent: Path) -> Iterator[None]:
    """The campaigns with small cameras."""
    for module in (scale, opening):
        monkeypatch.setattr(module, "_SIZE", (320, 180))
        monkeypatch.setattr(module, "_FPS", FPS)
        monkeypatch.setattr(module, "_LOOP_S", SECONDS)
    monkeypatch.setattr(scale, "_SETTLE_S", 0.0)
    return


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_loop_has_no_end_and_no_seam(sent: Path, udp: bool) -> None:
    with LoopServer(sent, FPS, 3, udp) as server:
        assert len(set(server.urls)) == 3
        for url in server.urls[:2]:
            connection = NetworkConnection(parse_source(url), 10, 10)
            try:
                # Over its end and on.
                keys = []
                while len(keys) < FPS * SECONDS + FPS:
                    if connection.grab() == "whole":
                        keys.append(connection.is_key())
                picture = connection.picture()
                assert picture is not None
                assert picture.shape == (180, 320, 3)
            finally:
                connection.close()
            # One a second, also where the loop begins anew; frames that a busy machine drops move them.
            assert len(keys) / FPS - 2 <= sum(map(bool, keys)) <= len(keys) / FPS + 2


def test_loops_are_made_once(sent: Path, clip_path: Path) -> None:
    before = sent.stat()
    assert loop(sent.parent, clip_path, (320, 180), FPS, SECONDS) == sent
    assert sent.stat() == before


def test_scale_counts_and_goes_on_where_it_was(
    small: None, bundle_dir: Path, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--cameras", "2", "--seconds", "6", "--bundle", str(bundle_dir), "--footage", str(clip_path)]
    words += ["--work", str(tmp_path), "--output", str(tmp_path / "table.txt"), "--provider", "cpu"]
    done = CliRunner().invoke(scale.scale, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    first = (tmp_path / "table.txt").read_text()
    assert "\n      2" in first
    monkeypatch.setattr(scale, "measure", None)
    assert CliRunner().invoke(scale.scale, words, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "table.txt").read_text() == first
    (line,) = (tmp_path / "live" / "scale.jsonl").read_text().splitlines()
    load = scale.Load(**scale.json.loads(line)["load"])
    assert load.scored > 0 or load.dropped > 0
    # Every clock is where the time is spent: a renamed function would count nothing.
    assert set(load.parts) == set(PARTS)
    assert min(load.parts.values()) > 0
    # The system counts a thread's time in hundredths of seconds.
    assert sum(load.parts.values()) <= load.edge + 0.05
    assert load.server > 0
    assert load.frames > 0


def test_opening_tells_of_every_camera(small: None, bundle_dir: Path, sent: Path) -> None:
    found = opening.trial(3, 1, bundle_dir, sent)
    assert len(found.online_s) == 3
    assert len(found.told_s) == 1
    assert found.apart_s >= 0
    assert "within 5 s in" in opening.table([found], 3, 1)


@given(st.integers(2, 60), st.integers(0, 20))
def test_hanging_cameras_stand_among_the_good_ones(good: int, hang: int) -> None:
    silent = {f"hangs{number}": "rtsp://silent/" for number in range(hang)}
    found = opening.configuration({f"good{number}": "rtsp://good/" for number in range(good)}, silent)
    cameras = found["cameras"]
    assert isinstance(cameras, dict)
    names = list(cameras)
    assert len(names) == good + hang
    assert [name for name in names if name.startswith("good")] == [f"good{number}" for number in range(good)]


def test_a_hanging_camera_takes_connections() -> None:
    import socket

    with hanging(2) as urls:
        assert len(set(urls)) == 2
        host, port = urls[0].split("/")[2].split(":")
        with socket.create_connection((host, int(port)), 5):
            pass


def test_a_share_is_a_difference_by_its_seconds() -> None:
    samples = [
        Sample(float(at), 0.5 * at, dict.fromkeys(PARTS, 0.1 * at), dict.fromkeys(PARTS, at)) for at in range(9)
    ]
    found = between(samples, 1.5, 6.5)
    assert found.at_s == 4.0
    assert found.all_s == pytest.approx(0.5)
    assert found.parts["graphs"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1 samples"):
        between(samples, 1.5, 2.5)


def test_latency_is_from_the_end_of_a_segment_to_its_record() -> None:
    moments = [f"1970-01-01T00:00:{second:02}.000Z" for second in range(20)]
    reads = [Read({"time": moment}, second + 0.25) for second, moment in enumerate(moments)]
    assert scale.latencies(reads) == pytest.approx((0.25, 0.25, 0.25))
    assert scale.latencies([]) is None


def test_a_gap_that_sums_up_counts_as_many_segments() -> None:
    gap = {"type": "gap", "camera": "gate", "start_s": 10.0, "end_s": 19.6, "reason": "dropped"}
    assert scale._segments_of(gap, 3.2) == 3
    assert scale._segments_of(gap | {"end_s": 10.1}, 3.2) == 1


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to make footage with")
def test_looking_gives_pictures_and_nobody_pays_for_it(
    clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "_SIZE": (320, 180),
        "_FPS": FPS,
        "_LOOP_S": SECONDS,
        "_SETTLE_S": 0.0,
        "_CALLS": 100,
    }.items():
        monkeypatch.setattr(looked, name, value)
    words = [
        "--cameras",
        "2",
        "--seconds",
        "3",
        "--rounds",
        "1",
        "--footage",
        str(clip_path),
        "--work",
        str(tmp_path),
    ]
    done = CliRunner().invoke(looked.looked, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (pictures,) = (line.split()[-2:] for line in done.stdout.splitlines() if line.startswith("pictures a second"))
    assert float(pictures[0]) == 0
    # Of three seconds the first has none: whoever asks first gets the next.
    assert 0 < float(pictures[1]) <= 2
