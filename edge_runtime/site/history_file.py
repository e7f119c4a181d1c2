"""The file of a site's history: opened when it is needed, shared by threads, and set aside where it is damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import shown_path
from edge_runtime.outputs.store import is_damage, set_aside

# "hhhi": what tells it from other databases.
_APPLICATION = 0x68686869
_VERSION = 1
#: How long others are waited for, in seconds.
WAIT_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    camera TEXT NOT NULL, minute INTEGER NOT NULL, packed BLOB NOT NULL, PRIMARY KEY (camera, minute)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, camera TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, peak REAL NOT NULL,
    mean REAL NOT NULL, open INTEGER NOT NULL, line TEXT, description TEXT, p REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_start ON events (start, id);
CREATE INDEX IF NOT EXISTS by_camera ON events (camera, start, id);
"""


class HistoryFile:
    """The database.

    Args:
        path: The file, made where there is none.

    Attributes:
        path: As given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close it; another call opens it again."""
        with self._lock:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
                self._db = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._open()
            try:
                yield db
            except sqlite3.Error as error:
                self._failed(error)
                raise OutputFailed(
                    f"{shown_path(self.path)}: cannot be read or written now ({error}); try again, or free some space"
                ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # Some errors end the transaction themselves.
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._opened()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise self._unopened(error) from error
            set_aside(self.path, str(error), "events and scores of before are missing", "site's folder")
            try:
                self._db = self._opened()
            except sqlite3.Error as again:
                raise self._unopened(again) from again
        except OSError as error:
            raise self._unopened(error) from error
        return self._db

    def _unopened(self, error: Exception) -> OutputFailed:
        return OutputFailed(f"{shown_path(self.path)}: cannot be opened ({error}); free some space, or move it away")

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=WAIT_S)
        try:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            self._check(application if tables else _APPLICATION, version)
            for setting in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
                db.execute(f"PRAGMA {setting}").fetchall()
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            # Of an earlier version, which goes on with a column more.
            if not db.execute("SELECT 1 FROM pragma_table_info('events') WHERE name = 'p'").fetchone():
                db.execute("ALTER TABLE events ADD COLUMN p REAL")
            db.execute(f"PRAGMA application_id={_APPLICATION}")
            db.execute(f"PRAGMA user_version={_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, application: int, version: int) -> None:
        shown = shown_path(self.path)
        if application != _APPLICATION:
            raise UsageError(f"{shown}: is no history; choose another folder for `site:`")
        if version > _VERSION:
            raise UsageError(f"{shown}: was written by a later version; upgrade headhunt-edge")

    def _failed(self, error: sqlite3.Error) -> None:
        """After an error of the file it is opened anew; a damaged one is then found to be so, and set aside."""
        if is_damage(error):
            self.close()
            set_aside(self.path, str(error), "events and scores of before are missing", "site's folder")
        elif isinstance(error, sqlite3.OperationalError):
            self.close()
