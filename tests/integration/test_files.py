"""Do the files say what the logs say, whoever publishes, dies, deletes, edits or cuts the power?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from eventlog import Corrupt, Disk, FileLog, Head, Invalid, Locked, MemoryLog, Vanished, quiet
from projections import files, fresh
from projections.events import run as r
from projections.files import NotPublished, Publisher
from projections.fresh import read_artifacts, read_cluster, read_document, read_record, stamps
from projections.layout import CLUSTER, StateLayout, run_path, run_record_path, run_stream
from projections.rebuilding import rebuild
from projections.run_record import RunRecord
from projections.verdict import Verdict
from tests import publishers
from tests.conftest import Figure
from tests.examples import ROOT, unsynced
from tests.run_examples import (
    CLUSTER_EVENTS,
    FILES,
    RUN,
    RUN_EVENTS,
    Books,
    completed,
    histories,
    indexed,
    intended,
    requested,
    started,
    submitted,
)
from tests.writers import context

STREAM = run_stream(RUN)
KILLS = 25


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def states(verdicts: list[Verdict]) -> dict[str, str]:
    return {Path(verdict.path).name: verdict.state for verdict in verdicts}


def checked(books: Books) -> dict[str, str]:
    return states(list(rebuild(books.log, books.root, check=True)))


def finished(books: Books, run_id: str = RUN) -> None:
    books.change(run_id, requested(run_id))
    books.change(run_id, intended(), submitted(), started())
    books.change(run_id, indexed("a.txt"), completed())


@settings(deadline=None, max_examples=25)
@given(events=histories)
def test_deleted_files_are_rebuilt_with_the_same_bytes(events: list[r.RunEvent]) -> None:
    with tempfile.TemporaryDirectory() as name:
        books = Books(Path(name))
        for event in [requested(), *events]:
            books.change(RUN, event)
        for other in CLUSTER_EVENTS:
            books.append(CLUSTER, other)
            books.publisher.publish(CLUSTER)
        before = books.content()
        assert {Path(path).name for path in before} >= {"run_request.json", "run_record.json", "bootstrap.json"}
        for path in before:
            (books.root / path).unlink()
        assert set(checked(books).values()) == {"missing"}
        assert {verdict.state for verdict in rebuild(books.log, books.root, disk=unsynced())} == {"written"}
        assert books.content() == before
        assert set(checked(books).values()) == {"same"}


@settings(deadline=None, max_examples=25)
@given(events=histories)
def test_a_fold_that_goes_on_reaches_what_a_fold_from_the_start_does_at_every_prefix(events: list[r.RunEvent]) -> None:
    with tempfile.TemporaryDirectory() as name:
        books = Books(Path(name))
        for event in [requested(), *events]:
            books.append(STREAM, event)
            assert books.publisher.fold(STREAM) == Publisher(books.log, books.root).fold(STREAM)


def test_publishing_again_touches_no_file(books: Books) -> None:
    finished(books)
    paths = [run_path(books.root, RUN) / name for name in FILES]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    books.publisher.publish(STREAM)
    Publisher(books.log, books.root).publish(STREAM)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before


def test_a_stream_without_events_has_no_files(books: Books) -> None:
    state, head = books.publisher.publish(STREAM)
    assert (state.record, head) == (None, MemoryLog().head(STREAM))
    assert books.publisher.run(RUN) is None
    assert books.publisher.cluster().status == "not_started"
    assert not list(books.root.iterdir())


def test_what_a_publisher_knows_is_not_believed_when_the_log_is_another_one(books: Books, tmp_path: Path) -> None:
    finished(books)
    assert status(books.publisher.run(RUN)) == "completed"
    other = Books(tmp_path / "other")
    for event in [requested(target="venus")] * (books.head().seq + 1):
        other.change(RUN, event)
    books.log.close()
    shutil.copy(other.log.path(STREAM), books.log.path(STREAM))
    assert status(books.publisher.run(RUN)) == "requested"
    books.log.path(STREAM).unlink()
    with pytest.raises(Vanished):
        books.publisher.run(RUN)


def status(record: RunRecord | None) -> str | None:
    return record.status if record else None


def test_a_publisher_remembers_a_bounded_number_of_streams(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STREAMS_MAX", 3)
    for number in range(5):
        books.change(f"run-{number}", requested(f"run-{number}"))
    assert len(books.publisher._known) == 3
    assert [status(books.publisher.run(f"run-{number}")) for number in range(5)] == ["requested"] * 5


class OrderedDisk(Disk):
    """A disk that notes which file was synced and which name was given."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def sync(self, fd: int) -> None:
        self.calls.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        super().sync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.calls.append(f"rename {target.name}")
        super().rename(source, target)


