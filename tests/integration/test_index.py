"""Does a list show every run as it is, at a cost that does not grow with those that are not shown?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventlog import Conflict
from projections.events import run as r
from projections.index import Index, Selection
from projections.index_file import IndexFile
from projections.layout import index_path, run_path, run_record_path, run_stream
from tests import publishers
from tests.conftest import Figure
from tests.run_examples import (
    BLOCKED,
    RUN,
    Books,
    completed,
    failed,
    indexed,
    intended,
    lost,
    recovered,
    requested,
    started,
    submitted,
)
from tests.writers import context

SIGKILLED = -signal.SIGKILL


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def finished(books: Books, run_id: str) -> None:
    books.change(run_id, requested(run_id), intended(), submitted(), started(), completed())


def statuses(index: Index) -> dict[str, str]:
    return {row.run_id: row.status for row in index.list()}


def fresh(books: Books) -> Index:
    return Index(books.root, sync=False)


def test_three_hundred_runs_are_listed_by_what_they_are_the_newest_first(books: Books) -> None:
    wanted = []
    for number in range(300):
        run_id = f"run-{number:03d}"
        target, workflow = ("saturn", "venus")[number % 2], ("plan", "generate", "execute")[number % 3]
        source = "cli" if number % 5 else "agent"
        books.change(run_id, requested(run_id, target=target, workflow=workflow, source=source))
        status = "requested"
        if number % 7 == 0:
            books.change(run_id, intended(), submitted(), started(), failed())
            status = "failed"
        wanted.append((run_id, target, workflow, source, status))
    wanted.reverse()
    listed = books.index.list()
    assert [(row.run_id, row.target, row.workflow, row.source, row.status) for row in listed] == wanted
    assert [row.created_at for row in listed] == sorted((row.created_at for row in listed), reverse=True)

    def ids(**chosen: object) -> list[str]:
        return [row.run_id for row in books.index.list(Selection(**chosen))]  # type: ignore[arg-type]  # what is chosen varies

    assert ids(limit=50) == [run[0] for run in wanted[:50]]
    assert ids(status="failed") == [run[0] for run in wanted if run[4] == "failed"]
    assert ids(target="venus") == [run[0] for run in wanted if run[1] == "venus"]
    assert ids(workflow="plan", limit=3) == [run[0] for run in wanted if run[2] == "plan"][:3]
    assert ids(source="agent", target="saturn", status="requested") == [
        run[0] for run in wanted if run[3] == "agent" and run[1] == "saturn" and run[4] == "requested"
    ]
    assert ids(since=listed[9].created_at) == [run[0] for run in wanted[:10]]
    assert ids(status="lost") == ids(target="' OR 1=1 --") == []
    assert len(books.index.active()) == sum(run[4] == "requested" for run in wanted)


def test_a_row_says_what_the_record_says(books: Books) -> None:
    books.change(RUN, replace(requested(), idempotency_key="once"), intended(), submitted(), failed())
    [row] = books.index.list()
    assert (row.status, row.message, row.exit_code, row.submission_id) == ("failed", "it broke", 3, RUN)
    assert (row.seq, row.h) == books.head()
    assert row.idempotency_key == "once"
    assert books.index.keyed("once") == RUN
    assert books.index.keyed("twice") is None
    assert books.index.row(RUN) == row
    assert books.index.row("none") is None


def test_an_empty_root_has_no_runs_and_asking_makes_nothing(tmp_path: Path) -> None:
    index = Index(tmp_path / "none")
    assert index.list() == ()
    assert index.active() == ()
    assert not (tmp_path / "none").exists()


def test_active_runs_are_those_that_are_still_wanted(books: Books) -> None:
    lives: dict[str, list[r.RunEvent]] = {
        "a": [],
        "b": [BLOCKED],
        "c": [intended(), submitted(), started()],
        "d": [intended(), submitted(), completed()],
        "e": [intended(), submitted(), lost()],
    }
    for run_id, events in lives.items():
        books.change(run_id, requested(run_id), *events)
    assert books.index.active() == (("a", "requested"), ("b", "blocked"), ("c", "running"))
    now = 1.8e9
    old = Index(books.root, clock=lambda: now + 1e9)
    assert books.index.lost_since(3600) == ("e",)
    assert old.lost_since(3600) == ()


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ([], [requested("x")], "requested"),
        ([requested("x")], [intended(), submitted()], "submitted"),
        ([requested("x"), intended(), submitted()], [completed()], "completed"),
        ([requested("x"), intended(), submitted(), lost()], [recovered()], "submitted"),
        ([requested("x"), intended(), submitted(), lost()], [r.RunUnblocked()], "requested"),
        ([requested("x"), BLOCKED], [r.RunUnblocked()], "requested"),
        ([requested("x"), intended(), submitted(), completed()], [indexed("a")], "completed"),
    ],
)
def test_an_append_whose_note_is_lost_is_not_missing_in_lists(
    books: Books, before: list[r.RunEvent], after: list[r.RunEvent], status: str
) -> None:
    for event in before:
        books.change("x", event)
    finished(books, "other")
    books.index.list()
    books.append(run_stream("x"), *after)
    rows = {row.run_id: row for row in fresh(books).list(Selection(status))}
    assert rows["x"].seq == books.head("x").seq >= len(before) + len(after)
    assert statuses(fresh(books)) == {"x": status, "other": "completed"}


def test_a_writer_killed_between_append_and_note_is_not_missing_in_lists(books: Books) -> None:
    books.change("x", requested("x"), intended(), submitted())
    books.change("y", requested("y"), intended(), submitted(), lost())
    books.index.list()
    for run_id in ("x", "y", "new"):
        process = context.Process(target=publishers.append_and_die, args=(books.root, run_id))
        process.start()
        process.join()
        assert process.exitcode == SIGKILLED
    assert {row.run_id for row in fresh(books).list(Selection("completed"))} == {"x", "y"}
    assert statuses(fresh(books)) == {"x": "completed", "y": "completed", "new": "requested"}


def test_a_late_note_takes_no_newer_doubt_back(books: Books) -> None:
    books.change("x", requested("x"), intended(), submitted())
    books.append(run_stream("x"), lost())
    mark = books.index.mark("x")
    document = books.index._folded("x", mark).document
    assert document
    books.append(run_stream("x"), recovered())  # Put in doubt behind the loss, and not noted.
    books.index.note("x", document, mark)  # Whoever recorded the loss gets to its note only now.
    assert fresh(books).active() == (("x", "submitted"),)


def test_a_note_of_less_does_not_replace_a_note_of_more(books: Books) -> None:
    books.change("x", requested("x"), intended(), submitted(), lost())
    mark = books.index.mark("x")
    document = books.index._folded("x", mark).document
    assert document
    books.change("x", recovered())
    books.change("x", completed())
    books.index.note("x", document, mark)
    assert [row.run_id for row in fresh(books).list(Selection("completed"))] == ["x"]


def test_doubts_of_those_who_were_refused_are_taken_back(books: Books) -> None:
    finished(books, "x")
    stream, head = run_stream("x"), books.head("x")
    with pytest.raises(Conflict), books.publisher.appending(stream, head):
        books.log.append(stream, [requested().recorded_by("a", "cli")], expected=1)
    assert doubts(books) == [("x", head.seq)]
    books.index.list()
    assert doubts(books) == []


def test_a_doubt_stays_while_its_append_is_under_way(books: Books) -> None:
    finished(books, "x")
    stream, head = run_stream("x"), books.head("x")
    with books.publisher.appending(stream, head):
        fresh(books).list()
        assert doubts(books) == [("x", head.seq)]
        books.log.append(stream, [indexed("a").recorded_by("a", "cli")], expected=head)
    row = fresh(books).row("x")
    assert row
    assert row.seq == head.seq + 1
    assert doubts(books) == []


def doubts(books: Books) -> list[tuple[str, int]]:
    db = sqlite3.connect(index_path(books.root))
    rows = db.execute("SELECT * FROM doubts").fetchall()
    db.close()
    return rows


def test_a_list_over_a_fresh_index_opens_no_log(books: Books) -> None:
    for number in range(5):
        finished(books, f"run-{number}")
    listed = books.index.list()
    for number in range(5):
        path = books.log.path(run_stream(f"run-{number}"))
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"x" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        run_record_path(books.root, f"run-{number}").unlink()
    assert fresh(books).list() == listed, "a log was read"
    os.utime(path)
    assert [run_id for run_id, _ in fresh_after_list(books).sick()] == ["run-4"], "the trap does not work"


def fresh_after_list(books: Books) -> Index:
    index = fresh(books)
    index.list()
    return index


def test_runs_that_hands_copy_and_remove_come_and_go(books: Books, tmp_path: Path) -> None:
    finished(books, "x")
    finished(books, "y")
    assert set(statuses(books.index)) == {"x", "y"}
    other = Books(tmp_path / "other")
    finished(other, "z")
    shutil.copytree(other.root / "runs" / "z", books.root / "runs" / "z")
    shutil.rmtree(books.root / "runs" / "x")
    assert set(statuses(books.index)) == {"y", "z"}
    (books.root / "runs" / "later").mkdir()
    assert set(statuses(books.index)) == {"y", "z"}
    finished(other, "later")
    shutil.copy(other.log.path(run_stream("later")), books.root / "runs" / "later" / "events.jsonl")
    assert set(statuses(books.index)) == {"y", "z", "later"}


def test_a_new_run_makes_nobody_compare_all_names(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(books, "x")
    books.index.list()
    finished(books, "y")
    monkeypatch.setattr(Index, "_compare_names", lambda *_: pytest.fail("all names were compared"))
    assert set(statuses(books.index)) == {"x", "y"}
    (books.root / "runs" / "by-hand").mkdir()
    with pytest.raises(pytest.fail.Exception):
        books.index.list()


def test_a_sick_run_is_named_keeps_its_last_row_and_gets_well(books: Books) -> None:
    finished(books, "x")
    books.change("y", requested("y"))
    books.index.list()
    path = books.log.path(run_stream("y"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"ada@lab", b"eve@lab"))
    assert statuses(books.index) == {"x": "completed", "y": "requested"}
    [(run_id, why)] = books.index.sick()
    assert run_id == "y"
    assert "line 1" in why
    path.write_bytes(whole)
    assert books.index.sick() == ()
    (books.root / "runs" / "z").mkdir()
    (books.root / "runs" / "z" / "events.jsonl").write_bytes(b"no log at all, and long enough not to be torn\n" * 9)
    assert [run_id for run_id, _ in books.index.sick()] == ["z"]
    assert set(statuses(books.index)) == {"x", "y"}


def test_a_log_that_was_put_back_to_an_earlier_state_is_shown_as_it_is(books: Books) -> None:
    for event in (requested("x"), intended(), submitted(), completed()):
        books.change("x", event)
    assert statuses(books.index) == {"x": "completed"}
    path = books.log.path(run_stream("x"))
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    run_record_path(books.root, "x").unlink()  # It vouches for events that are gone.
    assert statuses(fresh(books)) == {"x": "requested"}


@pytest.fixture
def listed(books: Books) -> Books:
    for number in range(30):
        finished(books, f"run-{number:02d}")
    books.change("open", requested("open"))
    books.index.list()
    return books


def expected() -> dict[str, str]:
    return {f"run-{number:02d}": "completed" for number in range(30)} | {"open": "requested"}


def test_an_index_cut_at_any_place_is_replaced(listed: Books, figure: Figure) -> None:
    path = index_path(listed.root)
    whole = path.read_bytes()
    cuts = [0, 1, 15, 16, 17, 99, 100, 101, *range(400, len(whole), 2048), len(whole) - 1]
    for size in cuts:
        path.write_bytes(whole[:size])
        assert statuses(fresh(listed)) == expected(), f"cut at byte {size}"
        path.write_bytes(whole[:size])
        listed.change(f"cut-{size}", requested(f"cut-{size}"))
        assert f"cut-{size}" in statuses(fresh(listed))
        shutil.rmtree(run_path(listed.root, f"cut-{size}"))
    figure(f"{len(cuts)} cuts of an index of {len(whole)} bytes")


def test_a_missing_index_and_one_that_is_no_index_are_replaced(listed: Books) -> None:
    path = index_path(listed.root)
    path.unlink()
    assert statuses(fresh(listed)) == expected()
    path.write_bytes(b"this is a text and long enough to be taken for a header of a database, is it not? " * 20)
    assert statuses(fresh(listed)) == expected()
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE other (a)").connection.close()
    assert statuses(fresh(listed)) == expected()
    for change in ("PRAGMA user_version = 999001", "DROP TABLE doubts", "ALTER TABLE runs DROP COLUMN sick"):
        db = sqlite3.connect(path)
        db.execute("DROP INDEX IF EXISTS unhealthy")
        db.execute(change)
        db.commit()
        db.close()
        assert statuses(fresh(listed)) == expected(), change
    assert not list(listed.root.glob(".index*"))


def test_an_index_with_flipped_bytes_never_stops_a_list(listed: Books) -> None:
    path, chance = index_path(listed.root), random.Random(7)
    whole = path.read_bytes()
    for _ in range(150):
        spoilt = bytearray(whole)
        for _ in range(40):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        fresh(listed).list()
    fresh(listed).rebuild()
    assert statuses(fresh(listed)) == expected()


def test_the_journal_of_an_index_that_is_gone_is_not_played_into_the_new_one(listed: Books) -> None:
    path = index_path(listed.root)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.execute("UPDATE runs SET status = 'wrong', message = hex(randomblob(2000))")
    journal = path.with_name("index.sqlite-journal")
    stale = journal.read_bytes()
    assert stale
    db.close()
    path.unlink()
    journal.write_bytes(stale)
    IndexFile(listed.root).replace(unless_sound=False)
    new = path.read_bytes()
    db = IndexFile(listed.root).open()
    assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    db.close()
    assert path.read_bytes() == new
    assert statuses(fresh(listed)) == expected()


def test_a_transaction_that_died_is_undone(listed: Books) -> None:
    path = index_path(listed.root)
    copy = path.with_name("copy")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.execute("UPDATE runs SET status = 'wrong', message = hex(randomblob(2000))")
    shutil.copy(path, copy)
    journal = path.with_name("index.sqlite-journal")
    hot = journal.read_bytes()
    db.close()
    shutil.copy(copy, path)
    journal.write_bytes(hot)
    assert statuses(fresh(listed)) == expected()


def test_processes_that_meet_a_damaged_index_at_once_all_get_the_whole_list(listed: Books, figure: Figure) -> None:
    count = 6
    for content in (b"", b"no database " * 100, None):
        path = index_path(listed.root)
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        ready = context.Barrier(count)
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        processes = [
            context.Process(target=publishers.list_at_once, args=(listed.root, ready, theirs), daemon=True)
            for _, theirs in pipes
        ]
        for process in processes:
            process.start()
        for mine, _ in pipes:
            assert set(mine.recv()) == set(expected())
        for process in processes:
            process.join()
    figure(f"{count} processes on 3 kinds of a damaged index")


def test_runs_that_live_in_many_processes_are_all_listed(books: Books, figure: Figure) -> None:
    count, each = 4, 8
    ready = context.Barrier(count + 1)
    processes = [
        context.Process(target=publishers.live, args=(books.root, f"p{n}", each, ready), daemon=True)
        for n in range(count)
    ]
    for process in processes:
        process.start()
    ready.wait()
    questions, seen = 0, set[str]()
    while any(process.is_alive() for process in processes):
        there = {run_id for run_id in there_now(books) if books.log.head(run_stream(run_id)).seq}
        listed = set(statuses(fresh(books)))
        assert listed >= there | seen
        seen, questions = listed, questions + 1
        if questions % 10 == 0:
            index_path(books.root).unlink(missing_ok=True)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert statuses(fresh(books)) == {f"p{n}-{k}": "completed" for n in range(count) for k in range(each)}
    figure(f"{count} processes, {count * each} runs, {questions} lists meanwhile, none missed a run")


def there_now(books: Books) -> list[str]:
    runs = books.root / "runs"
    return [path.name for path in runs.iterdir()] if runs.exists() else []


@pytest.mark.parametrize("index_is", ["fresh", "stale", "missing", "damaged"])
def test_a_root_that_may_only_be_read_can_be_listed(listed: Books, index_is: str) -> None:
    for directory in (listed.root, *listed.root.parents):
        if directory.owner() == "root" and directory.name.startswith(("test_", "pytest-", "popen-")):
            directory.chmod(0o755)
    if index_is == "stale":
        listed.append(run_stream("open"), intended(), submitted())
        listed.append(run_stream("new"), requested("new"))
    if index_is == "missing":
        index_path(listed.root).unlink()
        listed.root.joinpath("index.lock").unlink()
    if index_is == "damaged":
        index_path(listed.root).write_bytes(b"no database " * 100)
    for path in (listed.root, *listed.root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=publishers.list_as_nobody, args=(listed.root, theirs))
    process.start()
    rows, active = mine.recv()
    process.join()
    changed = {"open": "submitted", "new": "requested"} if index_is == "stale" else {}
    assert dict(rows) == expected() | changed
    assert dict(active) == {run_id: status for run_id, status in dict(rows).items() if status != "completed"}
    for path in (listed.root, *listed.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_list_waits_for_whoever_writes_the_index_and_goes_on_without_it(
    listed: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.index_file.BUSY_LIMIT_S", 0.05)
    db = sqlite3.connect(index_path(listed.root), isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    listed.append(run_stream("open"), intended(), submitted())
    assert statuses(fresh(listed)) == expected() | {"open": "submitted"}
    db.close()
    with IndexFile(listed.root).alone(1.0) as granted:
        assert granted
        assert statuses(fresh(listed)) == expected() | {"open": "submitted"}
    with IndexFile(listed.root).shared(), IndexFile(listed.root).alone(0) as granted:
        assert not granted


def test_an_append_is_made_even_where_the_index_cannot(listed: Books) -> None:
    path = index_path(listed.root)
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    listed.change("new", requested("new"))
    assert statuses(fresh(listed)) == expected() | {"new": "requested"}
    shutil.rmtree(path)
    assert statuses(fresh(listed)) == expected() | {"new": "requested"}


def test_a_rebuilt_index_believes_only_the_logs(listed: Books) -> None:
    record = run_record_path(listed.root, "open")
    record.write_bytes(record.read_bytes().replace(b'"requested"', b'"completed"'))
    db = sqlite3.connect(index_path(listed.root))
    db.execute("UPDATE runs SET status = 'wrong'")
    db.commit()
    db.close()
    fresh(listed).rebuild()
    assert statuses(fresh(listed)) == expected()


def test_the_index_is_synced_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    for sync, mode in ((True, 1), (False, 0)):
        root = tmp_path / str(sync)
        root.mkdir()
        IndexFile(root, sync=sync).replace(unless_sound=False)
        db = IndexFile(root, sync=sync).open()
        assert db.execute("PRAGMA synchronous").fetchone() == (mode,)
        db.close()
