"""A bundle is exchanged under a running `hh-edge run`: no segment is missing, and both bundles have scored."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bucket import serving, signed_copy, spoiled_copy
from edge_command import hh_edge, of_type, parsed, start

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.reader import Bundle

LIMIT_S = 90.0
BUILDER = PrivateKey.generate("builder")
# A second: two of them may wait, which a busy machine needs while it loads another bundle.
SHORT = {"frames": 16, "sampled": 16}
# The second bundle cuts otherwise, too, and alarms otherwise.
LONGER = {"frames": 24, "sampled": 16}
CALM = {"sigma": 0.0, "threshold": 0.999, "lookahead": 0, "calibrated": True, "f1": None}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}


class Watched:
    """A run, its records and what it told."""

    def __init__(self, records: Path, told: list[str]) -> None:
        self.path, self.told = records, told

    def records(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return parsed(text[: text.rfind("\n") + 1])

    def segments(self) -> list[dict[str, Any]]:
        return of_type(self.records(), "segment")

    def wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < end, self.told
            time.sleep(0.05)

    def wait_for_more(self) -> None:
        count = len(self.segments())
        self.wait(lambda: len(self.segments()) >= count + 3)


@contextmanager
def running(link: Path, clip: Path, folder: Path, environment: dict[str, str], *more: object) -> Iterator[Watched]:
    output = folder / "records.jsonl"
    arguments = ("run", "--bundle", link, "--camera", f"gate=loop:{clip}", "--provider", "cpu", "--threads", "1")
    process = start(*arguments, "--output", output, *more, env=environment)
    told: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: told.extend(process.stderr or []))
    reader.start()
    try:
        yield Watched(output, told)
    finally:
        process.terminate()
        code = process.wait(LIMIT_S)
        reader.join(LIMIT_S)
    assert code == 0, told
    assert not [line for line in told if "Traceback" in line], told


def contiguous(segments: list[dict[str, Any]]) -> None:
    """No segment is missing, none is there twice, and each begins where the one before ends."""
    assert [one["index"] for one in segments] == list(range(len(segments)))
    for before, after in pairwise(segments):
        assert after["start_frame"] == before["end_frame"]
        # A frame's time is that of its arrival.
        assert abs(after["start_s"] - before["end_s"]) < 1.0


def test_a_run_takes_what_a_pull_brings_without_losing_a_segment(
    bundle_dir: Path, clip_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    one = signed_copy(bundle_dir, tmp_path / "one", BUILDER, created="2026-12-01T00:00:00Z", segment=SHORT)
    two = signed_copy(
        bundle_dir,
        tmp_path / "two",
        BUILDER,
        created="2026-12-02T00:00:00Z",
        segment=LONGER,
        locators={"full": CALM, "low_latency": CALM},
    )
    spoiled = spoiled_copy(two, tmp_path / "spoiled", BUILDER, "2026-12-03T00:00:00Z")
    ids = [Bundle.open(path).manifest.bundle_id for path in (one, two, spoiled)]
    link = tmp_path / "edge" / "bundle"
    with serving(tmp_path / "served") as bucket:

        def pull() -> int:
            done = hh_edge(
                "pull",
                bucket.url,
                "--bundle",
                link,
                "--trusted-key",
                BUILDER.public.line,
                "--provider",
                "cpu",
                env=environment,
            )
            assert "Traceback" not in done.stderr
            return done.returncode

        bucket.publish(one)
        assert pull() == 0
        with running(link, clip_path, tmp_path, environment, "--trusted-key", BUILDER.public.line) as watched:
            watched.wait_for_more()
            bucket.publish(two)
            assert pull() == 0
            watched.wait(lambda: any(ids[1] == one.get("bundle_id") for one in of_type(watched.records(), "camera")))
            watched.wait_for_more()
            # The third never comes so far as to be seen here.
            bucket.publish(spoiled)
            assert pull() == 1
            watched.wait_for_more()
        records = watched.records()
    assert of_type(records, "run")[0]["bundle_id"] == ids[0]
    (word,) = [one for one in of_type(records, "camera") if "bundle_id" in one]
    assert word["bundle_id"] == ids[1]
    assert not of_type(records, "gap")
    segments = of_type(records, "segment")
    contiguous(segments)
    place = records.index(word)
    by_one = [one for one in records[:place] if one["type"] == "segment"]
    by_two = [one for one in records[place:] if one["type"] == "segment"]
    # Lengths tell who has cut them; but for the last of the first, which ends where the second begins.
    assert all(12 <= one["end_frame"] - one["start_frame"] < 20 for one in by_one[1:-1])
    assert all(20 <= one["end_frame"] - one["start_frame"] <= 28 for one in by_two[1:-1])
    assert len(by_one) >= 3
    assert len(by_two) >= 6


def test_a_bundle_that_fails_its_self_test_in_the_run_leaves_the_one_before_at_work(
    bundle_dir: Path, clip_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Somebody puts it there by hand, past `hh-edge pull`."""
    one = signed_copy(bundle_dir, tmp_path / "one", BUILDER, segment=SHORT)
    spoiled = spoiled_copy(one, tmp_path / "spoiled", BUILDER, "2026-12-03T00:00:00Z")
    good = signed_copy(bundle_dir, tmp_path / "good", BUILDER, created="2026-12-04T00:00:00Z", segment=LONGER)
    link = tmp_path / "bundle"
    link.symlink_to(one)

    def lead_to(target: Path) -> None:
        (tmp_path / "next").symlink_to(target)
        (tmp_path / "next").replace(link)

    with running(link, clip_path, tmp_path, environment) as watched:
        watched.wait_for_more()
        lead_to(spoiled)
        watched.wait(lambda: any("the bundle before goes on" in line for line in watched.told))
        watched.wait_for_more()
        lead_to(good)
        watched.wait(lambda: any("bundle_id" in one for one in of_type(watched.records(), "camera")))
        watched.wait_for_more()
    (line,) = [line for line in watched.told if "goes on" in line]
    assert "self-test: the features of the golden segment differ" in line
    records = watched.records()
    assert [one["bundle_id"] for one in records if "bundle_id" in one and one["type"] == "camera"] == [
        Bundle.open(good).manifest.bundle_id
    ]
    contiguous(of_type(records, "segment"))
    assert not of_type(records, "gap")
