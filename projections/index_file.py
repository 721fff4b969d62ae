"""How is the file of the index opened, shared, and replaced when it is not what it should be?

It is an SQLite database with a rollback journal: unlike WAL, that allows anybody to delete or replace the file while
others have it open. Whoever uses it holds a shared lock on `index.lock`, which is never removed; replacing takes it
exclusively, so nothing that somebody is about to rely on is lost with the file that is replaced.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from eventlog.errors import Locked
from projections.fresh import RUN_FOLD
from projections.layout import index_lock_path, index_path

VERSION: Final = 2
"""The version of the schema below. A file of another version, or of another fold of runs, is replaced."""
BUSY_LIMIT_S: Final = 10.0
"""How long a transaction waits for those of others, and a user of the file for whoever replaces it."""
_PAUSE_S: Final = 0.002

SCHEMA: Final = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, target TEXT, workflow TEXT, source TEXT, status TEXT, created_at TEXT, updated_at TEXT,
    message TEXT, submission_id TEXT, exit_code INTEGER, idempotency_key TEXT, seq INTEGER NOT NULL, h TEXT NOT NULL,
    sick TEXT, open INTEGER NOT NULL, mark TEXT NOT NULL, noted INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX newest ON runs (created_at, run_id) WHERE status IS NOT NULL;
CREATE INDEX of_status ON runs (status, created_at, run_id);
CREATE INDEX of_target ON runs (target, created_at, run_id);
CREATE INDEX of_workflow ON runs (workflow, created_at, run_id);
CREATE INDEX of_source ON runs (source, created_at, run_id);
CREATE INDEX of_key ON runs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX to_look_at ON runs (created_at, run_id, status, mark) WHERE open;
CREATE INDEX unhealthy ON runs (run_id) WHERE sick IS NOT NULL;
CREATE INDEX to_note ON runs (run_id) WHERE status IN ('completed', 'failed', 'cancelled', 'error', 'dry_run')
    AND noted < seq;
CREATE TABLE doubts (run_id TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (directory TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
"""
USER_VERSION: Final = VERSION * 1000 + RUN_FOLD
_REFUSALS: Final = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


UNUSABLE: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a file that is not what it should be leads to; the second where SQLite quotes from it in a message."""


class Outdated(sqlite3.DatabaseError):
    """The file is not one that this release has written, as a whole; never leaves the package."""


def is_refusal(error: Exception) -> bool:
    """Tell whether the system did not allow what was asked; any other error says that the file is no good."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code != sqlite3.SQLITE_IOERR_SHORT_READ and code & 0xFF in _REFUSALS


class IndexFile:
    """The file of the index of one state root."""

    def __init__(self, root: Path, *, sync: bool = True) -> None:
        self._path = index_path(root)
        self._lock_path = index_lock_path(root)
        self._sync = sync

    def open(self) -> sqlite3.Connection:
        """Open the file; raises sqlite3.Error when there is none, or when it is not what it should be."""
        db = self._connect("rw")
        try:
            self._check_version(db)
            db.execute("PRAGMA journal_mode = TRUNCATE")  # The same as DELETE, with one sync less.
            db.execute(f"PRAGMA synchronous = {'NORMAL' if self._sync else 'OFF'}")
        except BaseException:
            db.close()
            raise
        return db

    def private_copy(self) -> sqlite3.Connection:
        """Give what can be read of the file, or an empty index, in this process's memory."""
        copy = empty()
        if self._path.exists():
            with suppress(*UNUSABLE), closing(self._connect("ro")) as db:
                self._check_version(db)
                _check(db, "quick_check")
                db.backup(copy)
        return copy

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep the file from being replaced; raises eventlog.Locked when somebody takes too long to do so."""
        with self._locked(fcntl.LOCK_SH, BUSY_LIMIT_S):
            yield

    @contextmanager
    def alone(self, limit_s: float) -> Iterator[bool]:
        """Keep everybody else from using the file; gives False where that is not granted within `limit_s` seconds."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locked(fcntl.LOCK_EX, limit_s))
            except Locked:
                granted = False
            else:
                granted = True
            yield granted

    def replace(self, *, unless_sound: bool) -> None:
        """Put an empty index in the place of the file; raises OSError, sqlite3.Error and eventlog.Locked."""
        with self._locked(fcntl.LOCK_EX, BUSY_LIMIT_S):
            if unless_sound and self._is_sound():
                return  # Somebody else has just replaced it.
            new = self._path.with_name(f".{self._path.name}.new")
            journals = [path.with_name(f"{path.name}-journal") for path in (new, self._path)]
            # The old file goes before its journal: without that it could pass for a sound one.
            for path in (new, self._path, *journals):
                path.unlink(missing_ok=True)
            empty(str(new)).close()
            new.rename(self._path)

    def _is_sound(self) -> bool:
        try:
            with closing(self.open()) as db, closing(empty()) as fresh:
                _check(db, "integrity_check")
                return _tables(db) == _tables(fresh)
        except UNUSABLE:
            return False

    def _check_version(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone() != (USER_VERSION,):
            raise Outdated("the index is of another version")
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            raise Outdated("the index has just been deleted") from None
        if size % db.execute("PRAGMA page_size").fetchone()[0]:
            raise Outdated("the index ends within a page, which SQLite would take for an empty one")

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_LIMIT_S, isolation_level=None)

    @contextmanager
    def _locked(self, kind: int, limit_s: float) -> Iterator[None]:
        fd = self._open_lock()
        if fd is None:
            yield
            return
        try:
            deadline = time.monotonic() + limit_s
            while True:
                try:
                    fcntl.flock(fd, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Locked(self._lock_path, limit_s, "another process") from None
                    time.sleep(_PAUSE_S)
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _open_lock(self) -> int | None:
        """Open the lock file; None where there is none and none can be made: nobody can write an index there."""
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with suppress(OSError):
                return os.open(self._lock_path, flags, 0o666)
        return None


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """Do all of what follows in one transaction, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def empty(path: str = ":memory:") -> sqlite3.Connection:
    """Make an index without rows, by default in this process's memory."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {USER_VERSION}; COMMIT;")
    return db


def _check(db: sqlite3.Connection, how: str) -> None:
    if db.execute(f"PRAGMA {how}(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("the index is damaged")


def _tables(db: sqlite3.Connection) -> list[object]:
    return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
