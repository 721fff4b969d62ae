"""What does a fork begin with, and what is refused?"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from eventlog import BlobStore, FileLog, Head
from merlin_es import bootstrap
from merlin_es.deciders import run as rules
from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.forks import Changes, Forks, fork_of, restore
from merlin_es.settings import Settings
from projections.artifacts import Artifact
from projections.events.run import RunForked
from projections.layout import CLUSTER, StateLayout, run_stream
from tests.past_examples import LIFE, STREAM, log_in, record
from tests.run_examples import CLUSTER_STARTED, RUN, the_run_after

HEAD = "3:" + "A" * 43


@pytest.fixture
def forks(tmp_path: Path) -> Forks:
    """Give a state root with a run that has ended, and no cluster."""
    log = log_in(tmp_path / "s")
    record(log, STREAM, LIFE)
    record(log, CLUSTER, [CLUSTER_STARTED])
    log.close()
    return bootstrap.forks(Settings(tmp_path / "s", tmp_path, "ada@lab", sync=False))


def first_event(forks: Forks, run_id: str) -> dict[str, object]:
    event = next(FileLog(StateLayout(forks.past.root)).read(run_stream(run_id)))
    return {"type": event.type, **event.data}


def test_a_fork_begins_with_what_was_asked_for_then_and_names_the_head_it_goes_on_from(forks: Forks) -> None:
    for seq in (1, 3, 6):
        record = forks.fork(RUN, forks.past.point(STREAM, str(seq)), Changes(), dry_run=True).record
        head = next(event.head for event in forks.past.log.read(STREAM, seq))
        first = first_event(forks, record.run_id)
        assert (first["type"], first["parent"], first["parent_head"]) == ("run.forked", STREAM, str(head))
        assert record.forked_from == f"{STREAM}#{head}"
        parent = the_run_after(*LIFE)  # type: ignore[arg-type]  # they are of a run
        for name in ("target", "workflow", "command", "workdir", "target_dir", "cpus", "metadata"):
            assert getattr(record.request, name) == getattr(parent.request, name), name
        assert record.run_id != RUN


def test_what_is_changed_is_otherwise_and_the_rest_stays(forks: Forks, tmp_path: Path) -> None:
    changes = Changes(command=("true", "täst"), workdir=str(tmp_path), target_dir=str(tmp_path / "new"))
    record = forks.fork(RUN, forks.past.point(STREAM, None), changes, dry_run=True).record
    assert record.request.command == ("true", "täst")
    assert (record.request.workdir, record.request.target_dir) == (str(tmp_path), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists(), "a dry run makes nothing"
    assert record.request.idempotency_key is None


def test_an_answer_to_a_run_that_asks_nothing_is_refused(forks: Forks) -> None:
    with pytest.raises(Usage, match="asks no questions"):
        forks.fork(RUN, forks.past.point(STREAM, None), Changes(answers={"op_1": "retry"}))


def test_what_is_no_run_has_no_forks(forks: Forks) -> None:
    with pytest.raises(NotFound, match="is no run"):
        forks.fork(CLUSTER, forks.past.point(CLUSTER, None), Changes())


def test_asked_twice_a_fork_is_one(forks: Forks) -> None:
    record = forks.fork(RUN, forks.past.point(STREAM, "3"), Changes(), dry_run=True).record
    command = fork_of(the_run_after(*LIFE), Head.parse(HEAD), record.run_id, Changes())  # type: ignore[arg-type]  # of a run
    assert rules.fork(command, record) == ()
    [event] = rules.fork(command, None)
    assert isinstance(event, RunForked)


def seen(name: str, content: bytes, blobs: BlobStore | None = None) -> Artifact:
    digest = hashlib.sha256(content).hexdigest()
    if blobs:
        assert blobs.put(content) == digest
    time = "2026-11-23T07:00:00.000000Z"
    return Artifact(RUN, name, name, "file", len(content), time, digest, time, captured=blobs is not None)


def test_what_was_made_is_brought_back_as_it_was_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    blobs, source, to = BlobStore(tmp_path / "blobs"), tmp_path / "source", tmp_path / "to"
    source.mkdir()
    (source / "there.txt").write_bytes(b"there")
    (source / "changed.txt").write_bytes(b"new")
    artifacts = [
        seen("there.txt", b"there"),
        seen("changed.txt", b"old", blobs),
        seen("a/b/gone.txt", b"deep", blobs),
        seen("lost.txt", b"lost"),
        seen("../out.txt", b"evil", blobs),
        seen("/etc/out.txt", b"evil", blobs),
    ]
    missing = restore(artifacts, source, to, blobs)
    assert set(missing) == {"lost.txt", "../out.txt", "/etc/out.txt"}
    found = {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    assert found == {"there.txt": b"there", "changed.txt": b"old", "a/b/gone.txt": b"deep"}
    assert not (tmp_path / "out.txt").exists()
    with pytest.raises(Refused, match="not empty"):
        restore(artifacts, source, to, blobs)
