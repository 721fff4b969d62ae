"""Which runs are there? A read model over all of them: a list costs what it shows, not what there is.

The index is never the truth, and how it stays true enough is this:

1. Every question first compares each *open* run (neither ended nor lost) with its log, by the log's *mark*: size, time
   and inode. So such a run needs no note of what happens to it. A new one gets its row, an empty one, before its log.
2. Before anything is appended to an ended or lost run, the run is put *in doubt*, durably, behind the seq that the
   append goes on. Every question compares the runs in doubt as well. A note of anything behind that seq takes the doubt
   back. So whoever dies between append and note leaves a run that is looked at.
3. What hands do is seen by the stamp of the directory of runs, whose names are then compared with the rows, and by the
   marks of the rows that are about to be shown.
4. A file that is missing, damaged or of another version is replaced by an empty one, which 3. fills from the logs.
5. Where the file cannot be written, the question goes to a copy in memory, which is brought up to date the same way.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from msgspec import Struct

from eventlog.errors import EventLogError, Locked
from eventlog.names import Head
from eventlog.present import SUFFIX
from projections.fresh import Document, read_record, stamp_of, stamps
from projections.index_file import UNUSABLE, IndexFile, empty, is_refusal, writing
from projections.layout import StateLayout, index_path, is_run_id, run_path, run_stream, runs_path
from projections.statuses import OPEN

if TYPE_CHECKING:
    from eventlog import FileLog

T = TypeVar("T")

RESELECTS_MAX: Final = 5
"""How often rows are selected again because one of them had changed on the disk."""
_BATCH: Final = 500
_MISSING: Final = ""


class RunRow(Struct, frozen=True):
    """A run as lists show it; the fields are those of `run_record.json`. `sick` says why its log cannot be read on."""

    run_id: str
    target: str
    workflow: str
    source: str
    status: str
    created_at: str
    updated_at: str
    message: str | None
    submission_id: str | None
    exit_code: int | None
    idempotency_key: str | None
    seq: int
    h: str
    sick: str | None


class Selection(NamedTuple):
    """Which runs a list has: those that say what is given here, all of them made `since` a time like that of events."""

    status: str | None = None
    target: str | None = None
    workflow: str | None = None
    source: str | None = None
    since: str | None = None
    limit: int | None = None


_ALL: Final = Selection()


class _Look(NamedTuple):
    """What a look at a run has shown: the mark of its log, then what that says, or why it says nothing."""

    run_id: str
    mark: str
    document: Document | None = None
    sick: str | None = None


_COLUMNS: Final = RunRow.__struct_fields__
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)}, mark FROM runs WHERE status IS NOT NULL"  # noqa: S608  constants
_TERMS: Final = ("status = ?", "target = ?", "workflow = ?", "source = ?", "created_at >= ?")
"""What is asked of a row for each of the texts of a Selection, in their order."""
_SICK: Final = "SELECT run_id, sick FROM runs INDEXED BY unhealthy WHERE sick IS NOT NULL ORDER BY run_id"
_ACTIVE: Final = (
    "SELECT run_id, status FROM runs INDEXED BY to_look_at "
    "WHERE open AND status IS NOT NULL ORDER BY created_at, run_id"
)
_TO_NOTE: Final = (
    "SELECT run_id, status, seq, h FROM runs INDEXED BY to_note "
    "WHERE status IN ('completed', 'failed', 'cancelled', 'error', 'dry_run') AND noted < seq ORDER BY run_id LIMIT ?"
)
_DOUBTS: Final = "SELECT run_id, coalesce(mark, '') FROM doubts LEFT JOIN runs USING (run_id)"
_STORED: Final = (*_COLUMNS, "open", "mark")
_STORE: Final = (
    f"INSERT INTO runs ({', '.join(_STORED)}) VALUES ({', '.join('?' * len(_STORED))}) "  # noqa: S608  constants
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _STORED[1:])} "
    "WHERE runs.seq <= excluded.seq OR runs.mark = ?"
)
_STORE_NOTHING: Final = "INSERT OR REPLACE INTO runs (run_id, seq, h, open, mark) VALUES (?, 0, '', 1, ?)"


class Index:
    """The runs of one state root. Any number of threads and processes may use it at once."""

    def __init__(self, root: Path, *, sync: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._file = IndexFile(root, sync=sync)
        self._layout = StateLayout(root)
        self._clock = clock

    def list(self, wanted: Selection = _ALL) -> tuple[RunRow, ...]:
        """Give the runs that are wanted, the newest first."""
        rows, _ = self.list_and_sick(wanted)
        return rows

    def list_and_sick(self, wanted: Selection = _ALL) -> tuple[tuple[RunRow, ...], tuple[tuple[str, str], ...]]:
        """Give what `list` and `sick` give, by one look at the index."""
        *texts, limit = wanted
        terms = [term for term, value in zip(_TERMS, texts, strict=True) if value is not None]
        query = " AND ".join([_SELECT, *terms]) + " ORDER BY created_at DESC, run_id DESC LIMIT ?"
        values = [*(value for value in texts if value is not None), -1 if limit is None else limit]
        return self._ask(lambda db: (self._rows(db, query, values), tuple(db.execute(_SICK))))

    def row(self, run_id: str) -> RunRow | None:
        """Give one run."""
        rows = self._ask(lambda db: self._rows(db, f"{_SELECT} AND run_id = ?", [run_id]))
        return rows[0] if rows else None

    def keyed(self, idempotency_key: str) -> str | None:
        """Give the run that was asked for under this key."""
        rows = self._ask(lambda db: self._rows(db, f"{_SELECT} AND idempotency_key = ?", [idempotency_key]))
        return rows[0].run_id if rows else None

    def active(self) -> tuple[tuple[str, str], ...]:
        """Give the runs that neither have ended nor are lost, each with its status, the oldest first."""
        return self._ask(lambda db: tuple(db.execute(_ACTIVE)))

    def lost_since(self, age_s: float) -> tuple[str, ...]:
        """Give the runs that were lost within the last `age_s` seconds."""
        since = datetime.fromtimestamp(self._clock() - age_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        query = "SELECT run_id FROM runs WHERE status = 'lost' AND updated_at >= ? ORDER BY run_id"
        return self._ask(lambda db: tuple(run_id for (run_id,) in db.execute(query, [since])))

    def sick(self) -> tuple[tuple[str, str], ...]:
        """Give the runs whose logs cannot be read to their ends, each with the reason."""
        return self._ask(lambda db: tuple(db.execute(_SICK)))

    def to_note(self, limit: int) -> tuple[tuple[str, str, Head], ...]:
        """Give runs that have ended, with status and head, which nobody has said of that the registry has them."""
        return self._ask(
            lambda db: tuple((run_id, status, Head(*head)) for run_id, status, *head in db.execute(_TO_NOTE, [limit]))
        )

    def noted(self, runs: Iterable[tuple[str, int]]) -> None:
        """Take in that the registry has the heads of these runs up to that seq. Needs no success."""
        with suppress(OSError, Locked, *UNUSABLE), self._file.shared(), closing(self._file.open()) as db, writing(db):
            db.executemany("UPDATE runs SET noted = ? WHERE run_id = ?", [(seq, run_id) for run_id, seq in runs])

    @contextmanager
    def in_doubt(self, run_id: str, seq: int) -> Iterator[None]:
        """Say that an append behind `seq` is about to be made to a run that is new or not open; make it in here."""
        for last in (False, True):
            with self._file.shared():
                if self._put_in_doubt(run_id, seq) or last:
                    yield
                    return
            # What cannot be written cannot be trusted either. If it cannot be replaced, the append still matters more.
            with suppress(OSError, *UNUSABLE):
                self._root.mkdir(parents=True, exist_ok=True)
                self._file.replace(unless_sound=False)

    def note(self, run_id: str, document: Document, mark: str) -> None:
        """Take in what `run_record.json` says; `mark` is that of the log which it was folded from.

        Needs no success: what is not noted is still in doubt, or open.
        """
        with suppress(OSError, Locked, *UNUSABLE), self._file.shared(), closing(self._file.open()) as db:
            query = "SELECT 1 FROM runs WHERE run_id = ? AND open"
            if document["status"] in OPEN and db.execute(query, [run_id]).fetchone():
                return
            with writing(db):
                _store(db, _Look(run_id, mark, document), None)

    def mark(self, run_id: str) -> str:
        """Give what changes whenever the log of a run does."""
        return _mark(self._layout.log_text(run_id))

    def rebuild(self) -> None:
        """Throw the index away and fill it from the logs."""
        self._file.replace(unless_sound=False)
        self._ask(lambda _db: None)

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Bring the index up to date and ask it."""
        if runs_path(self._root).is_dir():
            for again in (False, True):
                try:
                    with self._file.shared(), closing(self._file.open()) as db:
                        doubts = self._refresh(db)
                        answer = question(db)
                    if doubts:
                        self._take_back()
                    return answer
                except UNUSABLE as error:
                    if is_refusal(error) and index_path(self._root).exists():
                        break
                except Locked:
                    break
                try:
                    self._file.replace(unless_sound=not again)
                except (OSError, Locked, *UNUSABLE):
                    break
        with suppress(*UNUSABLE), closing(self._file.private_copy()) as copy:
            self._refresh(copy)
            return question(copy)
        with closing(empty()) as copy:
            self._refresh(copy)
            return question(copy)

    def _refresh(self, db: sqlite3.Connection) -> bool:
        """Compare what may have changed with the disk; tell whether runs are in doubt."""
        stamp = _stamp(runs_path(self._root))
        if _seen(db) != stamp:
            self._compare_names(db, stamp)
        doubts = db.execute("SELECT run_id, coalesce(mark, '') FROM doubts LEFT JOIN runs USING (run_id)").fetchall()
        likely = db.execute(
            "SELECT run_id, mark FROM runs WHERE open UNION SELECT run_id, mark FROM runs WHERE sick != ''"
        )
        self._compare_marks(db, [*likely.fetchall(), *doubts])
        return bool(doubts)

    def _compare_names(self, db: sqlite3.Connection, stamp: str) -> None:
        known = {run_id for (run_id,) in db.execute("SELECT run_id FROM runs")}
        there = set(self._layout.run_ids())
        for batch in _batches(sorted(there - known)):
            looks = [self._folded(run_id, self.mark(run_id)) for run_id in batch]
            with writing(db):
                for look in looks:
                    _store(db, look, _MISSING)
        with writing(db):
            db.executemany("DELETE FROM runs WHERE run_id = ?", [(run_id,) for run_id in known - there])
            _see(db, stamp)

    def _compare_marks(self, db: sqlite3.Connection, seen: Iterable[tuple[str, str]]) -> bool:
        """Look at the runs whose logs have other marks than the ones seen; tell whether there were any."""
        changed = [(run_id, mark) for run_id, mark in dict(seen).items() if self.mark(run_id) != mark]
        if not all(is_run_id(run_id) for run_id, _ in changed):
            raise sqlite3.DatabaseError("a row names no run")
        for batch in _batches(changed):
            compared = [(self._look(run_id), mark) for run_id, mark in batch]
            with writing(db):
                for look, mark in compared:
                    _store(db, look, mark)
        return bool(changed)

    def _rows(self, db: sqlite3.Connection, query: str, values: Sequence[object]) -> tuple[RunRow, ...]:
        """Select, and again while what would be shown is not what the logs say."""
        for _ in range(RESELECTS_MAX):
            rows = db.execute(query, values).fetchall()
            if not self._compare_marks(db, ((row[0], row[-1]) for row in rows)):
                break
        return tuple(RunRow(*row[:-1]) for row in rows)

    @cached_property
    def _log(self) -> FileLog:
        from eventlog import FileLog  # Costs msgspec, which most questions never need.

        return FileLog(self._layout, acknowledged=stamps(self._root))

    def _look(self, run_id: str) -> _Look:
        mark = self.mark(run_id)  # First: what comes after it is looked at again.
        document = read_record(self._root, run_id, self._log)
        return _Look(run_id, mark, document) if document else self._folded(run_id, mark)

    def _folded(self, run_id: str, mark: str) -> _Look:
        from projections.events.recorded import UnknownEvent
        from projections.projection import RUN_PROJECTION, run_document

        try:
            state, head = RUN_PROJECTION.fold_all(run_stream(run_id), self._log)
        except (EventLogError, UnknownEvent) as error:
            return _Look(run_id, mark, sick=str(error))
        return _Look(run_id, mark, run_document(state.record, head) if state.record else None)

    def _put_in_doubt(self, run_id: str, seq: int) -> bool:
        doubt = "INSERT INTO doubts VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)"
        try:
            with closing(self._file.open()) as db, writing(db):
                if not db.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone():
                    self._make_directory(db, run_id)
                    db.execute(_STORE_NOTHING, [run_id, _MISSING])
                if seq:  # An append that makes a run finds none, or is refused.
                    db.execute(doubt, [run_id, seq])
        except UNUSABLE:
            return False
        return True

    def _make_directory(self, db: sqlite3.Connection, run_id: str) -> None:
        """Make the directory of a run whose row is made with it, so that no names have to be compared for it."""
        before = _stamp(runs_path(self._root))
        with suppress(OSError):  # The append will say what is wrong.
            run_path(self._root, run_id).mkdir(parents=True)
            if _seen(db) == before:
                _see(db, _stamp(runs_path(self._root)))

    def _take_back(self) -> None:
        """Drop the doubts of those who died or were refused: nobody appends in doubt while we are alone."""
        with suppress(*UNUSABLE), self._file.alone(0) as granted:
            if granted:
                with closing(self._file.open()) as db, writing(db):
                    doubts = db.execute(_DOUBTS).fetchall()
                    settled = [(run_id,) for run_id, mark in doubts if self.mark(run_id) == mark]
                    db.executemany("DELETE FROM doubts WHERE run_id = ?", settled)


