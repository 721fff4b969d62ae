"""Is what the old tool recorded there after an import, whole, once, as it is true, and are the originals untouched?"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import BlobStore
from merlin_es import bootstrap
from merlin_es.custody import Custody
from merlin_es.errors import NotFound, Usage
from merlin_es.old_root import Item, OldRoot
from merlin_es.settings import Settings
from projections.layout import CLUSTER, run_stream
from projections.rebuilding import rebuild
from tests.examples import ROOT, unsynced
from tests.old_roots import RUN, OldState
from tests.words import Typed, typed


class Import:
    """An old state root and a new one, which may be the same directory."""

    def __init__(self, top: Path, *, in_place: bool = False) -> None:
        self.old = OldState(top / "old")
        self.root = self.old.root if in_place else top / "new"
        self.settings = Settings(self.root, top, "ada@lab", sync=False)

    def door(self) -> OldRoot:
        return bootstrap.old_root(self.settings)

    def take_in(self, *, dry_run: bool = False) -> list[Item]:
        return list(self.door().take_in(self.old.root, dry_run=dry_run))

    def skipped(self) -> dict[str, str]:
        return {item.name: item.detail for item in self.take_in() if item.state == "skipped"}

    def record(self, run_id: str = RUN) -> Mapping[str, object]:
        content: Mapping[str, object] = json.loads((self.root / "runs" / run_id / "run_record.json").read_bytes())
        return content

    def types(self, stream: str = f"run/{RUN}") -> list[str]:
        """Give the types of the events of a stream; a checkpoint changes nothing, and has its own test."""
        types = (event.type for event in bootstrap.ledger(self.settings).log.read(stream))
        return [each for each in types if each != "log.checkpoint"]

    def blob(self, digest: str) -> bytes:
        return BlobStore(self.root / "blobs", disk=unsynced()).get(digest)

    def cli(self, *words: str, code: int = 0) -> Typed:
        done = typed("ray", "--state-root", str(self.root), *words, cwd=self.old.work)
        assert done.returncode == code, (words, done)
        return done

    def killed_at(self, failpoint: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self.root), "import", str(self.old.root)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "MERLIN_FAILPOINT": failpoint},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done


@pytest.fixture(params=[False, True], ids=["beside", "in_place"])
def move(tmp_path: Path, request: pytest.FixtureRequest) -> Import:
    return Import(tmp_path, in_place=request.param)


@pytest.fixture
def beside(tmp_path: Path) -> Import:
    return Import(tmp_path)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "error", "dry_run", "blocked"])
def test_what_had_ended_or_was_never_given_to_ray_stays_what_it_was(move: Import, status: str) -> None:
    move.old.run(status=status, message="as it was")
    assert move.take_in() == [Item(f"runs/{RUN}", "imported", status)]
    record = move.record()
    assert (record["status"], record["message"]) == (status, "as it was")
    assert (record["created_at"], record["updated_at"]) == (
        "2025-03-04T05:06:07.890123Z",
        "2025-03-04T05:16:07.000000Z",
    )
    old = move.old.record(status=status)
    kept = ("run_id", "target", "workflow", "source", "command", "workdir", "target_dir", "metadata", "engine")
    assert {name: record[name] for name in kept} == {name: old[name] for name in kept}
    assert record["submission_id"] == old["submission_id"]
    assert move.types() == ["run.imported"]


@pytest.mark.parametrize("status", ["submitted", "running"])
def test_what_was_under_way_is_lost_and_says_how_to_ask_for_it_once_more(move: Import, status: str) -> None:
    move.old.run(status=status)
    assert move.take_in() == [Item(f"runs/{RUN}", "imported", "lost")]
    record = move.record()
    assert record["status"] == "lost"
    assert f"it was {status} when" in str(record["message"])
    assert f"merlin ray jobs status {RUN}" in str(record["message"])
    assert str(record["updated_at"]) > "2026", "lost since now, so it is watched for a while"
    assert record["submission_id"] == RUN


def test_a_request_whose_record_was_never_written_is_a_run_that_ray_may_have_had(move: Import) -> None:
    move.old.write(f"runs/{RUN}/run_request.json", move.old.request())
    assert move.take_in() == [Item(f"runs/{RUN}", "imported", "lost")]
    assert move.record()["submission_id"] == RUN


def test_what_had_ended_closes_with_a_checkpoint_and_is_noted_and_what_is_lost_is_not(beside: Import) -> None:
    beside.old.run()
    lost = "b-20250304050607-00000001"
    beside.old.run(lost, "running")
    beside.take_in()
    books = bootstrap.ledger(beside.settings)
    stream = run_stream(RUN)
    assert [event.type for event in books.log.read(stream)] == ["run.imported", "log.checkpoint"]
    assert [event.type for event in books.log.read(run_stream(lost))] == ["run.imported"]
    assert {name: noted[-1].head for name, noted in books.registry.heads().items()} == {RUN: books.log.head(stream)}
    [proof] = [each for each in Custody(books, beside.root).verify_all(fold=True) if each.stream == stream]
    assert (proof.state, proof.checkpoints) == ("whole", 1)


def test_the_bytes_of_every_original_are_kept_and_the_old_root_is_not_written_to(beside: Import) -> None:
    directory = beside.old.run(status="failed")
    artifacts = beside.old.write(f"runs/{RUN}/artifacts.json", [beside.old.artifact("a.json", b"{}")])
    beside.old.cluster()
    before, stamp = beside.old.content(), beside.old.root.stat().st_mtime_ns
    beside.take_in()
    imported = beside.record()["imported"]
    assert isinstance(imported, dict)
    assert (imported["root"], imported["status"]) == (str(beside.old.root), "failed")
    files = ["run_request.json", "run_record.json", "artifacts.json"]
    assert list(imported["files"]) == files
    for name in files:
        assert beside.blob(imported["files"][name]) == (directory / name).read_bytes()
    [event] = bootstrap.ledger(beside.settings).log.read(CLUSTER)
    [digest] = event.data["files"].values()  # type: ignore[attr-defined]  # JSON
    assert beside.blob(digest) == (beside.old.root / "cluster/bootstrap.json").read_bytes()
    assert artifacts.exists()
    assert (beside.old.content(), beside.old.root.stat().st_mtime_ns) == (before, stamp)


def test_in_place_the_originals_are_kept_before_the_files_are_folded_anew(tmp_path: Path) -> None:
    move = Import(tmp_path, in_place=True)
    directory = move.old.run()
    move.old.cluster("stopped")
    originals = {name: (directory / name).read_bytes() for name in ("run_request.json", "run_record.json")}
    move.take_in()
    digests = move.record()["imported"]["files"]  # type: ignore[index]  # JSON
    for name, content in originals.items():
        assert move.blob(digests[name]) == content
        assert (directory / name).read_bytes() != content, "it is a fold now"
    ledger = bootstrap.ledger(move.settings)
    assert {verdict.state for verdict in rebuild(ledger.log, move.root, check=True)} == {"same"}


def test_twice_is_once(move: Import) -> None:
    move.old.run()
    move.old.run("b-20250304050607-00000001", "running")
    move.old.cluster()
    assert {item.state for item in move.take_in()} == {"imported"}
    before = {path: path.read_bytes() for path in move.root.rglob("*") if path.is_file()}
    assert {item.state for item in move.take_in()} == {"known"}
    assert {path: path.read_bytes() for path in move.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "failpoint", ["import.before", "import.kept", "append.before", "append.after", "publish.after"]
)
def test_an_import_killed_anywhere_is_finished_by_the_next(move: Import, failpoint: str) -> None:
    directory = move.old.run(message="as it was")
    original = (directory / "run_record.json").read_bytes()
    move.killed_at(failpoint)
    move.cli("import", str(move.old.root))
    assert move.types() == ["run.imported"]
    assert (move.record()["status"], move.record()["message"]) == ("completed", "as it was")
    assert "as_of" in move.record()
    assert move.blob(hashlib.sha256(original).hexdigest()) == original


def test_a_dry_run_says_what_would_come_and_writes_nothing(beside: Import) -> None:
    beside.old.run(status="running")
    beside.old.cluster("active")
    assert [item.detail for item in beside.take_in(dry_run=True)] == ["active", "lost"]
    assert not beside.root.exists()


BROKEN: Mapping[str, tuple[Callable[[OldState], object], str]] = {
    "half": (lambda old: old.write(f"runs/{RUN}/run_record.json", b'{"run_id": "sat'), "only half of it"),
    "empty": (lambda old: old.write(f"runs/{RUN}/run_record.json", b""), "it is empty"),
    "binary": (lambda old: old.write(f"runs/{RUN}/run_record.json", b"\x80\x00\xff" * 999), "not JSON"),
    "deep": (lambda old: old.write(f"runs/{RUN}/run_record.json", b"[" * 100_000), "not what that tool writes"),
    "deep inside": (
        lambda old: old.write(f"runs/{RUN}/run_record.json", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "nested deeper|only half",
    ),
    "list": (lambda old: old.write(f"runs/{RUN}/run_record.json", []), "not what that tool writes"),
    "status": (lambda old: old.run(status="dancing"), "not what that tool writes"),
    "command": (lambda old: old.run(command="make all"), "not what that tool writes"),
    "other run": (lambda old: old.run(run_id_in_it="x") and old.write(
        f"runs/{RUN}/run_record.json", old.record("other-20250304050607-00000000")), "it is of the run other"),
    "submission id": (lambda old: old.run(submission_id="../../../victim"), "can be none"),
    "surrogate": (lambda old: old.write(f"runs/{RUN}/run_record.json", b'{"run_id": "\\udc80"}'), "not JSON|not what"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_record_that_is_broken_is_named_kept_and_leaves_the_request(move: Import, kind: str) -> None:
    spoil, why = BROKEN[kind]
    move.old.run("good-20250304050607-00000001")
    move.old.write(f"runs/{RUN}/run_request.json", move.old.request())
    spoil(move.old)
    content = (move.old.root / "runs" / RUN / "run_record.json").read_bytes()
    items = move.take_in()
    [broken] = [item for item in items if item.state == "skipped"]
    assert broken.name == f"runs/{RUN}/run_record.json"
    assert any(part in broken.detail for part in why.split("|")), broken
    assert [(item.name, item.detail) for item in items if item.state == "imported"] == [
        ("runs/good-20250304050607-00000001", "completed"),
        (f"runs/{RUN}", "lost"),
    ]
    assert move.blob(hashlib.sha256(content).hexdigest()) == content


def test_what_cannot_be_kept_is_not_taken_in_and_stays_where_it_is(move: Import, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(move.old.record()))
    names = ["link", "pipe", "large", "loop"]
    for name in names:
        move.old.write(f"runs/{name}/run_request.json", move.old.request(name))
    runs = move.old.root / "runs"
    (runs / "link" / "run_record.json").symlink_to(secret)
    os.mkfifo(runs / "pipe" / "run_record.json")
    (runs / "loop" / "run_record.json").symlink_to("run_record.json")
    with (runs / "large" / "run_record.json").open("wb") as file:
        file.truncate(33 * 1024 * 1024)
    (runs / "elsewhere").symlink_to(tmp_path)
    skipped = move.skipped()
    assert set(skipped) == {f"runs/{name}/run_record.json" for name in names}
    assert "leads out of the directory" in skipped["runs/link/run_record.json"]
    assert "FIFO" in skipped["runs/pipe/run_record.json"]
    assert "larger than the 32 MiB" in skipped["runs/large/run_record.json"]
    assert (runs / "link" / "run_record.json").is_symlink()
    assert not any((runs / name / "events.jsonl").exists() for name in names)


@pytest.mark.parametrize("name", ["a b", "ü", "-x", "x..y", "x" * 129])
def test_a_directory_whose_name_can_be_no_id_is_named_and_nothing_else_is_stopped(beside: Import, name: str) -> None:
    beside.old.run()
    (beside.old.root / "runs" / name).mkdir()
    assert beside.skipped() == {f"runs/{name}": "its name cannot be the id of a run"}
    assert beside.types() == ["run.imported"]


def test_a_run_of_which_nothing_can_be_read_is_named(beside: Import) -> None:
    (beside.old.root / "runs" / "void").mkdir(parents=True)
    beside.old.write("runs/bad/run_record.json", b"{")
    beside.old.write("runs/when/run_request.json", beside.old.request("when", created_at="yesterday"))
    beside.old.write("runs/where/run_request.json", beside.old.request("where", workdir="", target_dir="out"))
    beside.old.write("runs/huge/run_request.json", beside.old.request("huge", command=["x" * 300_000]))
    skipped = beside.skipped()
    assert skipped["runs/void"] == "there is nothing in it"
    assert skipped["runs/bad"] == "none of its files can be read"
    assert "'yesterday' is no time" in skipped["runs/when"] or "yesterday is no time" in skipped["runs/when"]
    assert "relative" in skipped["runs/where"]
    assert "cannot be recorded" in skipped["runs/huge"]
    assert not list(beside.root.glob("runs/*/events.jsonl"))


def test_what_this_release_has_recorded_is_not_taken_for_old(beside: Import, tmp_path: Path) -> None:
    other = Import(tmp_path / "other", in_place=True)
    other.old.run()
    other.old.cluster()
    other.take_in()
    shutil.copytree(other.root, beside.old.root, dirs_exist_ok=True)
    skipped = beside.skipped()
    assert "it has a log" in skipped[f"runs/{RUN}"]
    assert "it has a log" in skipped["cluster/bootstrap.json"]
    for log in beside.old.root.rglob("events.jsonl"):
        log.unlink()
    skipped = beside.skipped()
    for name in ("run_record.json", "run_request.json"):
        assert "bring that back" in skipped[f"runs/{RUN}/{name}"]
    assert "bring that back" in skipped["cluster/bootstrap.json"]
    assert not (beside.root / "runs").exists()


def test_the_output_that_became_a_message_is_the_output_of_the_run(beside: Import) -> None:
    output = "\x1b[36mJob failed\x1b[0m\n" + "line\n" * 5000
    beside.old.run(status="error", message=output)
    beside.take_in()
    assert beside.types() == ["run.imported", "run.logs_captured"]
    assert len(str(beside.record()["message"])) < 5000
    assert beside.cli("jobs", "logs", RUN).stdout == output


@pytest.mark.parametrize(
    ("old", "new", "managed_by"),
    [
        ("active", "active", "external"),
        ("error", "error", "external"),
        ("stopped", "stopped", "merlin-raycp"),
        ("unavailable", "not_started", "merlin-raycp"),
        ("not_started", "not_started", "merlin-raycp"),
        ("dry_run", "not_started", "merlin-raycp"),
    ],
)
def test_the_cluster_is_what_is_true_of_it_and_nobody_ends_a_head_by_its_record(
    move: Import, old: str, new: str, managed_by: str
) -> None:
    move.old.cluster(old)
    assert move.take_in() == [Item("cluster", "imported", new)]
    record = json.loads((move.root / "cluster/bootstrap.json").read_bytes())
    assert (record["status"], record["managed_by"]) == (new, managed_by)
    assert (record["address"], record["dashboard_url"]) == ("127.0.0.1:6379", "http://127.0.0.1:8265")
    assert record["started_at"] == "2025-03-04T05:06:07.890123Z"
    bootstrap.clusters(move.settings).stop(lambda: None)
    assert not move.types(CLUSTER)[1:] or move.types(CLUSTER)[1:] == ["cluster.stopped"]


def test_a_cluster_whose_address_is_none_is_asked_nothing(beside: Import) -> None:
    beside.old.cluster("active", dashboard_url="file:///etc/passwd")
    assert beside.take_in() == [Item("cluster", "imported", "error")]
    assert "names no job server" in beside.cli("cluster", "status", code=6).stdout


def test_a_state_root_that_has_had_a_cluster_keeps_its_own(beside: Import) -> None:
    beside.old.cluster("stopped")
    beside.take_in()
    before = beside.types(CLUSTER)
    beside.old.cluster("active")
    assert beside.take_in() == [Item("cluster", "known")]
    assert beside.types(CLUSTER) == before


def test_artifacts_are_listed_as_they_were_and_fetched_while_they_are_what_they_were(move: Import) -> None:
    move.old.run()
    entries = [
        move.old.artifact("reports/a.json", b"{}"),
        move.old.artifact("gone.log", kind="log", size_bytes=7),
        move.old.artifact("changed.json", b"[]", size_bytes=99),
        move.old.artifact("later.json", b"[]", created_at="2025-03-04T05:06:07+00:00"),
        move.old.artifact("../../escape", path="/etc/passwd"),
        move.old.artifact("up", path=str(move.old.work / "out" / ".." / "up")),
    ]
    for entry in entries[:3]:
        entry["created_at"] = "2099-01-01T00:00:00+00:00"
    move.old.write(f"runs/{RUN}/artifacts.json", entries)
    assert move.take_in() == [Item(f"runs/{RUN}", "imported", "completed")]
    listed = move.cli("artifacts", "list", RUN).stdout.splitlines()
    assert listed == ["changed.json json 99B", "gone.log log 7B", "later.json json 2B", "reports/a.json json 2B"]
    move.cli("artifacts", "fetch", RUN, "a.json")
    assert (move.old.work / "a.json").read_bytes() == b"{}"
    move.cli("artifacts", "fetch", RUN, "changed.json", code=4)
    move.cli("artifacts", "fetch", RUN, "gone.log", code=3)
    move.cli("artifacts", "fetch", RUN, "passwd", code=3)
    shown = json.loads(move.cli("artifacts", "list", RUN, "-o", "json").stdout)
    assert {each["created_at"] for each in shown} == {"2099-01-01T00:00:00.000000Z"}
    indexed = move.cli("artifacts", "index", RUN).stdout.splitlines()
    assert indexed == ["changed.json json 2B", "later.json json 2B", "reports/a.json json 2B"]


def test_a_file_that_was_written_to_since_it_was_listed_is_not_passed_off_as_the_one_that_was(beside: Import) -> None:
    beside.old.run()
    entry = beside.old.artifact("a.json", b"{}", created_at="2025-03-04T05:06:07+00:00")
    beside.old.write(f"runs/{RUN}/artifacts.json", [entry])
    beside.take_in()
    refused = beside.cli("artifacts", "fetch", RUN, "a.json", code=4).stderr
    assert "a time that nobody noted" in refused


def test_artifacts_that_cannot_be_read_leave_the_run(beside: Import) -> None:
    beside.old.run()
    beside.old.write(f"runs/{RUN}/artifacts.json", [{"name": "x", "size_bytes": -1}])
    assert list(beside.skipped()) == [f"runs/{RUN}/artifacts.json"]
    assert beside.record()["status"] == "completed"


def test_every_verb_works_on_what_was_imported(move: Import) -> None:
    blocked, running = "b-20250304050607-00000001", "r-20250304050607-00000002"
    move.old.run()
    move.old.run(blocked, "blocked", message="start a cluster")
    move.old.run(running, "running")
    done = move.cli("import", str(move.old.root))
    assert done.stdout.splitlines() == [
        f"imported  runs/{blocked}  blocked",
        f"imported  runs/{running}  lost",
        f"imported  runs/{RUN}  completed",
        "3 imported.",
    ]
    status = move.cli("jobs", "status", RUN).stdout.splitlines()
    assert status == [
        f"Run ID: {RUN}",
        "Status: completed",
        "Workflow: targetgen_execute",
        "Target: saturn",
        f"Target dir: {move.old.work}/out",
        f"Submission ID: {RUN}",
    ]
    listed = json.loads(move.cli("jobs", "list", "-o", "json").stdout)
    assert {row["run_id"]: row["status"] for row in listed} == {RUN: "completed", blocked: "blocked", running: "lost"}
    assert {row["created_at"] for row in listed} == {"2025-03-04T05:06:07.890123Z"}
    assert "was not captured" in move.cli("jobs", "logs", RUN, code=3).stderr
    assert "Status: completed" in move.cli("jobs", "cancel", RUN).stdout, "what has ended stays as it ended"
    assert "final" in move.cli("jobs", "retry", RUN, code=4).stderr
    assert "Status: cancelled" in move.cli("jobs", "cancel", running).stdout
    assert "no cluster is in use" in move.cli("jobs", "retry", blocked, code=5).stdout
    assert "Status: cancelled" in move.cli("jobs", "cancel", blocked).stdout
    move.cli("jobs", "wait", RUN)
    assert move.cli("artifacts", "list", RUN).stdout == "No artifacts.\n"
    move.cli("rebuild", "--check")
    move.cli("reconcile", "--once", code=6)


def test_leases_are_held_or_released_as_they_were_and_the_verbs_work_on_them(move: Import) -> None:
    original = move.old.lease().read_bytes()
    move.old.lease("lease-00000000bb", "released", created_at="2025-01-01T00:00:00Z")
    move.old.lease("lease-00000000cc", "released", resource_type="board")
    names = [f"resources/leases/lease-00000000{each}" for each in ("bb", "cc", "aa")]
    assert move.take_in() == [
        Item(names[0], "imported", "released"),
        Item(names[1], "imported", "released"),
        Item(names[2], "imported", "active"),
    ]
    assert {item.state for item in move.take_in()} == {"known"}
    file = json.loads((move.root / "resources/leases/lease-00000000aa.json").read_bytes())
    assert (file["status"], file["owner"], file["liveness"], file["fence"]) == ("active", "ada", "manual", 2)
    assert file["metadata"]["why"] == "bringup"
    assert file["metadata"]["imported_created_at"] == "2025-03-04T05:06:07.890123Z"
    assert move.blob(file["metadata"]["imported_sha256"]) == original
    listed = move.cli("resources", "list", "--all").stdout
    assert "lease-00000000aa firesim_u250 active owner=ada" in listed
    assert "lease-00000000bb firesim_u250 released owner=ada" in listed
    move.cli("resources", "reserve", "firesim_u250", "--owner", "bob", code=13)
    move.cli("resources", "release", "lease-00000000aa", "--owner", "ada")
    assert "Status: active" in move.cli("resources", "reserve", "firesim_u250", "--owner", "bob").stdout
    assert {item.state for item in move.take_in()} == {"known"}, "what was released here is not held again"
    move.cli("rebuild", "--check")


def test_of_two_that_held_one_key_the_older_holds_it_and_the_other_is_named(move: Import) -> None:
    move.old.lease("lease-00000000bb", owner="bob", created_at="2025-01-01T00:00:00Z")
    move.old.lease("lease-00000000aa", owner="ada")
    assert [(item.name[-2:], item.state) for item in move.take_in()] == [("bb", "imported"), ("aa", "skipped")]
    assert "held by bob with lease-00000000bb" in move.skipped()["resources/leases/lease-00000000aa"]
    assert move.types("resources") == ["claim.queued", "lease.granted"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lease-00000000aa", {"lease_id": "lease-00000000bb"}),
        ("lease-00000000aa", {"resource_type": "../../x"}),
        ("lease-00000000aa", {"status": "dancing"}),
        ("lease-00000000aa", {"owner": 3}),
        ("lease-00000000aa", {"created_at": "yesterday"}),
        ("lease-00000000aa", {"metadata": {"x": "y" * 300_000}}),
        ("victim", {"lease_id": "victim"}),
    ],
)
def test_a_lease_that_is_broken_is_named_and_the_others_are_taken_in(
    beside: Import, name: str, changes: dict[str, object]
) -> None:
    beside.old.lease(name, "active", **changes)
    beside.old.lease("lease-00000000cc", resource_type="board")
    beside.old.write("resources/leases/lease-00000000dd.json", b'{"lease_id": "lea')
    skipped = beside.skipped()
    assert {key.removesuffix(".json").rpartition("/")[2] for key in skipped} == {name, "lease-00000000dd"}
    assert beside.types("resources") == ["claim.queued", "lease.granted"]


def test_what_is_no_old_state_root_is_refused_with_what_to_do(beside: Import, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="name the old state root"):
        list(beside.door().take_in(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Usage, match="name the old state root itself"):
        list(beside.door().take_in(tmp_path / "empty"))
    (tmp_path / "file").touch()
    assert "copy it again" in beside.cli("import", str(tmp_path / "file"), code=4).stderr, (
        "it is no exported run either"
    )
    assert "name the old state root" in beside.cli("import", str(tmp_path / "nowhere"), code=3).stderr
    os.mkfifo(tmp_path / "pipe")
    beside.cli("import", str(tmp_path / "pipe"), code=3)


def test_what_was_skipped_is_said_and_is_in_the_exit_code(beside: Import) -> None:
    beside.old.run()
    beside.old.write("runs/bad/run_record.json", b"{")
    done = beside.cli("import", str(beside.old.root), code=4)
    assert "skipped  runs/bad/run_record.json  it is not JSON" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 imported, 2 skipped."
    shown = json.loads(beside.cli("import", str(beside.old.root), "-o", "json", code=4).stdout)
    assert [item["state"] for item in shown] == ["skipped", "skipped", "known"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("run_id", "target", "command", "target_dir", "workdir", "metadata", "created_at", "status", "message",
          "submission_id", "updated_at", "cluster_address", "as_of", "source")  # fmt: skip


@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
    artifacts=JSON,
    bootstrap_file=JSON,
    noise=st.binary(max_size=64),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_an_old_root_stops_the_import_or_writes_elsewhere(
    tmp_path_factory: pytest.TempPathFactory,
    changes: dict[str, object],
    artifacts: object,
    bootstrap_file: object,
    noise: bytes,
) -> None:
    top = tmp_path_factory.mktemp("fuzz")
    move = Import(top)
    move.old.write(f"runs/{RUN}/run_record.json", {**move.old.record(), **changes})
    move.old.write(f"runs/{RUN}/artifacts.json", artifacts)
    move.old.write("runs/noise/run_record.json", noise)
    move.old.write("cluster/bootstrap.json", bootstrap_file)
    before = move.old.content()
    items = move.take_in()
    assert {item.name.partition("/")[0] for item in items} <= {"runs", "cluster"}
    assert move.old.content() == before
    assert {path.name for path in top.iterdir()} <= {"old", "work", "new"}
    assert list((top / "work").rglob("*")) == [top / "work" / "out"]
    assert {item.state for item in move.take_in()} <= {"known", "skipped"}, "twice is once"
