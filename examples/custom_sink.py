"""An output of your own: events into an SQLite table.

    python examples/custom_sink.py bundle/ clip.mp4 events.db

`Outputs` gives every sink a thread and a bounded queue. One that is `required` gets every record: when its queue is
full `emit` waits, and when it fails `emit` raises its error. Others delay nothing: when their queue is full the
oldest record is dropped, which is logged, as their failure is.
"""

from __future__ import annotations

import sqlite3
import sys

import cv2
import numpy as np

from edge_runtime import Bundle, Detector, EventRecord, Output, OutputFailed, Outputs, Record


class EventTable:
    """Keeps one row an event, as it stood last. All its methods are called in one thread, which is its own."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._database: sqlite3.Connection | None = None

    def write(self, record: Record) -> None:
        """Take one record; others than events are left out."""
        if not isinstance(record, EventRecord):
            return
        try:
            with self._opened() as database:
                row = (record.id, record.camera, record.start_s, record.end_s, record.peak, record.state)
                database.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise OutputFailed(f"{self.name}: {error}; nothing more is written to it") from error

    def close(self) -> None:
        """Nothing more comes."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> sqlite3.Connection:
        # Here, not in the constructor: SQLite's connections belong to the thread that opens them.
        if self._database is None:
            self._database = sqlite3.connect(self.name)
            columns = "id PRIMARY KEY, camera, start_s, end_s, peak, state"
            self._database.execute(f"CREATE TABLE IF NOT EXISTS events ({columns})")
        return self._database


def main(bundle: str, path: str, table: str) -> None:
    """Score a file."""
    with (
        Detector(Bundle.open(bundle), provider="cpu") as detector,
        Outputs([Output(EventTable(table), required=True)]) as outputs,
    ):
        stream, capture = detector.stream("gate", clock="frames"), cv2.VideoCapture(path)
        fps, number = capture.get(cv2.CAP_PROP_FPS) or 25.0, 0
        while (read := capture.read())[0]:
            for record in stream.push(read[1].astype(np.uint8, copy=False), number / fps):
                outputs.emit(record)
            number += 1
        for record in stream.flush():
            outputs.emit(record)


if __name__ == "__main__":
    main(*sys.argv[1:])