def _store(db: sqlite3.Connection, look: _Look, seen_mark: str | None) -> None:
    """Take in a look, unless the row says more already and is not the one that was compared."""
    run_id, mark, document, sick = look
    if document is not None and (stamp := stamp_of(document)):
        row = {**document, "seq": stamp.seq, "h": stamp.h, "sick": None}
        values = [*(row[name] for name in _COLUMNS), document["status"] in OPEN, mark]
        db.execute(_STORE, [*values, seen_mark])
        db.execute("DELETE FROM doubts WHERE run_id = ? AND seq < ?", [run_id, stamp.seq])
    elif sick is not None:
        unread = "INSERT INTO runs (run_id, seq, h, open, mark, sick) VALUES (?, 0, '', 1, ?, ?)"
        db.execute(
            f"{unread} ON CONFLICT DO UPDATE SET mark = excluded.mark, sick = excluded.sick", [run_id, mark, sick]
        )
    else:
        # No run yet, or no more: its log is looked at until it says something.
        db.execute(_STORE_NOTHING, [run_id, mark])


def _seen(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT stamp FROM seen WHERE directory = 'runs'").fetchone()
    return row[0] if row else None


def _see(db: sqlite3.Connection, stamp: str) -> None:
    db.execute("INSERT OR REPLACE INTO seen VALUES ('runs', ?)", [stamp])


def _stamp(directory: Path) -> str:
    """Give what changes when a name in the directory comes or goes."""
    try:
        status = directory.stat()
    except OSError:
        return _MISSING
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_nlink}:{status.st_ino}"


def _mark(path: str) -> str:
    for there in (path, path + SUFFIX):  # Archived or not.
        with suppress(OSError, ValueError):  # The latter for what cannot be a path at all.
            status = os.stat(there)
            return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
    return _MISSING


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]
