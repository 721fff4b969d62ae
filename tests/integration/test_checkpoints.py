"""Does a replay prove itself against the checkpoints in the logs, and name where a changed fold went another way?"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from eventlog import Event, FileLog
from projections import proving
from projections.events import run as r
from projections.events.recorded import Recorded
from projections.files import Publisher
from projections.layout import CLUSTER, StateLayout, run_stream
from projections.projection import CLUSTER_PROJECTION, RUN_PROJECTION, Projection, RunState
from projections.proving import Divergence, Prover
from projections.rebuilding import rebuild
from tests.examples import ROOT, unsynced
from tests.run_examples import (
    CLUSTER_EVENTS,
    IMPORTED,
    RUN,
    RUN_EVENTS,
    Books,
    cluster_after,
    completed,
    histories,
    indexed,
    intended,
    requested,
    run_after,
    started,
    submitted,
)

STREAM = run_stream(RUN)
GOLDEN = Path(__file__).parent.parent / "golden" / "0.1-checkpoints"
Evolve = Callable[[RunState, Recorded[r.RunEvent]], RunState]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def finished(books: Books) -> None:
    books.change(RUN, requested())
    books.change(RUN, intended(), submitted())
    books.change(RUN, started())
    books.change(RUN, indexed("a.txt"), completed())


def proof(books: Books, stream: str = STREAM, evolve: Evolve | None = None) -> Prover:
    projection: Projection[Any, Any] = CLUSTER_PROJECTION if stream == CLUSTER else RUN_PROJECTION
    projection = replace(projection, evolve=evolve or projection.evolve)
    prover = Prover(projection, stream)
    for step in proving.steps(projection, books.log.read(stream), projection.origin):
        prover.take(*step)
    return prover


def checkpoints(books: Books, stream: str = STREAM) -> list[Event]:
    return [event for event in books.log.read(stream) if event.type == "log.checkpoint"]


def test_the_end_of_a_run_and_its_checkpoint_are_one_append(books: Books) -> None:
    finished(books)
    *_, index, end, last = books.log.read(STREAM)
    assert [index.type, end.type, last.type] == ["run.artifacts_indexed", "run.completed", "log.checkpoint"]
    assert [index.batch, end.batch, last.batch] == ["1/3", "2/3", "3/3"]


def test_a_checkpoint_has_the_digest_of_each_file_as_it_was_right_before(books: Books) -> None:
    finished(books)
    *_, (state, head), _ = RUN_PROJECTION.states(books.log.read(STREAM), RUN_PROJECTION.origin)
    files = RUN_PROJECTION.files(STREAM, state, head)
    [last] = checkpoints(books)
    assert last.seq == head.seq + 1
    assert last.data["files"] == {
        path.rpartition("/")[2]: sha256(content).hexdigest() for path, content in files.items()
    }
    assert last.data["fold"] == RUN_PROJECTION.version


def test_a_checkpoint_changes_nothing_but_the_stamp(books: Books) -> None:
    finished(books)
    (state, head), (after, end) = list(RUN_PROJECTION.states(books.log.read(STREAM), RUN_PROJECTION.origin))[-2:]
    assert state.record
    assert after.record
    assert (replace(after.record, seq=head.seq), after.artifacts) == (state.record, state.artifacts)
    assert (end.seq, after.record.seq) == (head.seq + 1, head.seq + 1)


def test_a_checkpoint_is_no_news_of_a_run_or_the_cluster_whenever_it_is_made() -> None:
    before, after = run_after(requested(), started()), run_after(requested(), started(), RUN_EVENTS[-1])
    assert before
    assert after == replace(before, seq=3)
    assert cluster_after(CLUSTER_EVENTS[1], CLUSTER_EVENTS[-1]) == cluster_after(CLUSTER_EVENTS[1])


def test_exactly_what_ends_a_run_closes_with_a_checkpoint() -> None:
    for event in RUN_EVENTS:
        before = () if event.type == "run.imported" else (requested(), intended(), submitted())
        record = run_after(*before, event)
        assert record
        assert (record.is_terminal or record.sealed_at is not None) == proving.is_due(3, [event]), event.type
    assert not proving.is_due(0, [replace(IMPORTED, status="lost")])


def test_a_stream_that_does_not_end_has_a_checkpoint_every_so_often(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "EVERY", 10)
    for number in range(25):
        books.append(CLUSTER, CLUSTER_EVENTS[number % 10])
    assert [event.seq for event in checkpoints(books, CLUSTER)] == [10, 20]
    assert proof(books, CLUSTER).passed == 2
    again = Publisher(books.log, books.root, books.index, unsynced())  # Which knows no base yet.
    for event in (requested(), *[r.AnomalySeen(what="w", message="m")] * 40):
        _, head = again.fold(STREAM)
        closing = again.closing(STREAM, head, [event])
        books.log.append(STREAM, [event.checked().recorded_by("ada@lab", "cli")], expected=head, closing=closing)
    assert [event.seq for event in checkpoints(books)] == [10, 20, 30, 40]
    assert proof(books).passed == 4


@settings(deadline=None, max_examples=25)
@given(events=histories)
def test_every_replay_proves_itself_whatever_happened(events: list[r.RunEvent]) -> None:
    with tempfile.TemporaryDirectory() as name:
        books = Books(Path(name))
        for event in [requested(), *events]:
            books.append(STREAM, event)
        prover = proof(books)
        assert prover.divergence is None
        assert prover.passed == len(checkpoints(books))


def test_a_repair_between_decision_and_append_is_in_the_checkpoint(books: Books) -> None:
    books.change(RUN, requested())
    books.change(RUN, intended(), submitted(), started())
    with books.log.path(STREAM).open("ab") as file:
        file.write(b'{"v":1,"seq":5,"id":"torn')
    books.change(RUN, completed())
    assert [event.type for event in books.log.read(STREAM)][-3:] == ["log.repaired", "run.completed", "log.checkpoint"]
    assert proof(books).passed == 1
    [last] = checkpoints(books)
    assert len(list(last.data["trail"])) == last.seq - 1  # type: ignore[call-overload]  # it is a list


def forgetting(**fields: Any) -> Evolve:  # noqa: ANN401  those of RunRecord
    """Give a fold in which the end of a run is not what it was."""

    def evolve(state: RunState, recorded: Recorded[r.RunEvent]) -> RunState:
        state = RUN_PROJECTION.evolve(state, recorded)
        if state.record and recorded.event.type == "run.completed":
            return replace(state, record=replace(state.record, **fields))
        return state

    return evolve


def test_a_fold_that_comes_to_something_else_is_found_with_the_first_event_and_the_place(books: Books) -> None:
    finished(books)
    found = proof(books, evolve=forgetting(exit_code=None)).divergence
    assert found == Divergence(6, "run.completed", "run_record.json", "/exit_code", 7, False)
    assert "first at seq 6 (run.completed), in run_record.json#/exit_code" in str(found)
    found = proof(books, evolve=forgetting(message="new text, with = in it")).divergence
    assert found == Divergence(6, "run.completed", "run_record.json", "/message", 7, False)


def test_what_heals_again_before_the_end_is_no_difference_at_the_checkpoint(books: Books) -> None:
    finished(books)

    def evolve(state: RunState, recorded: Recorded[r.RunEvent]) -> RunState:
        state = RUN_PROJECTION.evolve(state, recorded)
        if state.record and recorded.event.type == "run.submitted":
            return replace(state, record=replace(state.record, message="for a moment"))
        return state

    assert proof(books, evolve=evolve).divergence is None


def test_the_first_of_two_changes_is_named_and_not_the_one_that_the_checkpoint_shows(books: Books) -> None:
    finished(books)

    def evolve(state: RunState, recorded: Recorded[r.RunEvent]) -> RunState:
        state = forgetting(exit_code=None)(state, recorded)
        if state.record and recorded.event.type == "run.submitted":
            return replace(state, record=replace(state.record, message="for a moment"))
        return state

    found = proof(books, evolve=evolve).divergence
    assert found
    assert (found.seq, found.pointer) == (3, "/message")


def test_a_field_that_differs_from_the_first_event_on_is_named(books: Books) -> None:
    finished(books)

    def evolve(state: RunState, recorded: Recorded[r.RunEvent]) -> RunState:
        state = RUN_PROJECTION.evolve(state, recorded)
        assert state.record
        return replace(state, record=replace(state.record, request=replace(state.record.request, workflow="other")))

    found = proof(books, evolve=evolve).divergence
    assert found
    assert (found.seq, found.file, found.pointer) == (1, "run_request.json", "/workflow")


def test_a_long_trail_keeps_its_end_and_says_where_it_begins(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "TRAIL_BYTES_MAX", 150)
    finished(books)
    [last] = checkpoints(books)
    assert 1 < int(str(last.data["trail_from"])) <= 6
    assert proof(books, evolve=forgetting(exit_code=None)).divergence == Divergence(
        6, "run.completed", "run_record.json", "/exit_code", 7, False
    )
    monkeypatch.setattr(proving, "TRAIL_BYTES_MAX", 0)
    books.change("other", requested("other"), intended(), completed())
    prover = Prover(replace(RUN_PROJECTION, evolve=forgetting(exit_code=None)), run_stream("other"))
    for step in proving.steps(prover._projection, books.log.read(run_stream("other")), RUN_PROJECTION.origin):
        prover.take(*step)
    assert prover.divergence == Divergence(3, "run.completed", "", "", 4, False)
    assert "at or before seq 3" in str(prover.divergence)


def test_another_version_of_the_fold_may_come_to_something_else(books: Books) -> None:
    finished(books)
    projection = replace(RUN_PROJECTION, version=99, evolve=forgetting(exit_code=None))
    prover = Prover(projection, STREAM)
    for step in proving.steps(projection, books.log.read(STREAM), projection.origin):
        prover.take(*step)
    assert prover.divergence
    assert prover.divergence.is_of_other_fold


BREAK_ONE_LINE = """
import sys
from projections import run_record

