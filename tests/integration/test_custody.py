"""Is it noticed when a run is deleted, cut or replaced, and is nothing more recorded of a sealed one?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventlog import Append, KeyReused, NewEvent
from merlin_es.deciders import observation
from merlin_es.deciders.observation import Decision
from merlin_es.deciders.run import seal
from merlin_es.errors import NotFound, Refused
from projections.events import run as r
from projections.events.ledger import HeadNoted
from projections.layout import LEDGER, run_stream
from projections.projection import run_json
from tests.custody import Archive
from tests.looks import job, look
from tests.run_examples import RUN, completed, intended, requested, started, submitted, the_run_after


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "state")


def noted(archive: Archive) -> list[str]:
    return [str(event.data["run_id"]) for event in archive.log.read(LEDGER) if event.type == "run.head_noted"]


def test_the_registry_has_the_head_of_every_run_that_ended_and_of_no_other(archive: Archive) -> None:
    head = archive.ended("a")
    archive.record("b", requested("b"))
    assert next(archive.log.read(LEDGER)).type == "ledger.created"
    [note] = [event for event in archive.log.read(LEDGER) if event.type == "run.head_noted"]
    assert note.data == {"run_id": "a", "seq": head.seq, "h": head.h, "status": "completed"}
    assert archive.states() == {"ledger": "whole", "run/a": "whole", "run/b": "whole"}


def test_a_head_is_noted_once_whoever_notes_it_again(archive: Archive) -> None:
    head = archive.ended("a")
    archive.ledger.registry.note("a", head, "completed")
    assert archive.ledger.registry.note_missing() == 0
    assert noted(archive) == ["a"]
    archive.record("a", r.AnomalySeen(what="alive_after_end", message="m"))
    assert noted(archive) == ["a", "a"], "what comes after the end moves the head"


@pytest.mark.parametrize("failpoint", ["append.after:2", "publish.after:2", "note.before"])
def test_a_writer_killed_before_it_notes_leaves_a_run_that_the_next_pass_notes(
    archive: Archive, failpoint: str
) -> None:
    assert archive.killed(failpoint, *archive.dry_run())
    [run_id] = [stream.removeprefix("run/") for stream in archive.log.streams() if stream.startswith("run/")]
    assert noted(archive) == []
    assert archive.cli("reconcile", "--once").returncode == 6, "there is no cluster"
    assert noted(archive) == [run_id]
    assert archive.cli("reconcile", "--once").returncode == 6
    assert noted(archive) == [run_id]


def test_an_index_made_anew_is_compared_with_the_registry_once(archive: Archive) -> None:
    for name in "abc":
        archive.ended(name)
    (archive.root / "index.sqlite").unlink()
    archive.open()
    assert len(archive.ledger.index.to_note(10)) == 3
    assert archive.ledger.registry.note_missing() == 0
    assert archive.ledger.index.to_note(10) == ()
    assert noted(archive) == ["a", "b", "c"]


def test_a_registry_that_cannot_be_written_is_not_in_the_way_of_a_run(archive: Archive) -> None:
    (archive.root / "ledger").mkdir(parents=True)
    (archive.root / "ledger" / "events.jsonl").write_text("this is no log\n")
    archive.ended("a")
    assert archive.ledger.run("a").status == "completed"
    assert archive.states() == {"ledger": "corrupt", "run/a": "whole"}
    assert archive.cli("verify").returncode == 7


def test_a_run_that_was_deleted_is_named(archive: Archive) -> None:
    head = archive.ended("a")
    archive.ended("b")
    shutil.rmtree(archive.root / "runs" / "a")
    done = archive.cli("verify", "--all")
    assert done.returncode == 7, done.stderr
    assert "missing   run/a  noted at" in done.stdout
    assert f"it ended as completed at {head}, and its log" in done.stdout
    assert archive.cli("verify", "a").returncode == 7


def test_a_run_that_was_replaced_by_another_whole_log_is_named(archive: Archive, tmp_path: Path) -> None:
    archive.ended("a")
    other = Archive(tmp_path / "other")
    other.ended("a", target="venus")
    archive.log.close()
    shutil.copytree(other.root / "runs" / "a", archive.root / "runs" / "a", dirs_exist_ok=True)
    assert archive.states() == {"ledger": "whole", "run/a": "replaced"}
    longer = Archive(tmp_path / "longer")
    longer.ended("a", *[r.AnomalySeen(what="w", message="m")] * 20)
    shutil.copytree(longer.root / "runs" / "a", archive.root / "runs" / "a", dirs_exist_ok=True)
    assert archive.states() == {"ledger": "whole", "run/a": "replaced"}
    archive.open()
    archive.record("a", r.AnomalySeen(what="w", message="m"))
    assert noted(archive) == ["a", "a"]
    assert archive.states() == {"ledger": "whole", "run/a": "replaced"}, "a new note does not make it right"


@pytest.mark.parametrize("with_files", [True, False])
def test_a_run_that_was_cut_back_to_an_earlier_head_is_named(archive: Archive, with_files: bool) -> None:
    archive.ended("a")
    archive.log.close()
    lines = archive.path("a").read_bytes().splitlines(keepends=True)
    archive.path("a").write_bytes(b"".join(lines[:3]))
    if not with_files:
        for path in archive.path("a").parent.glob("*.json"):
            path.unlink()
    assert archive.states() == {"ledger": "whole", "run/a": "truncated"}


def test_an_edited_line_is_named(archive: Archive) -> None:
    archive.ended("a")
    path = archive.path("a")
    path.write_bytes(path.read_bytes().replace(b"ada@lab", b"eve@lab", 1))
    done = archive.cli("verify", "a", "-o", "json")
    [proof] = json.loads(done.stdout)
    assert (done.returncode, proof["state"]) == (7, "corrupt")
    assert proof["why"].startswith("line 1 (byte 0) of ")


def test_the_registry_itself_is_proved_by_a_head_that_was_noted_elsewhere(archive: Archive) -> None:
    archive.ended("a")
    archive.ended("b")
    head = archive.cli("head", "ledger").stdout.strip()
    assert archive.cli("verify", "ledger", "--expect", head).returncode == 0
    archive.log.close()
    path = archive.log.path(LEDGER)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    shutil.rmtree(archive.root / "runs" / "b")
    assert archive.cli("verify", "--all").returncode == 0, "whoever takes both away is not seen from inside"
    assert archive.cli("verify", "ledger", "--expect", head).returncode == 7


def test_a_torn_tail_is_no_damage(archive: Archive) -> None:
    archive.ended("a")
    with archive.path("a").open("ab") as file:
        file.write(b'{"v":1,"seq":8,"id":"0')
    done = archive.cli("verify", "a")
    assert (done.returncode, done.stdout.split()[0]) == (0, "torn")


def test_a_head_is_that_of_a_run_or_a_stream(archive: Archive) -> None:
    head = archive.ended("a")
    assert archive.cli("head", "a").stdout == archive.cli("head", "run/a").stdout == f"{head}\n"
    assert json.loads(archive.cli("head", "a", "-o", "json").stdout) == {
        "stream": "run/a",
        "seq": head.seq,
        "h": head.h,
    }
    for name in ("b", "run/b", "../a", "x/y", "", "resources"):
        with pytest.raises(NotFound, match="verify --all"):
            archive.custody.head(name)
    assert archive.cli("head", "b").returncode == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a", "--all"), "not both"),
        (("--expect", "1:x"), "name the run or the stream"),
        (("a", "--expect", "1:x"), "as `merlin ray head RUN` prints it"),
    ],
)
def test_wrong_usage_of_verify_says_what_to_give(archive: Archive, words: tuple[str, ...], says: str) -> None:
    archive.ended("a")
    done = archive.cli("verify", *words)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_a_run_that_has_ended_is_sealed_once() -> None:
    ended = the_run_after(requested(), intended(), submitted(), completed())
    assert seal("why", ended) == (r.RunSealed(reason="why"),)
    sealed = the_run_after(requested(), intended(), submitted(), completed(), r.RunSealed())
    assert seal("why", sealed) == ()


def test_a_run_that_may_go_on_is_not_sealed() -> None:
    with pytest.raises(Refused, match="is running, and more is to come of it"):
        seal("", the_run_after(requested(), intended(), submitted(), started()))


def test_the_file_says_when_a_run_was_sealed_and_else_nothing_of_it() -> None:
    record = the_run_after(requested(), completed())
    assert "sealed_at" not in run_json(record)
    assert run_json(the_run_after(requested(), completed(), r.RunSealed()))["sealed_at"]


def test_nothing_more_is_recorded_of_a_sealed_run(archive: Archive) -> None:
    archive.ended("a")
    done = archive.cli("seal", "a", "--reason", "handed to the customer")
    assert (done.returncode, "Sealed: " in done.stdout) == (0, True), done.stderr
    head = archive.log.head(run_stream("a"))
    assert archive.cli("seal", "a").returncode == 0
    with pytest.raises(Refused, match=r"was sealed at .* nothing more is recorded of it"):
        archive.record("a", r.AnomalySeen(what="w", message="m"))
    assert archive.cli("artifacts", "index", "a").returncode == 4
    assert archive.log.head(run_stream("a")) == head
    assert archive.states(fold=True) == {"ledger": "whole", "run/a": "whole"}
    archive.record("b", requested("b"))
    assert archive.cli("seal", "b").returncode == 4
    assert archive.cli("seal", "c").returncode == 3


def test_a_look_at_a_sealed_run_has_nothing_to_record() -> None:
    ended = (requested(), intended(), submitted(), completed())
    alive = replace(look(100, replace(job("RUNNING"), submission_id=RUN)), seq=None)
    assert observation.decide(the_run_after(*ended), alive).events
    assert observation.decide(the_run_after(*ended, r.RunSealed()), alive) == Decision()


def test_what_was_recorded_behind_a_seal_all_the_same_is_found(archive: Archive) -> None:
    archive.ended("a")
    archive.custody.seal("a")
    archive.log.append(run_stream("a"), [NewEvent("run.anomaly_seen", {"what": "w", "message": "m"}, "eve", "cli")])
    archive.open()
    [_, proof] = archive.custody.verify_all(fold=True)
    assert (proof.state, "it was sealed at seq 8, and seq 10 (run.anomaly_seen)" in proof.why) == ("replaced", True)


def test_one_key_stands_for_one_head(archive: Archive) -> None:
    head = archive.ended("a")
    [_, note] = archive.log.read(LEDGER)
    forged = HeadNoted(run_id="a", seq=head.seq, h="x" * 43, status="completed").recorded_by("eve", "cli")
    assert note.type == forged.type
    [result] = archive.log.commit(LEDGER, [Append((forged,), key=f"head:a:{head.seq}")])
    assert isinstance(result, KeyReused)


def test_verify_counts_the_checkpoints_that_a_replay_has_passed(archive: Archive) -> None:
    archive.ended("a")
    done = archive.cli("verify", "--all", "--fold", "-o", "json")
    proofs = {proof["stream"]: proof for proof in json.loads(done.stdout)}
    assert (done.returncode, proofs["run/a"]["checkpoints"], proofs["ledger"]["checkpoints"]) == (0, 1, None)


def test_every_verb_reads_an_archived_run_as_before(archive: Archive) -> None:
    archive.ended("a")
    archive.ended("b")
    content = archive.path("a").read_bytes()
    questions = [
        ("jobs", "status", "a", "-o", "json"),
        ("jobs", "list", "-o", "json"),
        ("artifacts", "list", "a", "-o", "json"),
        ("head", "a"),
        ("verify", "--all", "--fold", "-o", "json"),
        ("rebuild", "--check", "-o", "json"),
        ("events", "a", "-o", "jsonl"),
        ("events", "-o", "jsonl"),
        ("replay", "a"),
        ("state", "a", "--at", "2"),
        ("diff", "a", "--at", "1", "--at", "3"),
        ("why", "a", "status"),
    ]
    before = [archive.cli(*words) for words in questions]
    done = archive.cli("archive", "a")
    assert (done.returncode, "Size: " in done.stdout) == (0, True), done.stderr
    assert not archive.path("a").exists()
    assert [archive.cli(*words) for words in questions] == before
    (archive.root / "index.sqlite").unlink()
    for path in archive.path("a").parent.glob("*.json"):
        path.unlink()
    assert archive.cli("rebuild").returncode == 0
    assert [archive.cli(*words) for words in questions] == before
    assert archive.cli("unarchive", "a").returncode == 0
    assert archive.path("a").read_bytes() == content
    assert [archive.cli(*words) for words in questions] == before


def test_an_archived_run_takes_nothing_more_and_says_what_to_do(archive: Archive) -> None:
    archive.ended("a")
    archive.record("b", requested("b"))
    archive.custody.archive("a")
    done = archive.cli("seal", "a")
    assert (done.returncode, "`unarchive` it, then repeat" in done.stderr) == (4, True)
    assert archive.cli("archive", "a").returncode == 0, "twice is once"
    assert archive.cli("archive", "b").returncode == 4
    assert archive.cli("archive", "c").returncode == archive.cli("unarchive", "c").returncode == 3
    assert archive.cli("unarchive", "a").returncode == 0
    assert archive.cli("seal", "a").returncode == 0


def test_a_lost_or_spoilt_archive_is_named(archive: Archive) -> None:
    archive.ended("a")
    archive.custody.archive("a")
    path = archive.path("a").with_name("events.jsonl.zst")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert archive.states() == {"ledger": "whole", "run/a": "corrupt"}
    listed = archive.cli("jobs", "list")
    assert (listed.returncode, listed.stdout.splitlines()[1].split()[:2]) == (7, ["a", "completed"])
    assert str(path.with_suffix("")) in listed.stderr
    path.unlink()
    assert archive.states() == {"ledger": "whole", "run/a": "missing"}
