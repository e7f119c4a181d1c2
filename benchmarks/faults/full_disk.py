"""A disk that fills up under every writer of a live run, and has room again later.

    python -m benchmarks.faults.full_disk --output benchmarks/faults/full_disk.txt

For each writer of `hh-edge run` a small tmpfs (which takes root) lies under its file. In the middle of a run over
RTSP cameras it is filled to the last byte, and emptied after a while. A receiver of webhooks is the witness: what it
got shows that detection went on, and how many records the file lacks, which the log must say as well.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import click

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK, say
from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import Edge, Record, Settings, eventful, plain
from benchmarks.faults.disk import Disk
from benchmarks.faults.site import Comparison, key
from benchmarks.faults.takers import Receiver, hooks
from benchmarks.measuring import machine
from models.reference.architecture import REFERENCE

_FRAMES = 8
_LIMIT_S = 120.0
_KIB = 1024
_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (?:DEBUG|INFO|WARNING|ERROR) ")


@dataclass(frozen=True, slots=True)
class Writer:
    """One that writes on the disk.

    Attributes:
        name: For the table.
        settings: What the configuration says of it, from the disk's folder.
        environment: Variables, from the disk's folder.
        output: Where standard output goes, on the disk.
        log: Where standard error goes, on the disk.
        records: The file of records that lies on the disk, if one does.
        more: Further words of the command.
        early: Whether the disk is full before the run begins: it writes at its beginning alone.
        needs: A library without which it has nothing to write.
        waits: Whether it holds what waits: the receiver is gone while the disk is full.
        says: What the log must say while it is full; None where it need not.
        says_again: What the log must say when it works again.
    """

    name: str
    settings: Callable[[Path], Settings] = lambda disk: {}
    environment: Callable[[Path], dict[str, str]] = lambda disk: {}
    output: str | None = None
    log: str | None = None
    records: str | None = None
    more: tuple[str, ...] = ("--provider", "cpu", "--threads", "1")
    early: bool = False
    needs: str | None = None
    waits: bool = False
    says: str | None = None
    says_again: str | None = None


def _output(name: str, **more: object) -> Callable[[Path], Settings]:
    return lambda disk: {"output": {"path": str(disk / name), **more}}


_AGAIN = r"can be written again; \d+ records of the time since \S+"
_MISSING = (r"cannot be written \(No space left on device\), records are missing", _AGAIN + " are missing")
_IN_MEMORY = ("records wait in memory until it can", _AGAIN + " waited in memory")
_AUTO = ("--provider", "auto", "--threads", "1")

_CLIPS = (
    r"cannot be written \(No space left on device\); detection goes on without",
    r"can be written again; since \S+ \d+ files are missing or cut",
)

#: Those whose disk fills up, one after the other.
WRITERS = (
    Writer(
        "file of records", _output("records.jsonl"), records="records.jsonl", says=_MISSING[0], says_again=_MISSING[1]
    ),
    Writer(
        "the same, begun anew at 20 kB",
        _output("records.jsonl", rotate_mb=0.02, keep=1000),
        records="records.jsonl",
        says=_MISSING[0],
        says_again=_MISSING[1],
    ),
    Writer(
        "standard output in a file",
        output="out.jsonl",
        records="out.jsonl",
        says=_MISSING[0],
        says_again=_MISSING[1],
    ),
    Writer("standard error in a file", log="log"),
    Writer(
        "spool",
        lambda disk: {"spool": {"path": str(disk / "spool")}},
        waits=True,
        says=_IN_MEMORY[0],
        says_again=_IN_MEMORY[1],
    ),
    Writer(
        "folder of its state, from the start",
        lambda disk: {"spool": None},
        lambda disk: {"XDG_STATE_HOME": str(disk)},
        early=True,
        waits=True,
        says=_IN_MEMORY[0],
        says_again=_IN_MEMORY[1],
    ),
    Writer(
        "choice of the engine, from the start",
        environment=lambda disk: {"XDG_CACHE_HOME": str(disk)},
        more=_AUTO,
        early=True,
        needs="openvino",
        says="the choice of the provider is not remembered",
    ),
    Writer(
        "snapshots and clips",
        lambda disk: {"clips": {"path": str(disk / "clips"), "pre_roll": 1, "post_roll": 1}},
        says=_CLIPS[0],
        says_again=_CLIPS[1],
    ),
    Writer(
        "all of these on one disk",
        lambda disk: {
            **_output("records.jsonl", rotate_mb=0.02, keep=1000)(disk),
            "spool": {"path": str(disk / "spool")},
            "clips": {"path": str(disk / "clips"), "pre_roll": 1, "post_roll": 1},
        },
        lambda disk: {"XDG_STATE_HOME": str(disk), "XDG_CACHE_HOME": str(disk)},
        output="out.jsonl",
        log="log",
        records="records.jsonl",
        more=_AUTO,
    ),
)


@dataclass(frozen=True, slots=True)
class Went:
    """How one writer went through it.

    Attributes:
        name: The writer's.
        full_s: How long the disk was full.
        during: Records of segments that the witness has of that time.
        gaps: Records of gaps that it has.
        missing: Records that the witness has and the file lacks, or that the run told and the witness lacks.
        said: How many records the log says are missing; None where it says nothing.
        since: When the log says that it began.
        faults: What should not have been.
    """

    name: str
    full_s: float
    during: int
    gaps: int
    missing: int
    said: int | None
    since: str
    faults: list[str]

    def line(self) -> str:
        """For the table."""
        said = "-" if self.said is None else str(self.said)
        verdict = "; ".join(self.faults) or "as it should be"
        return (
            f"{self.name:<38}{self.full_s:>8.0f}{self.during:>10}{self.gaps:>6}{self.missing:>9}{said:>7}"
            f"  {self.since or '-':<26}{verdict}"
        )


class Trial:
    """One writer, one run; a context manager."""

    def __init__(self, folder: Path, bundle: Path, urls: dict[str, str], writer: Writer) -> None:
        self._stack, self.writer, self._urls = ExitStack(), writer, urls
        folder.mkdir(parents=True)
        try:
            self.disk = self._stack.enter_context(Disk(folder / "disk", _KIB))
            self.receiver = self._stack.enter_context(Receiver())
            place = self.disk.folder
            settings: Settings = {
                **plain(bundle, urls),
                **hooks(self.receiver),
                "output": {"path": "records.jsonl"},
                "spool": {"path": str(folder / "spool")},
            } | writer.settings(place)
            if writer.output is not None and "output" not in writer.settings(place):
                del settings["output"]
            self.settings = {name: value for name, value in settings.items() if value is not None}
            edge = Edge(
                folder / "edge",
                self.settings,
                more=writer.more,
                environment=writer.environment(place),
                output=None if writer.output is None else place / writer.output,
                log=None if writer.log is None else place / writer.log,
            )
            self.edge = self._stack.enter_context(edge)
        except BaseException:
            self._stack.close()
            raise

    def witness(self) -> list[Record]:
        """All that was told: what the receiver got, or what the file has where that waits for the receiver."""
        return self.edge.read() if self.writer.waits else [one.record for one in list(self.receiver.arrivals)]

    def segments(self, camera: str) -> int:
        """How many records of segments the witness has of a camera."""
        return sum(one["type"] == "segment" and one["camera"] == camera for one in self.witness())

    def chatter(self) -> None:
        """Have it log more than is buffered."""
        for _ in range(200):
            self.edge.reload(self.settings)
            time.sleep(0.03)

    def until_more(self, count: int, what: str) -> None:
        """Wait for so many segments of every camera."""
        before = {name: self.segments(name) for name in self._urls}
        self.edge.until(
            lambda: all(self.segments(name) >= before[name] + count for name in self._urls), what, _LIMIT_S
        )

    def written(self) -> bytes:
        """What lies in the file of records on the disk, and in those before it."""
        name = self.writer.records
        if name is None:
            return b""
        paths = sorted(self.disk.folder.glob(f"{name}.*"), key=lambda path: -int(path.suffix[1:]))
        return b"".join(path.read_bytes() for path in (*paths, self.disk.folder / name) if path.exists())

    def unheard(self, told: Sequence[Record]) -> list[Record]:
        """What the receiver did not get of what was told."""
        return Comparison.of(told, [one.record for one in list(self.receiver.arrivals)]).missing

    def says(self, words: str | None) -> bool:
        """Whether the log says so by now; where it need not, it does."""
        return words is None or re.search(words, self.edge.told()) is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def went(folder: Path, bundle: Path, urls: dict[str, str], writer: Writer, full_s: float) -> Went:
    """Fill the disk under one writer for a while, and longer until the log tells of it and detection went on."""
    with Trial(folder, bundle, urls, writer) as trial:
        edge, disk, faults = trial.edge, trial.disk, list[str]()
        if writer.early:
            disk.fill()
        edge.start()
        trial.until_more(2, "every camera is scored")
        before = trial.written()
        if not writer.early:
            disk.fill()
        if writer.waits:
            trial.receiver.down()
        filled, known = time.monotonic(), len(trial.witness())
        trial.until_more(4, "detection goes on while the disk is full")
        edge.until(lambda: trial.says(writer.says), "the log tells that the disk is full", _LIMIT_S)
        if writer.records is not None:
            # The last page of a file has room still.
            much = 1.5 * os.sysconf("SC_PAGE_SIZE")
            edge.until(lambda: sum(map(len, map(key, trial.witness()[known:]))) > much, "much is told", _LIMIT_S)
        if writer.log is not None:
            trial.chatter()
        edge.until(lambda: time.monotonic() - filled >= full_s, "", full_s + _LIMIT_S)
        full_s, during = time.monotonic() - filled, trial.witness()[known:]
        disk.empty()
        edge.until(lambda: trial.says(writer.says_again), "the log tells that it works again", _LIMIT_S)
        written = len(trial.written())
        trial.until_more(4, "detection goes on when there is room")
        if writer.waits:
            trial.receiver.up()
            told = edge.read()
            edge.until(lambda: not trial.unheard(told), "what waited arrives", _LIMIT_S)
        if writer.records is not None:
            edge.until(lambda: len(trial.written()) > written, "records are written again", _LIMIT_S)
        if writer.log is not None:
            said = len(edge.told())
            edge.reload(trial.settings)
            edge.until(lambda: "read again" in edge.told()[said:], "the log is written again", _LIMIT_S)
        if (code := edge.end()) != 0:
            faults.append(f"exit code {code}")
        return _judged(trial, before, during, full_s, faults)


def _judged(trial: Trial, before: bytes, during: Sequence[Record], full_s: float, faults: list[str]) -> Went:
    log, said, missing = trial.edge.told(), None, 0
    since = re.search(r"(?:of the time|again;) since (\S+)", log)
    if trial.writer.records is not None:
        said = _said(log)
        found, wrong = _read(trial.written(), before)
        missing = sum(key(one) not in found for one in trial.witness())
        faults += wrong
        faults += [f"the log says that {said} are missing"] * (said != missing)
        faults += ["nothing is missing: the disk was not full"] * (not missing)
    if trial.writer.log is not None and any(not _LINE.match(one) for one in trial.edge.log.read_bytes().splitlines()):
        faults.append("there is half a line in the log")
    faults += ["a traceback"] * ("Traceback" in log)
    segments, gaps = (sum(one["type"] == kind for one in during) for kind in ("segment", "gap"))
    return Went(trial.writer.name, full_s, segments, gaps, missing, said, since[1] if since else "", faults)


def _said(log: str) -> int | None:
    """How many records the log says are missing."""
    # The first of several is told at once, the others once a minute: with how many are missing in all.
    if sums := re.findall(r"could be written again \d+ more times in the last \d+ s; (\d+) missing", log):
        return int(sums[-1])
    told = re.findall(r"can be written again; (\d+) records of the time since \S+ are missing", log)
    return sum(map(int, told)) if told else None


def _read(content: bytes, before: bytes) -> tuple[set[str], list[str]]:
    """The keys of what was written, and what is wrong with it."""
    lines, faults = content.splitlines(), list[str]()
    if not content.startswith(before) or not content.endswith(b"\n"):
        faults.append("what was written before is not whole")
    try:
        found = {key(json.loads(line)) for line in lines}
    except ValueError:
        return set(), [*faults, "there is half a line"]
    return found, faults + ["records were written twice"] * (len(found) != len(lines))


@click.command()
@click.option("--seconds", type=float, default=60.0, show_default=True, help="For which the disk is full.")
@click.option("--cameras", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--writer", "names", type=click.Choice([one.name for one in WRITERS]), multiple=True, help="[default: all]"
)
@BUNDLE
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def full_disk(
    seconds: float, cameras: int, names: tuple[str, ...], path: Path | None, output: Path | None, work: Path
) -> None:
    """A full disk under every writer of a live run.

    \b
    Example:
      python -m benchmarks.faults.full_disk --seconds 10
    """
    bundle, place = path or built(REFERENCE, REFERENCE, work), work / "faults" / f"full-disk-{int(time.time())}"
    place.mkdir(parents=True)
    results: list[Went] = []
    with ExitStack() as stack:
        placed = [stack.enter_context(Camera(f"camera{number}")) for number in range(cameras)]
        urls = {one.name: one.url for one in placed}
        bundle = eventful(bundle, place / "bundle", urls, _FRAMES)
        writers = [one for one in WRITERS if not names or one.name in names]
        for number, writer in enumerate(writers):
            if writer.needs is not None and find_spec(writer.needs) is None:
                say(f"{writer.name}: left out, there is no {writer.needs}")
                continue
            say(f"{number + 1} of {len(writers)}: {writer.name}")
            results.append(went(place / str(number), bundle, urls, writer, seconds))
    text = _table(results, cameras)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)
    raise SystemExit(any(one.faults for one in results))


def _table(results: Sequence[Went], cameras: int) -> str:
    here = machine()
    lines = [
        __doc__.split("\n")[0],
        f"Command: {' '.join(['python -m benchmarks.faults.full_disk', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores; {cameras} RTSP cameras; a tmpfs of {_KIB} KiB.",
        "",
        f"{'':<38}{'full, s':>8}{'segments':>10}{'gaps':>6}{'missing':>9}{'told':>7}  {'since':<26}",
        *(one.line() for one in results),
        "",
        "segments, gaps: records that were told while the disk was full. missing: records that the file lacks, or",
        "that did not arrive. told, since: what the log says of that.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    full_disk()