real = run_record._ended

def broken(record, event, time):
    record = real(record, event, time)
    return run_record.replace(record, exit_code=None)  # The line that somebody has changed.

run_record._ended = broken
from merlin_es.cli import main
main()
"""


def test_a_rebuild_with_one_line_of_a_fold_changed_names_the_event_and_the_place(books: Books) -> None:
    finished(books)
    words = ["ray", "--state-root", str(books.root), "rebuild", "--check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BREAK_ONE_LINE, *words, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 4, done.stderr
    assert f"diverged  runs/{RUN}/events.jsonl  " in done.stdout
    assert "first at seq 6 (run.completed), in run_record.json#/exit_code" in done.stdout
    assert "    replace  /exit_code  null" in done.stdout
    verdicts = {Path(each["path"]).name: each for each in json.loads(run("-o", "json").stdout)}
    assert {name: each["state"] for name, each in verdicts.items()} == {
        "run_request.json": "same",
        "artifacts.json": "same",
        "run_record.json": "edited",
        "events.jsonl": "diverged",
    }
    assert verdicts["run_record.json"]["patch"] == [{"op": "replace", "path": "/exit_code", "value": None}]


def write_golden(root: Path) -> None:
    """Write the golden checkpoints of 0.1: a run that has ended and is sealed, at fixed times and with fixed ids."""
    seconds, numbers = itertools.count(), itertools.count(1)
    log = FileLog(
        StateLayout(root),
        disk=unsynced(),
        clock=lambda: 1795418031_123_456_789 + next(seconds) * 10**9,
        new_id=lambda: f"019ab0c0-0000-7000-8000-{next(numbers):012x}",
    )
    publisher = Publisher(log, root, disk=unsynced())
    for events in ([requested()], [intended(), submitted()], [started()], [indexed("a"), completed()], [r.RunSealed()]):
        _, head = publisher.fold(STREAM)
        closing = publisher.closing(STREAM, head, events)
        log.append(
            STREAM, [event.checked().recorded_by("ada@lab3", "cli", corr=RUN) for event in events], closing=closing
        )
    publisher.publish(STREAM)
    log.close()


def test_golden_checkpoints_prove_what_this_release_folds_and_are_what_it_writes(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    books = Books(tmp_path / "golden")
    assert {verdict.state for verdict in rebuild(books.log, books.root, check=True)} == {"same"}
    assert proof(books).passed == 2
    write_golden(tmp_path / "new")
    assert Books(tmp_path / "new").content() == books.content()
    assert (tmp_path / "new" / "runs" / RUN / "events.jsonl").read_bytes() == books.log.path(STREAM).read_bytes()