def test_what_is_published_is_synced_in_the_log_first(books: Books) -> None:
    books.append(STREAM, requested(), indexed("a"))
    disk = OrderedDisk()
    Publisher(books.log, books.root, None, disk).publish(STREAM)
    assert disk.calls == [
        "sync events.jsonl",
        "sync .run_request.json.new",
        "rename run_request.json",
        "sync .artifacts.json.new",
        "rename artifacts.json",
        "sync .run_record.json.new",
        "rename run_record.json",
    ]


def test_processes_that_append_and_publish_at_once_leave_the_newest_files(books: Books, figure: Figure) -> None:
    count, each = 6, 15
    books.change(RUN, requested())
    ready = context.Barrier(count)
    processes = [
        context.Process(target=publishers.append_and_publish, args=(books.root, f"p{n}", each, ready), daemon=True)
        for n in range(count)
    ]
    for process in processes:
        process.start()
    path, seen = run_record_path(books.root, RUN), 0
    while any(process.is_alive() for process in processes):
        seq = json.loads(path.read_bytes())["as_of"]["seq"]
        assert seq >= seen, "an older file took the place of a newer one"
        seen = seq
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert read_record(books.root, RUN), "the last file is not that of the head"
    assert set(checked(books).values()) == {"same"}
    figure(f"{count} processes, {count * each} appends and publishes of one run, no older file after a newer one")


def test_a_publisher_killed_at_any_moment_leaves_whole_files(books: Books, figure: Figure) -> None:
    books.change(RUN, requested())
    path, stale = run_record_path(books.root, RUN), 0
    for number in range(KILLS):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=publishers.publish_until_killed, args=(books.root, theirs), daemon=True)
        process.start()
        theirs.close()
        mine.recv()
        for _ in range(number * 400):
            pass  # Another moment within the next publish each time.
        process.kill()
        process.join()
        told = 0
        try:
            while True:
                told = mine.recv()
        except EOFError:
            mine.close()
        document = json.loads(path.read_bytes())
        assert document["as_of"]["seq"] >= told, "a file that was published is gone"
        if read_record(books.root, RUN) is None:
            stale += 1
            books.publisher.publish(STREAM)
            assert read_record(books.root, RUN)
    figure(f"{KILLS} kills, {stale} left an older file, none a broken one")


def test_a_publisher_waits_for_whoever_appends(books: Books) -> None:
    books.append(STREAM, requested())
    with quiet(books.log.path(STREAM), 1.0), pytest.raises(Locked):
        FileLog(StateLayout(books.root), lock_limit_s=0.05).append(STREAM, [started().recorded_by("a", "cli")])
    with quiet(books.root / "none", 1.0) as fd:
        assert fd is None


def test_a_file_that_cannot_be_written_is_named_and_the_log_has_everything(books: Books) -> None:
    path = run_record_path(books.root, RUN)
    path.mkdir(parents=True)
    books.append(STREAM, requested())
    with pytest.raises(NotPublished, match=r"run_record\.json cannot be written .*rebuilt"):
        books.publisher.publish(STREAM)
    assert status(books.publisher.run(RUN)) == "requested"
    path.rmdir()
    books.publisher.publish(STREAM)
    assert read_record(books.root, RUN)


