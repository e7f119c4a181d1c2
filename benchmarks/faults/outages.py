"""What arrives where an output was down, and where the run was killed, over and over.

    python -m benchmarks.faults.outages --minutes 5 --kills 50 --output benchmarks/faults/outages.txt

One `hh-edge run --config` watches RTSP cameras whose events begin and end all the time, and writes a file of records,
to mosquitto and to a receiver of webhooks. Outage: both are down for a while, then what the file holds is compared
with what arrived. Kills: SIGKILL at random moments, while now this and now that output is down and the spool is so
small that it is full; then the same comparison, and that every event has an end.

File and spools are written by a thread each, so that a kill may fall between. *Kept* for an output is a record that
was seen in its spool after a kill: none of those may be missing there, and of those that the file has and the output
never kept only the newest of a run that was killed may be.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK, say
from benchmarks.faults.configured import Record
from benchmarks.faults.site import OUTPUTS, Comparison, Site, key, lasting
from benchmarks.faults.takers import Broker, Receiver
from benchmarks.measuring import machine
from models.reference.architecture import REFERENCE

_DRAIN_S = 180.0


# ---- both outputs down for a while


@dataclass(frozen=True, slots=True)
class Outage:
    """How an outage went.

    Attributes:
        down_s: How long both outputs were down.
        during: How many records of events came meanwhile.
        drained_s: How long after it until all of them had arrived.
        codes: Exit codes of the run, and of the one that hands over what is left.
        compared: By output: all records of the file.
        traceback: Whether the log holds one.
    """

    down_s: float
    during: int
    drained_s: float
    codes: list[int]
    compared: dict[str, Comparison]
    traceback: bool

    @property
    def faults(self) -> list[str]:
        """What should not have been."""
        found = [
            f"{name}: {len(one.missing)} records are missing" for name, one in self.compared.items() if one.missing
        ]
        found += [f"{name}: {one.disordered} out of order" for name, one in self.compared.items() if one.disordered]
        # What was under way when an output went down may come again, and what was when the run ended.
        found += [f"{name}: {one.twice} twice" for name, one in self.compared.items() if one.twice > 2]
        found += ["no event came while they were down"] * (not self.during)
        return found + [f"exit codes {self.codes}"] * any(self.codes) + ["a traceback"] * self.traceback


def outage(folder: Path, bundle: Path, cameras: int, down_s: float, events: int = 4) -> Outage:
    """Have both outputs down for a while, in the middle of a run, and longer until so many events were told."""
    with Site(folder, bundle, cameras) as site:
        edge, begun = site.edge, 0.0
        edge.start()
        edge.until(lambda: all(len(site.arrived(name)) >= events for name in OUTPUTS), "events at both outputs")
        say(f"events arrive; both outputs are down for {down_s:g} s")
        site.broker.down()
        site.receiver.down()
        begun, before = time.monotonic(), len(edge.of("event"))
        edge.until(
            lambda: time.monotonic() - begun >= down_s and len(edge.of("event")) >= before + events,
            "events while both are down",
            down_s + 120,
        )
        told, during = edge.read(), len(edge.of("event")) - before
        down_s, begun = time.monotonic() - begun, time.monotonic()
        site.broker.up()
        site.receiver.up()
        say(f"{during} records of events came meanwhile; both are back")
        edge.until(
            lambda: not any(site.compared(told, name).missing for name in OUTPUTS), "what waited arrives", _DRAIN_S
        )
        drained_s = time.monotonic() - begun
        codes = [edge.end()]
        told = edge.read()
        # What the end of the run left in the spool.
        edge.begin()
        edge.until(lambda: not any(site.compared(told, name).missing for name in OUTPUTS), "the rest", _DRAIN_S)
        codes.append(edge.end())
        compared = {name: site.compared(told, name) for name in OUTPUTS}
        return Outage(down_s, during, drained_s, codes, compared, "Traceback" in edge.told())


# ---- killed


@dataclass(slots=True)
class Told:
    """What one output heard of in a campaign of kills.

    Attributes:
        kept: What was kept for it and outlasts a full spool, compared with what arrived.
        heard: What the file has of that kind, compared with what arrived.
        farthest: Of what is missing then: how many records before the last one of its run, at most.
        unheard: What arrived and the file has not.
        open: Events that it heard of and whose end it did not hear.
        restarted: Events that were ended by a later run.
        again: Events whose end it heard in two ways.
    """

    kept: Comparison
    heard: Comparison
    farthest: int
    unheard: int
    open: int
    restarted: int
    again: int


@dataclass(slots=True)
class Killed:
    """How a campaign of kills went.

    Attributes:
        kills: How many.
        events: How many events the file tells of.
        ended: How many of them it tells the end of.
        dropped: How often the log says that the spool was full.
        interruptions: Of the run and of outputs: each may have a record come twice.
        told: By output.
        code: Exit code of the last run.
        traceback: Whether the log holds one.
    """

    kills: int
    events: int = 0
    ended: int = 0
    dropped: int = 0
    interruptions: int = 0
    told: dict[str, Told] = field(default_factory=dict)
    code: int = 0
    traceback: bool = False

    @property
    def faults(self) -> list[str]:
        """What should not have been."""
        found = []
        for name, one in self.told.items():
            found += [f"{name}: {len(one.kept.missing)} records that were kept are missing"] * bool(one.kept.missing)
            found += [f"{name}: {one.kept.disordered + one.heard.disordered} out of order"] * bool(
                one.kept.disordered + one.heard.disordered
            )
            found += [f"{name}: {one.kept.twice} twice"] * (one.kept.twice > self.interruptions)
            found += [f"{name}: {one.open} events without an end"] * bool(one.open)
        found += [f"{self.events - self.ended} events without an end in the file"] * (self.ended < self.events)
        found += ["there was no event"] * (not self.events)
        return found + [f"exit code {self.code}"] * bool(self.code) + ["a traceback"] * self.traceback


def killed(
    folder: Path,
    bundle: Path,
    cameras: int,
    kills: int,
    longest_s: float = 12.0,
    spool_mb: float = 0.1,
    seed: int = 0,
) -> Killed:
    """Kill the run again and again, each time within some seconds, while outputs come and go."""
    chance, result = random.Random(seed), Killed(kills)
    with Site(folder, bundle, cameras, spool_mb) as site:
        edge, kept, ends = site.edge, {name: list[Record]() for name in OUTPUTS}, list[int]()
        down = dict.fromkeys(OUTPUTS, 0)
        takers: dict[str, Broker | Receiver] = {"mqtt": site.broker, "webhook": site.receiver}
        for number in range(kills):
            for name, taker in takers.items():
                # Down more often than up, so that much waits; not so long that beginnings and ends are dropped.
                wanted = chance.random() < 0.75 and down[name] < 4
                if wanted != bool(down[name]):
                    (taker.down if wanted else taker.up)()
                    result.interruptions += 1
                down[name] = down[name] + 1 if wanted else 0
            edge.start()
            moment_s = chance.uniform(0.0, longest_s)
            time.sleep(moment_s)
            edge.kill()
            ends.append(len(edge.read()))
            waits = site.waits()
            for name in OUTPUTS:
                kept[name] += [one for one in waits[name] if lasting(one)]
            shown = ", ".join(f"{len(waits[name])} wait for {name}" for name in OUTPUTS)
            say(f"kill {number + 1} of {kills} after {moment_s:.1f} s: {ends[-1]} records, {shown}")
        for name in OUTPUTS:
            if down[name]:
                takers[name].up()
        result.interruptions += kills + 1
        told = edge.read()
        edge.begin()
        edge.until(
            lambda: all(not Comparison.of(kept[name], site.arrived(name)).missing for name in OUTPUTS),
            "what was kept arrives",
            _DRAIN_S,
        )
        edge.until(
            lambda: not any(_open(edge.read(), told) | _open(site.arrived(name), told) for name in OUTPUTS),
            "ends",
            _DRAIN_S,
        )
        result.code = edge.end()
        result.dropped = edge.told().count("records are dropped, segments first")
        result.traceback = "Traceback" in edge.told()
        result.events = len({one["id"] for one in told if one["type"] == "event"})
        result.ended = result.events - len(_open(edge.read(), told))
        result.told = {name: _told(name, site, kept[name], told, ends) for name in OUTPUTS}
    return result


def _open(heard: Sequence[Record], told: Sequence[Record]) -> set[str]:
    """Events whose beginning was heard and whose end was not, of those that were told."""
    known = {one["id"] for one in told if one["type"] == "event"}
    begun = {one["id"] for one in heard if one["type"] == "event"}
    return (begun & known) - {one["id"] for one in heard if one["type"] == "event" and one["state"] == "end"}


def _told(name: str, site: Site, kept: Sequence[Record], told: Sequence[Record], ends: Sequence[int]) -> Told:
    arrived, everything = site.arrived(name), {key(one) for one in site.edge.read()}
    own = [one for one in told if lasting(one) and (name == "webhook" or one["type"] == "event")]
    heard = Comparison.of(own, arrived)
    places = {key(one): place for place, one in enumerate(told)}
    behind = [min(end for end in ends if end > places[key(one)]) - places[key(one)] for one in heard.missing]
    finals = [one for one in arrived if one["type"] == "event" and one["state"] == "end"]
    distinct = {(one["id"], one.get("reason")) for one in finals}
    return Told(
        kept=Comparison.of(kept, arrived),
        heard=heard,
        farthest=max(behind, default=0),
        unheard=len({key(one) for one in arrived if lasting(one)} - everything),
        open=len(_open(arrived, told)),
        restarted=len({one for one in distinct if one[1] == "restart"}),
        again=len(distinct) - len({one for one, _ in distinct}),
    )


# ---- the command


@click.command()
@click.option(
    "--minutes", type=float, default=5.0, show_default=True, help="For which both outputs are down; 0: not."
)
@click.option("--kills", type=click.IntRange(min=0), default=50, show_default=True)
@click.option("--cameras", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--longest", type=float, default=12.0, show_default=True, help="Seconds until a kill, at most.")
@click.option("--spool-mb", type=float, default=0.1, show_default=True, help="What may wait while the run is killed.")
@BUNDLE
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def outages(
    minutes: float,
    kills: int,
    cameras: int,
    longest: float,
    spool_mb: float,
    path: Path | None,
    seed: int,
    output: Path | None,
    work: Path,
) -> None:
    """Outputs that are down, and runs that are killed: what is missing, out of order or twice.

    \b
    Example:
      python -m benchmarks.faults.outages --minutes 1 --kills 10
    """
    bundle = path or built(REFERENCE, REFERENCE, work)
    here = machine()
    lines = [
        __doc__.split("\n")[0],
        f"Command: {' '.join(['python -m benchmarks.faults.outages', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores; {cameras} RTSP cameras, "
        "mosquitto, a receiver of webhooks.",
        "",
    ]
    faults: list[str] = []
    place = work / "faults" / f"outages-{int(time.time())}"
    if minutes:
        one = outage(place / "outage", bundle, cameras, minutes * 60)
        lines += _outage_lines(one)
        faults += one.faults
    if kills:
        other = killed(place / "kills", bundle, cameras, kills, longest, spool_mb, seed)
        lines += _killed_lines(other, spool_mb)
        faults += other.faults
    lines += [f"FAULT: {one}" for one in faults] or ["Nothing was missing, out of order or without an end."]
    text = "\n".join(lines) + "\n"
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)
    raise SystemExit(bool(faults))


_HEAD = f"{'':<34}{'records':>9}{'missing':>9}{'twice':>7}{'out of order':>14}"


def _outage_lines(one: Outage) -> list[str]:
    return [
        f"Both outputs down for {one.down_s:.0f} s in the middle of a run; {one.during} records of events meanwhile.",
        f"All that waited had arrived {one.drained_s:.0f} s after both were back.",
        _HEAD,
        one.compared["mqtt"].line("mosquitto's subscriber, events"),
        one.compared["webhook"].line("receiver of webhooks, all records"),
        "",
    ]


def _killed_lines(one: Killed, spool_mb: float) -> list[str]:
    lines = [
        f"{one.kills} times SIGKILL; a spool of {spool_mb:g} MB, which was full in {one.dropped} runs and dropped "
        "segments, updates and gaps; what is compared are run records, camera states, beginnings and ends of events.",
        f"{one.events} events in the file, {one.ended} of them with an end. {one.interruptions} times a run or an "
        "output was interrupted, which may have one record come twice.",
        _HEAD,
    ]
    for name, told in one.told.items():
        lines += [told.kept.line(f"{name}: seen in its spool"), told.heard.line(f"{name}: in the file")]
    lines.append("")
    for name, told in one.told.items():
        lines.append(
            f"{name}: {len(told.heard.missing)} records of the file fell between file and spool, the farthest "
            f"{told.farthest} before the end of its run, and {told.unheard} that arrived are not in the file; "
            f"{told.restarted} events ended by the next run, {told.again} of them told to have ended before; "
            f"{told.open} without an end."
        )
    return [*lines, ""]


if __name__ == "__main__":
    outages()
