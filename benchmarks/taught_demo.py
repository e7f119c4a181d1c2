"""The demo's cameras: a false alarm that is marked and agreed to does not come back, and a real event does.

    hh-offline demo demo/
    python -m benchmarks.taught_demo demo/ --output benchmarks/taught_demo.txt

The clips of `demo/cameras.yaml` are pushed in loops through a detector as fast as they are scored, while the times in
the records go on as if they were played live. An operator marks the false alarms of one loop, looks at the proposal
and agrees; twice, if any is left.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from benchmarks.commanding import PATH, say
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.records import EventRecord, RunRecord
from edge_runtime.site.place import Site
from edge_runtime.site.recorder import Recorder
from edge_runtime.site.seal import Seal
from edge_runtime.site.store import DAY_S
from edge_runtime.site.teaching import Teaching
from edge_runtime.stream.clock import rfc3339
from offline.recipes.live_demo import Looped, LoopedCamera

CAMERAS = ("gate", "path", "yard")
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """Some loops of all cameras.

    Attributes:
        name: What was marked before.
        loops: How many.
        real: Of the loops of each camera with a real event, in how many it was told.
        false: Alarms about nothing, of each camera.
    """

    name: str
    loops: int
    real: dict[str, int]
    false: dict[str, int]

    def line(self) -> str:
        """For the table."""
        told = "".join(
            f"{f'{self.real[camera]} of {self.loops}' if camera in self.real else '-':>12}{self.false[camera]:>8}"
            for camera in CAMERAS
        )
        return f"{self.name:<34}{self.loops:>6}{told}"


class Simulation:
    """The cameras of a demo's folder, a recorder and what is taught; a context manager.

    Args:
        folder: Of the demo.
        site: Where what is learned is kept.
    """

    def __init__(self, folder: Path, site: Path) -> None:
        bundle = Bundle.open(folder / "bundle")
        self.detector = Detector(bundle, "cpu", self_test=False)
        self.site = Site.of(bundle, site, Seal(site / "state"))
        self.teaching = Teaching([self.site])
        self._recorder = Recorder(self.site, self.detector)
        # What is played lies in the past day, however many loops there are.
        started = datetime.now(UTC) - timedelta(seconds=DAY_S)
        self._recorder.write(RunRecord("r", rfc3339(started), bundle.manifest.bundle_id, "", list(CAMERAS)))
        self.cameras = [LoopedCamera(self.detector, clip_of(folder, name), "0" * 8) for name in CAMERAS]
        self._before: set[str] = set()

    def play(self, name: str, loops: int) -> tuple[Row, list[EventRecord]]:
        """Play all cameras; returns what came of it, and the false alarms that are over."""
        told: dict[str, tuple[int, LoopedCamera, EventRecord]] = {}
        for number in range(loops):
            for camera in self.cameras:
                for record in camera.loop():
                    if isinstance(record, EventRecord):
                        self._recorder.write(record)
                        if record.id not in self._before:
                            told[record.id] = (told.get(record.id, (number,))[0], camera, record)
        self._before |= told.keys()
        real: dict[str, set[int]] = {one.clip.camera: set() for one in self.cameras if one.clip.events}
        false, ended = dict.fromkeys(CAMERAS, 0), list[EventRecord]()
        for number, camera, record in told.values():
            if camera.meets_event(record):
                real[record.camera].add(number)
            else:
                false[record.camera] += 1
                ended += [record] * (record.state == "end")
        return Row(name, loops, {camera: len(found) for camera, found in real.items()}, false), ended

    def mark(self, events: Sequence[EventRecord]) -> None:
        """Mark false alarms, once they are kept."""
        for event in events:
            _until(lambda event=event: self._kept(event))  # type: ignore[misc]
            self.teaching.mark_event(event.id, "false_alarm")

    def agree(self) -> str:
        """Agree to what is proposed; returns that in words."""
        proposed = self.teaching.propose()
        told, before = proposed.to_dict(), self.detector.site_scorer
        self.teaching.accept(proposed.id)
        _until(lambda: self.detector.site_scorer is not before)
        return (
            f"{told['marks']} marks, {told['segments']} segments: {told['wrong_before']} wrong before, "
            f"{told['wrong_left_out']} left out; of the alarms so far {told['gone_in_all']} would be gone, "
            f"{told['kept']} stay, {told['new_in_all']} new"
        )

    def _kept(self, event: EventRecord) -> bool:
        with self.site.open_store() as store:
            known = store.event(event.id)
            return known is not None and bool(store.segments(event.camera, known.start, known.end))

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self._recorder.close()
        self.detector.close()


def clip_of(folder: Path, camera: str) -> Looped:
    """A camera's clip, with its event as `clips/events.json` has it."""
    known = json.loads((folder / "clips" / "events.json").read_text("utf-8"))[camera]
    events = tuple((start, end) for start, end in known["events"])
    return Looped(camera, folder / "clips" / f"{camera}.mp4", known["kind"], events)


def taught(folder: Path, site: Path, before: int, after: int, told: Callable[[str], None]) -> list[Row]:
    """Play, mark, agree, and play on; until no false alarm is left, or it was marked twice.

    Args:
        folder: Of the demo.
        site: Where what is learned is kept.
        before: Loops before something is marked.
        after: Loops after each agreement.
        told: Told of each row and proposal.
    """
    with Simulation(folder, site) as run:
        row, alarms = run.play("the bundle's scorer", before)
        rows = [row]
        told(row.line())
        marked = 0
        for _ in range(2):
            if not alarms:
                break
            # Those of the last loop of each camera, as an operator sees them.
            newest = {event.camera: event for event in alarms}
            length = {camera.clip.camera: camera.length_s for camera in run.cameras}
            chosen = [event for event in alarms if event.end_s > newest[event.camera].end_s - length[event.camera]]
            run.mark(chosen)
            marked += len(chosen)
            told(run.agree())
            row, alarms = run.play(f"{marked} marked and agreed to", after)
            rows.append(row)
            told(row.line())
    return rows


def _until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + _LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError("the recorder does not follow")
        time.sleep(0.02)


@click.command()
@click.argument("folder", type=PATH)
@click.option("--before", type=click.IntRange(min=1), default=10, show_default=True, help="Loops before marking.")
@click.option(
    "--after", type=click.IntRange(min=1), default=50, show_default=True, help="Loops after each agreement."
)
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
def taught_demo(folder: Path, before: int, after: int, output: Path | None) -> None:
    """Mark the false alarms of a demo's cameras, agree, and see what comes back.

    \b
    Example:
      python -m benchmarks.taught_demo demo/
    """
    lines = [
        f"$ python -m benchmarks.taught_demo demo/ --before {before} --after {after}",
        "",
        f"{'':34}{'loops':>6}" + "".join(f"{camera + ' real':>12}{'false':>8}" for camera in CAMERAS),
    ]

    def told(line: str) -> None:
        lines.append(line)
        say(line)

    with tempfile.TemporaryDirectory() as site:
        taught(folder, Path(site), before, after, told)
    text = "\n".join(lines) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


if __name__ == "__main__":
    taught_demo()
