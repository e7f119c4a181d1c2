"""A run whose events begin and end all the time, its file of records and two outputs, and what arrived at them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import Edge, Record, Settings, eventful, plain
from benchmarks.faults.takers import Broker, Receiver, outputs

OUTPUTS = ("mqtt", "webhook")
_FRAMES = 8


def key(record: Record) -> str:
    """What tells a record from every other one."""
    return json.dumps(record, sort_keys=True)


def lasting(record: Record) -> bool:
    """Whether it is of those that a full spool keeps to the last."""
    return record["type"] in ("run", "camera") or (record["type"] == "event" and record["state"] != "update")


def distinct(records: Sequence[Record]) -> list[str]:
    """The keys of records in the order in which they came first."""
    return list(dict.fromkeys(key(one) for one in records))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What should have arrived somewhere, and what did.

    Attributes:
        wanted: How many records.
        missing: Those that did not arrive.
        twice: How many arrived once more than once.
        disordered: How many arrived behind one that came after them.
    """

    wanted: int
    missing: list[Record]
    twice: int
    disordered: int

    @classmethod
    def of(cls, wanted: Sequence[Record], arrived: Sequence[Record]) -> Comparison:
        """Compare."""
        known = {key(one): one for one in wanted}
        places = {one: place for place, one in enumerate(distinct(wanted))}
        came = [one for one in distinct(arrived) if one in known]
        times = Counter(key(one) for one in arrived)
        newest, disordered = -1, 0
        for one in came:
            disordered += places[one] < newest
            newest = max(newest, places[one])
        missing = [record for one, record in known.items() if one not in times]
        return cls(len(known), missing, sum(count - 1 for count in times.values()), disordered)

    def line(self, what: str) -> str:
        """For the table."""
        return f"{what:<34}{self.wanted:>9}{len(self.missing):>9}{self.twice:>7}{self.disordered:>14}"


class Site:
    """The cameras, the outputs and the run, in a folder; a context manager.

    Args:
        folder: For all files.
        bundle: Any; a copy with another threshold scores.
        cameras: How many.
        spool_mb: How much may wait.
    """

    def __init__(self, folder: Path, bundle: Path, cameras: int, spool_mb: float = 256.0) -> None:
        self._stack = ExitStack()
        self.folder = folder
        folder.mkdir(parents=True)
        try:
            placed = [self._stack.enter_context(Camera(f"camera{number}")) for number in range(cameras)]
            urls = {one.name: one.url for one in placed}
            self.broker = self._stack.enter_context(Broker(folder / "broker"))
            self.receiver = self._stack.enter_context(Receiver())
            settings: Settings = {
                **plain(eventful(bundle, folder / "bundle", urls, _FRAMES), urls),
                **outputs(self.broker, self.receiver),
                "output": {"path": "records.jsonl"},
                "spool": {"path": "spool", "max_mb": spool_mb},
            }
            self.edge = self._stack.enter_context(Edge(folder / "edge", settings))
        except BaseException:
            self._stack.close()
            raise

    def arrived(self, output: str) -> list[Record]:
        """What an output got: mosquitto's subscriber the events, the receiver everything."""
        taker = self.broker if output == "mqtt" else self.receiver
        return [one.record for one in list(taker.arrivals)]

    def compared(self, wanted: Sequence[Record], output: str) -> Comparison:
        """What should have arrived at an output, with what did."""
        own = [one for one in wanted if output == "webhook" or one["type"] == "event"]
        return Comparison.of(own, self.arrived(output))

    def waits(self) -> dict[str, list[Record]]:
        """What waits in the spool, by output, while no run has it open."""
        with tempfile.TemporaryDirectory() as copy:
            for path in (self.folder / "edge" / "spool").glob("spool.sqlite*"):
                shutil.copy(path, copy)
            database = sqlite3.connect(Path(copy) / "spool.sqlite")
            try:
                rows = database.execute("SELECT sink, line FROM records ORDER BY id").fetchall()
            except sqlite3.OperationalError:  # it was killed before it made its tables
                rows = []
            finally:
                database.close()
        found: dict[str, list[Record]] = {output: [] for output in OUTPUTS}
        for sink, line in rows:
            record = json.loads(line)
            if sink.startswith("webhook") or record["type"] == "event":
                found["webhook" if sink.startswith("webhook") else "mqtt"].append(record)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
