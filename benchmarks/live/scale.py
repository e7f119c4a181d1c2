"""Live cameras against throughput, decision latency and processor time, until segments are dropped.

    python -m benchmarks.live.scale --footage street.avi --output benchmarks/live/scale.txt

For every number of cameras, one `hh-edge run` watches that many RTSP cameras: one other process sends them loops of
H.264 that were encoded before, a keyframe a second (benchmarks/live/loop_server.py). After a while to settle, this
counts for `--seconds` which segments are scored and dropped, how long after its end each is told, and where processor
time goes (benchmarks/live/spent.py). It ends behind the first number of which more than a tenth is dropped. Numbers
that are done are in the work folder and are not done again.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import click

from benchmarks.bundles import built
from benchmarks.cameras import clip_of
from benchmarks.commanding import PATH, PROVIDER, WORK, say
from benchmarks.faults.watching import Read, Record, Watching
from benchmarks.live.served import LoopServer, loop
from benchmarks.live.spent import PARTS, between, read_samples, seconds_of_process
from benchmarks.measuring import machine
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from models.reference.architecture import REFERENCE

_SIZE, _FPS, _LOOP_S = (1280, 720), 25, 40
_READY_S = 120.0
# What is too much shows once all queues are full.
_SETTLE_S = 30.0
_ENOUGH = 0.1


@dataclass(frozen=True, slots=True)
class Setting:
    """What else than the number of cameras decides about the figures: what is done is known by it.

    Attributes:
        bundle_id: Which bundle.
        provider: What runs its graphs.
        loop: Name of the file that the cameras send.
        seconds: How long it is measured.
        more: Further words of `hh-edge run`.
    """

    bundle_id: str
    provider: str
    loop: str
    seconds: float
    more: list[str]


@dataclass(frozen=True, slots=True)
class Load:
    """What so many cameras came to.

    Attributes:
        cameras: How many.
        scored: Segments a second.
        dropped: Share of the segments that were left out, 0 to 1.
        latency_s: From the ends of segments to their records: median, 95 of 100, worst; None where none was scored.
        frames: Share of the frames sent that were read: a reader that falls behind lets the sender throw some away.
        edge: Processor seconds a second, of `hh-edge` as a whole.
        parts: The same, of each of PARTS.
        server: The same, of the process that sends.
        busy: Cores of the machine that were busy, whoever kept them so.
        trouble: Records of cameras that stalled or went away meanwhile, and of gaps that were not dropped segments.
    """

    cameras: int
    scored: float
    dropped: float
    latency_s: tuple[float, float, float] | None
    frames: float
    edge: float
    parts: dict[str, float]
    server: float
    busy: float
    trouble: int


@click.command()
@click.option(
    "--cameras",
    "numbers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40),
    show_default=True,
)
@click.option("--seconds", type=click.FloatRange(min=5), default=120.0, show_default=True, help="For each number.")
@click.option(
    "--bundle",
    "path",
    type=PATH,
    help="[default: one of the built-in model is built into --work]; `hh-offline demo DIR` makes one, too, "
    "and `hh-offline build --model reference`.",
)
@click.option("--footage", type=PATH, help="What the cameras see, enlarged [default: generated].")
@click.option("--kbits", type=click.IntRange(min=100), default=2000, show_default=True, help="At most, a camera.")
@click.option("--more", multiple=True, help="A further word of `hh-edge run`.")
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@PROVIDER
@WORK
def scale(
    numbers: tuple[int, ...],
    seconds: float,
    path: Path | None,
    footage: Path | None,
    kbits: int,
    more: tuple[str, ...],
    output: Path | None,
    provider: str | None,
    work: Path,
) -> None:
    """Live cameras of 1280 x 720 and 25 frames a second, more and more of them.

    \b
    Example:
      python -m benchmarks.live.scale --cameras 1 --cameras 4 --seconds 30
    """
    bundle = Bundle.open(path or built(REFERENCE, REFERENCE, work))
    with Detector(bundle, provider or "auto") as detector:
        assert detector.engine is not None
        used = detector.engine.provider
    sent = loop(work / "live", footage or clip_of(work, None, _LOOP_S), _SIZE, _FPS, _LOOP_S, kbits)
    # Whole segments: of all cameras equally many end within that.
    step_s = bundle.manifest.segment.step_s
    seconds = round(math.ceil(seconds / step_s) * step_s, 3)
    setting = Setting(bundle.manifest.bundle_id, used, sent.name, seconds, list(more))
    record = work / "live" / "scale.jsonl"
    loads: list[Load] = []
    for count in sorted(set(numbers)):
        load = _done(record, setting, count)
        if load is None:
            say(f"{count} cameras")
            load = measure(count, sent, bundle, setting)
            with record.open("a") as file:
                file.write(json.dumps({"setting": asdict(setting), "load": asdict(load)}) + "\n")
        loads.append(load)
        if load.dropped > _ENOUGH:
            break
    text = table(loads, setting, bundle, sent.stat().st_size * 8 / _LOOP_S / 1000)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)


def measure(count: int, sent: Path, bundle: Bundle, setting: Setting) -> Load:
    """Watch so many cameras for a while.

    Args:
        count: How many.
        sent: What they send.
        bundle: What scores.
        setting: Of the campaign.

    Raises:
        TimeoutError: Not every camera was scored once in time.
        HeadHuntError: The cameras did not start.
    """
    step_s = bundle.manifest.segment.step_s
    with ExitStack() as stack:
        samples = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "samples.jsonl"
        server = stack.enter_context(LoopServer(sent, _FPS, count))
        cameras = {f"camera{number}": url for number, url in enumerate(server.urls)}
        prefix = [sys.executable, "-m", "benchmarks.live.spent", str(samples)]
        words = ["--provider", setting.provider, *setting.more]
        watching = stack.enter_context(Counting(bundle.path, cameras, words, prefix))
        watching.wait_until(lambda: all(watching.segments(name) for name in cameras), _READY_S)
        time.sleep(_SETTLE_S)
        begun_s, begun, server_s, busy_s = time.monotonic(), time.time(), _seconds(server), busy_seconds()
        time.sleep(setting.seconds)
        ended_s, ended = time.monotonic(), time.time()
        server_s, busy_s = _seconds(server) - server_s, busy_seconds() - busy_s
        records = [one for one in watching.read() if begun <= one.at <= ended]
        spent = between(read_samples(samples), begun_s, ended_s)
    scored = [one for one in records if one.record["type"] == "segment"]
    dropped = sum(_segments_of(one.record, step_s) for one in records if _is_dropped(one.record))
    took_s = ended_s - begun_s
    return Load(
        cameras=count,
        scored=len(scored) / took_s,
        dropped=dropped / max(1, dropped + len(scored)),
        latency_s=latencies(scored),
        frames=spent.calls["decoding"] / spent.at_s / (count * _FPS),
        edge=spent.all_s,
        parts=spent.parts,
        server=server_s / took_s,
        busy=busy_s / took_s,
        trouble=sum(_is_trouble(one.record) for one in records),
    )


class Counting(Watching):
    """A run whose records can be counted."""

    def read(self) -> list[Read]:
        """All so far."""
        with self._changed:
            return list(self._read)


def latencies(scored: Sequence[Read]) -> tuple[float, float, float] | None:
    """From the ends of segments to the reading of their records, in seconds: median, 95 of 100, worst."""
    waited = sorted(one.at - datetime.fromisoformat(one.record["time"]).timestamp() for one in scored)
    if not waited:
        return None
    return statistics.median(waited), waited[int(0.95 * (len(waited) - 1))], waited[-1]


def busy_seconds() -> float:
    """Processor seconds of all cores that were not idle, since the machine was started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    # user, nice, system, idle, iowait, irq, softirq, steal: what was stolen was nobody's here.
    ticks = sum(fields) - fields[3] - fields[4] - fields[7]
    return ticks / 100