def test_a_fresh_record_is_given_and_any_other_is_not(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_record_path(books.root, RUN)
    assert read_record(books.root, RUN) is None, "missing"
    finished(books)
    whole = path.read_bytes()
    assert (read_record(books.root, RUN) or {})["status"] == "completed"
    for spoilt in (b"", whole[: len(whole) // 2], b"[]", b"{}", b'{"as_of": 3}', b"\xff", b"[" * 100_000):
        path.write_bytes(spoilt)
        assert read_record(books.root, RUN) is None, spoilt[:10]
    for change in ({"seq": 5}, {"h": "A" * 43}, {"h": 5}, {"seq": "6"}, {"fold": 99}):
        document = json.loads(whole)
        path.write_text(json.dumps(document | {"as_of": document["as_of"] | change}))
        assert read_record(books.root, RUN) is None, change
    path.write_bytes(whole)
    assert read_record(books.root, RUN)
    monkeypatch.setattr(fresh, "RUN_FOLD", 2)
    assert read_record(books.root, RUN) is None, "written by another fold"
    monkeypatch.undo()
    books.append(STREAM, r.AnomalySeen(what="w", message="m"))
    assert read_record(books.root, RUN) is None, "the log has gone on"
    with pytest.raises(Invalid):
        read_record(books.root, "../evil")


def test_a_damaged_log_makes_no_record_fresh(books: Books) -> None:
    finished(books)
    log = books.log.path(STREAM)
    log.write_bytes(log.read_bytes()[:-50] + b"x" * 50)
    assert read_record(books.root, RUN) is None
    with pytest.raises(Corrupt):
        Publisher(books.log, books.root).run(RUN)


def test_artifacts_are_fresh_when_their_neighbour_says_so_and_they_are_all_there(books: Books) -> None:
    books.change(RUN, requested())
    assert read_artifacts(books.root, RUN) == []
    books.change(RUN, indexed("a", "b"))
    assert [file["name"] for file in read_artifacts(books.root, RUN) or []] == ["a", "b"]
    path = run_path(books.root, RUN) / "artifacts.json"
    for spoilt in (b"", b"{}", b"[]"):
        path.write_bytes(spoilt)
        assert read_artifacts(books.root, RUN) is None
    books.append(STREAM, indexed())
    assert read_artifacts(books.root, RUN) is None


def test_the_cluster_is_read_the_same_way(books: Books) -> None:
    assert read_cluster(books.root) is None
    books.append(CLUSTER, *CLUSTER_EVENTS[:2])
    books.publisher.publish(CLUSTER)
    assert (read_cluster(books.root) or {})["status"] == "active"
    books.append(CLUSTER, CLUSTER_EVENTS[6])
    assert read_cluster(books.root) is None
    assert books.publisher.cluster().status == "stopped"


@pytest.mark.parametrize("module", ["projections.fresh", "projections.index"])
def test_reading_a_fresh_record_needs_no_pydantic(books: Books, module: str) -> None:
    finished(books)
    ask = {
        "projections.fresh": "from projections.fresh import read_record; assert read_record(root, sys.argv[2])",
        "projections.index": (
            "from projections.index import Index, Selection; assert Index(root).list(Selection(limit=50))"
        ),
    }
    books.index.list()
    program = f"import sys, pathlib; root = pathlib.Path(sys.argv[1]); {ask[module]}; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", program, str(books.root), RUN]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    loaded = set(done.stdout.split())
    assert module in loaded, done.stderr
    assert not loaded & {"pydantic", "ray", "watchfiles", "rich", "typer", "asyncio", "projections.run_record"}


def test_stamps_vouch_for_what_was_published_and_tolerate_anything(books: Books) -> None:
    told = stamps(books.root)
    assert told(STREAM) is None
    finished(books)
    assert told(STREAM) == books.head()
    assert told(CLUSTER) is None
    assert told("resources") is None
    for spoilt in (b"", b"null", b'{"as_of": {"seq": 1, "h": "short", "fold": 1}}', b'{"as_of": {"seq": -1}}'):
        run_record_path(books.root, RUN).write_bytes(spoilt)
        assert told(STREAM) is None


def test_a_log_that_was_cut_behind_what_was_published_is_corrupt_and_not_torn(books: Books) -> None:
    finished(books)
    log = books.log.path(STREAM)
    books.log.close()
    log.write_bytes(log.read_bytes()[:-10])
    with pytest.raises(Corrupt):
        Books(books.root).append(STREAM, r.AnomalySeen(what="w", message="m"))
    assert not list(books.root.rglob("*.torn-*"))


def test_rebuild_says_of_each_file_what_it_was(books: Books) -> None:
    finished(books)
    directory = run_path(books.root, RUN)
    whole = {name: (directory / name).read_bytes() for name in FILES}
    assert checked(books) == dict.fromkeys(FILES, "same")

    (directory / "run_request.json").unlink()
    (directory / "run_record.json").write_bytes(whole["run_record.json"].replace(b'"completed"', b'"failed"', 1))
    (directory / "artifacts.json").write_bytes(b"")
    assert checked(books) == {"run_request.json": "missing", "run_record.json": "edited", "artifacts.json": "stale"}
    assert not (directory / "run_request.json").exists(), "a check wrote"
    written = {Path(verdict.path).name: verdict for verdict in rebuild(books.log, books.root, disk=unsynced())}
    assert {verdict.state for verdict in written.values()} == {"written"}
    assert written["run_record.json"].why.startswith("edited: ")
    assert {name: (directory / name).read_bytes() for name in FILES} == whole

    books.append(STREAM, indexed("b.txt"))
    assert checked(books) == {"run_request.json": "same", "run_record.json": "stale", "artifacts.json": "stale"}
    books.publisher.publish(STREAM)
    document = read_document(directory / "run_record.json") or {}
    (directory / "run_record.json").write_text(json.dumps({**document, "as_of": {**document["as_of"], "fold": 0}}))
    assert checked(books)["run_record.json"] == "other_fold"


def test_rebuild_names_what_no_log_explains_and_removes_nothing(books: Books) -> None:
    books.change(RUN, requested())
    stray = [
        run_path(books.root, RUN) / "artifacts.json",
        run_path(books.root, "old-run") / "run_record.json",
        books.root / "cluster" / "bootstrap.json",
    ]
    for path in stray:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    verdicts = list(rebuild(books.log, books.root, disk=unsynced()))
    assert {books.root / verdict.path for verdict in verdicts if verdict.state == "orphan"} == set(stray)
    assert all(path.read_text() == "[]" for path in stray)


def test_a_sick_log_is_named_and_the_others_go_on(books: Books) -> None:
    for name in ("a", "b", "c"):
        finished(books, name)
    books.log.close()
    log = books.log.path(run_stream("b"))
    log.write_bytes(log.read_bytes().replace(b"turn", b"tarn").replace(b"ada@lab", b"eve@lab", 1))
    unknown = type(requested().recorded_by("x", "cli"))("run.teleported", {}, "x", "cli")
    books.log.append(run_stream("c"), [unknown])
    before = books.content()
    verdicts = list(rebuild(books.log, books.root, disk=unsynced()))
    sick = {verdict.path: verdict.why for verdict in verdicts if verdict.state == "sick"}
    assert list(sick) == ["runs/b/events.jsonl", "runs/c/events.jsonl"]
    assert "line 1" in sick["runs/b/events.jsonl"]
    assert "run.teleported" in sick["runs/c/events.jsonl"]
    assert [verdict.state for verdict in verdicts if verdict.path.startswith("runs/a/")] == ["same"] * 3
    assert books.content() == before


def test_streams_are_found_in_order_and_what_is_not_ours_is_passed_over(books: Books) -> None:
    for name in ("b", "a", "a.b"):
        books.change(name, requested(name))
    for stream in ("resources", "ledger", "submissions"):
        books.log.append(stream, [requested().recorded_by("a", "cli")])
    books.append(CLUSTER, CLUSTER_EVENTS[0])
    runs = books.root / "runs"
    (runs / "empty").mkdir()
    (runs / "torn").mkdir()
    (runs / "torn" / "events.jsonl").touch()
    (runs / ".hidden").mkdir()
    (runs / "a file").touch()
    (runs / "link").symlink_to(runs / "a")
    expected = [CLUSTER, "ledger", "resources", "run/a", "run/a.b", "run/b", "submissions"]
    assert list(books.log.streams()) == expected == sorted(expected, key=lambda stream: stream.split("/"))
    assert list(StateLayout(books.root / "none").streams()) == []


def test_all_events_of_a_run_can_be_recorded_and_read_again(books: Books) -> None:
    for event in RUN_EVENTS:
        books.change(RUN, event)
    checkpoints = sum(event.type == "log.checkpoint" for event in books.log.read(STREAM))
    assert books.head() == Head(len(RUN_EVENTS) - 1 + checkpoints, books.head().h)
    assert {event.type for event in books.log.read(STREAM)} == {event.type for event in RUN_EVENTS}
    assert read_record(books.root, RUN)