def _seconds(server: LoopServer) -> float:
    return seconds_of_process(server.process.pid)


def _is_dropped(record: Record) -> bool:
    return bool(record["type"] == "gap" and record["reason"] == "dropped")


def _is_trouble(record: Record) -> bool:
    if record["type"] == "camera":
        return record["state"] not in ("online", "reconnected") or record.get("quality", ["ok"]) != ["ok"]
    return bool(record["type"] == "gap" and not _is_dropped(record))


def _segments_of(gap: Record, step_s: float) -> int:
    """How many segments a gap stands for: of many that wait, some are summed up as one."""
    return max(1, round(float(gap["end_s"] - gap["start_s"]) / step_s))


def _done(record: Path, setting: Setting, count: int) -> Load | None:
    if not record.is_file():
        return None
    for line in record.read_text().splitlines():
        found = json.loads(line)
        if found["setting"] == asdict(setting) and found["load"]["cameras"] == count:
            return Load(**found["load"])
    return None


def table(loads: Sequence[Load], setting: Setting, bundle: Bundle, kbits: float) -> str:
    """What was measured, for a person."""
    here, manifest = machine(), bundle.manifest
    step_s = manifest.segment.step_s
    lines = [
        (__doc__ or "").split("\n", 1)[0],
        f"Command: {' '.join(['python -m benchmarks.live.scale', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores, which the sender has a part of; "
        f"{_SIZE[0]} x {_SIZE[1]}, {_FPS} frames a second, H.264 of {kbits:.0f} kbit/s, a keyframe a second.",
        f"Bundle: {manifest.source_model.name}, {setting.provider}; a segment each {step_s:.1f} s, "
        f"{manifest.segment.sampled} of its frames scored; locator low_latency; {setting.seconds:g} s each.",
        "Latency: seconds from the end of a segment to its record. Cores: processor seconds a second.",
        "",
        f"{'':>15}{'segments a second':>25}{'latency':>21}  cores of hh-edge, and of that",
        f"{'cameras':>7}{'frames':>8}{'due':>8}{'scored':>8}{'dropped':>9}{'median':>7}{'95 %':>7}{'worst':>7}"
        f"{'all':>8}{''.join(f'{part:>11}' for part in PARTS)}{'rest':>7}{'sender':>8}{'machine':>9}{'trouble':>9}",
    ]
    for one in loads:
        waited = "".join(f"{seconds:>7.2f}" for seconds in one.latency_s or [float("nan")] * 3)
        lines.append(
            f"{one.cameras:>7}{one.frames:>8.1%}{one.cameras / step_s:>8.2f}{one.scored:>8.2f}{one.dropped:>9.1%}"
            f"{waited}{one.edge:>8.2f}"
            + "".join(f"{one.parts[part]:>11.3f}" for part in PARTS)
            + f"{one.edge - sum(one.parts.values()):>7.3f}{one.server:>8.2f}{one.busy:>9.2f}{one.trouble:>9}"
        )
    lines += [
        "",
        "decoding: receiving and decoding all frames; converting: those that are looked at, to BGR; looks: whether a",
        "picture is covered or frozen; pixels: resizing; graphs: of the bundle, and the scorer; rest: all else.",
        "frames: share of those sent that were read. Due less scored and dropped: the queues still fill.",
        "trouble: cameras that stalled, went away or gave bad pictures, and gaps other than dropped segments.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    scale()
