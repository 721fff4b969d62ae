"""Does the doctor find what is wrong, name what mends it, and change nothing unless told to?"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from eventlog import FileLog, NewEvent
from merlin_es import bootstrap, processes, run_ids
from merlin_es.commands import Reserve
from merlin_es.doctor import host, world
from merlin_es.doctor.finding import Finding
from merlin_es.ports import RayJob, RayStatus
from merlin_es.ray_adapter.head_files import temp_dir_for
from merlin_es.redaction import Hidden
from merlin_es.settings import Settings
from merlin_es.vault import Vault
from merlin_es.witness import WitnessFiles
from projections import run_record
from projections.events.ledger import LedgerCreated
from projections.layout import CLUSTER, LEDGER, StateLayout, run_stream
from projections.lease_state import Liveness, Process
from tests.examples import unsynced
from tests.old_roots import OldState
from tests.run_examples import (
    BLOCKED,
    CLUSTER_STARTED,
    RUN,
    Books,
    completed,
    intended,
    lost,
    requested,
    started,
    submitted,
)
from tests.words import typed

OTHER = "saturn-20261123071351-00000002"


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    """Give a directory on a disk: where all is lost when the host restarts, the doctor says so."""
    return disk_path


def live(books: Books) -> None:
    """Have a run live from its request to its end."""
    for event in (requested(), intended(), submitted(), started(), completed()):
        books.change(RUN, event)


class Patient:
    """A state root with two runs, one of which has ended, and a doctor."""

    def __init__(self, top: Path) -> None:
        self.root = top / "state"
        self.settings = Settings(self.root, top, "ada@lab", sync=False)
        books = Books(self.root)
        live(books)
        books.change(OTHER, requested(OTHER))
        books.index.list()
        self.books = books

    def look(self, *, fix: bool = False) -> list[Finding]:
        return list(
            replace(bootstrap.doctor(self.settings), now=lambda: "2099-01-01T00:00:00.000000Z").examine(fix=fix)
        )

    def wrong(self, check: str, *, fix: bool = False) -> list[Finding]:
        return [
            found for found in self.look(fix=fix) if found.check == check and found.severity not in ("fine", "note")
        ]

    def one(self, check: str) -> Finding:
        before = self.content()
        [finding] = self.wrong(check)
        assert self.content() == before, "it only looks"
        assert finding.mend, "it says what mends it"
        return finding

    def log(self, run_id: str = RUN) -> Path:
        return self.root / "runs" / run_id / "events.jsonl"

    def file(self, name: str = "run_record.json", run_id: str = RUN) -> Path:
        return self.root / "runs" / run_id / name

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def test_a_state_root_that_is_well_has_no_finding_and_stays_as_it_is(patient: Patient) -> None:
    before = patient.content()
    found = patient.look()
    assert {finding.severity for finding in found} <= {"fine", "note"}, found
    checks = ("versions", "state root", "locks", "rename", "fsync", "disk space", "permissions", "streams", "clocks")
    assert {*checks, "state files", "index", "ray", "cluster"} <= {finding.check for finding in found}
    assert patient.content() == before


def test_nothing_is_made_where_there_is_no_state_root(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    done = typed("ray", "--state-root", str(tmp_path / "work" / "s"), "doctor", cwd=tmp_path)
    assert done.returncode == 0, done
    assert "not there yet" in done.stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_a_torn_log_is_told_from_a_corrupt_one_and_each_names_its_line(patient: Patient) -> None:
    with patient.log(OTHER).open("ab") as file:
        file.write(b'{"v":1,"seq":2,"id":"')
    torn = patient.one("streams")
    assert torn.severity == "warning"
    assert "torn at line 2" in torn.what
    assert "next append" in torn.mend
    content = patient.log().read_bytes()
    patient.log().write_bytes(content.replace(b'"host":null', b'"host":true', 1))
    torn, corrupt = sorted(patient.wrong("streams"), key=lambda finding: finding.severity, reverse=True)
    assert corrupt.severity == "error"
    assert "corrupt at line 4" in corrupt.what
    assert str(patient.log()) in corrupt.mend


def test_a_log_that_was_cut_or_replaced_behind_what_was_vouched_for_is_found(patient: Patient, tmp_path: Path) -> None:
    lines = patient.log().read_bytes().splitlines(keepends=True)
    patient.log().write_bytes(b"".join(lines[:-1]))
    assert "cut off at line 5" in patient.one("streams").what
    other = Books(tmp_path / "other")
    live(other)
    patient.log().write_bytes((tmp_path / "other/runs" / RUN / "events.jsonl").read_bytes())
    assert "forked at line 6" in patient.one("streams").what


@pytest.mark.parametrize("state", ["missing", "truncated", "replaced"])
def test_a_run_that_was_noted_and_is_gone_cut_or_replaced_is_found(
    patient: Patient, tmp_path: Path, state: str
) -> None:
    books = bootstrap.ledger(patient.settings)
    assert not patient.wrong("registry")
    books.registry.note(RUN, books.log.head(run_stream(RUN)), "completed")
    assert not patient.wrong("registry")
    if state == "missing":
        shutil.rmtree(patient.log().parent)
    elif state == "truncated":
        patient.log().write_bytes(b"".join(patient.log().read_bytes().splitlines(keepends=True)[:-1]))
    else:
        live(Books(tmp_path / "other"))
        patient.log().write_bytes((tmp_path / "other/runs" / RUN / "events.jsonl").read_bytes())
    found = patient.one("registry")
    assert (found.severity, found.mend) == ("error", "merlin ray verify --all")
    assert f"{run_stream(RUN)}: {state}: " in found.what


def test_a_log_that_this_release_cannot_fold_is_named_and_the_others_are_looked_at(patient: Patient) -> None:
    log = FileLog(StateLayout(patient.root), disk=unsynced())
    log.append(CLUSTER, [NewEvent("cluster.teleported", {}, "ada@lab", "cli")])
    found = [finding for finding in patient.look() if finding.severity == "error"]
    assert [finding.check for finding in found] == ["cluster"]
    assert "does not know cluster.teleported" in found[0].what


def test_files_that_are_behind_or_gone_are_written_by_fix_and_edited_ones_are_not(patient: Patient) -> None:
    patient.books.append(run_stream(OTHER), requested(OTHER))
    patient.file("run_request.json", OTHER).unlink()
    assert [finding.mend for finding in patient.wrong("state files")] == ["merlin ray rebuild"] * 2
    edited = patient.file()
    edited.write_bytes(edited.read_bytes().replace(b"completed", b"cancelled", 1))
    patient.file("run_request.json").unlink()
    fixed = [finding.what for finding in patient.wrong("state files", fix=True) if finding.fixed]
    assert len(fixed) == 2
    assert all(OTHER in what for what in fixed)
    left = [finding for finding in patient.wrong("state files") if not finding.fixed]
    assert sorted(finding.what.split(": ")[1].split(",")[0] for finding in left) == ["edited", "missing"]
    assert all(RUN in finding.what for finding in left), "nothing beside what somebody has edited is written over"
    assert b"cancelled" in edited.read_bytes()


def test_a_file_of_another_fold_is_written_by_fix_and_a_fold_that_went_another_way_is_not_mended(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = patient.file()
    whole = path.read_bytes()
    document = json.loads(whole)
    path.write_text(json.dumps({**document, "as_of": {**document["as_of"], "fold": 0}}))
    [fixed] = patient.wrong("state files", fix=True)
    assert ("other_fold" in fixed.what, fixed.fixed, path.read_bytes()) == (True, True, whole)
    ended = run_record._ended
    monkeypatch.setattr(run_record, "_ended", lambda *given: structs.replace(ended(*given), exit_code=None))
    diverged = [found for found in patient.wrong("state files") if "diverged" in found.what]
    assert ["the release that wrote it" in found.mend for found in diverged] == [True]


def test_a_file_of_the_old_tool_and_one_whose_log_is_gone_are_told_apart(patient: Patient, tmp_path: Path) -> None:
    old = OldState(patient.root)
    old.run("old-20250304050607-00000001")
    assert {finding.mend for finding in patient.wrong("state files")} == {f"merlin ray import {patient.root}"}
    patient.log(OTHER).unlink()
    mends = {finding.mend for finding in patient.wrong("state files") if OTHER in finding.what}
    assert all("bring the log back" in mend for mend in mends)
    assert mends


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\1" * 5000, b"", b"nonsense"])
def test_an_index_that_is_no_index_is_found_and_replaced_by_fix(patient: Patient, content: bytes) -> None:
    (patient.root / "index.sqlite").write_bytes(content)
    assert patient.one("index").mend == "merlin ray rebuild"
    [fixed] = patient.wrong("index", fix=True)
    assert fixed.fixed
    assert patient.wrong("index") == []


def test_a_clock_that_went_back_and_one_that_is_ahead_are_told(patient: Patient) -> None:
    times = iter([2_000_000_000, 1_999_990_000, 1_999_990_001])
    log = FileLog(StateLayout(patient.root), disk=unsynced(), clock=lambda: next(times) * 10**9)
    for _ in range(3):
        log.append(LEDGER, [LedgerCreated().recorded_by("ada@lab", "cli")])
    [note] = [finding for finding in patient.look() if finding.check == "clocks"]
    assert note.severity == "note"
    assert "went back by 2:46:40 at line 2" in note.what
    early = replace(bootstrap.doctor(patient.settings), now=lambda: "2026-01-01T00:00:00.000000Z")
    ahead = [finding for finding in early.examine() if finding.check == "clocks" and finding.severity == "warning"]
    assert {finding.what.split(":")[0] for finding in ahead} == {LEDGER, f"run/{RUN}", f"run/{OTHER}"}


def test_a_disk_with_less_room_than_it_takes_is_told_by_what_is_really_free(tmp_path: Path) -> None:
    assert [found.severity for found in host.disk_space(tmp_path, low_bytes=0, least_bytes=0)] == ["fine"]
    assert [found.severity for found in host.disk_space(tmp_path, low_bytes=2**60, least_bytes=0)] == ["warning"]
    assert [found.severity for found in host.disk_space(tmp_path, least_bytes=2**60)] == ["error"]


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user without rights, where we have all of them."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_what_this_user_may_not_write_is_named(patient: Patient, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path.parent) as place:  # That of the test is closed to somebody else.
        Path(place).chmod(0o755)
        root = patient.root.rename(Path(place, "state"))
        log = root / "runs" / RUN / "events.jsonl"
        log.chmod(0o400)
        root.chmod(0o555)
        with somebody_else():
            found = list(host.permissions(root))
            nowhere = list(host.file_system(root))
        root.chmod(0o755)
    assert f"chmod u+rw {log}" in {finding.mend for finding in found}
    assert {finding.severity for finding in found} == {"error"}
    assert [(finding.check, finding.severity) for finding in nowhere] == [("file system", "error")]


def test_a_token_that_others_may_read_is_named(patient: Patient) -> None:
    token = patient.root / "cluster" / "head" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("secret")
    token.chmod(0o644)
    assert patient.one("permissions").mend == f"chmod 600 {token}"
    token.chmod(0o600)
    assert patient.wrong("permissions") == []


def test_a_state_root_that_everybody_can_write_to_is_named(patient: Patient) -> None:
    patient.root.chmod(0o777)
    assert patient.one("state root").mend == f"chmod o-w {patient.root}"


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="there is no file system in memory")
def test_a_state_root_in_memory_is_named() -> None:
    [finding] = [found for found in host.file_system(Path("/dev/shm")) if found.check == "file system"]
    assert "is in memory (tmpfs)" in finding.what
    assert not list(Path("/dev/shm").glob(".doctor-*"))


def test_a_network_file_system_is_named_by_its_kind(tmp_path: Path) -> None:
    assert host.file_system(tmp_path, "ext4")
    assert [found.check for found in host.file_system(tmp_path, "nfs4")][-1] == "file system"


def test_a_head_that_is_gone_is_found_and_nothing_is_recorded_of_the_look(patient: Patient) -> None:
    patient.books.append(CLUSTER, structs.replace(CLUSTER_STARTED, dashboard_url="http://127.0.0.1:9"))
    patient.books.publisher.publish(CLUSTER)
    finding = patient.one("cluster")
    assert finding.severity == "error"
    assert "its head (process 17) is gone" in finding.what
    assert finding.mend == "merlin ray cluster start-local"


def test_processes_of_a_head_that_no_record_names_are_counted(patient: Patient) -> None:
    head = patient.root / "cluster" / "head"
    head.mkdir(parents=True)
    marked = {**os.environ, "MERLIN_HEAD": str(temp_dir_for(head))}
    left = subprocess.Popen(["sleep", "600"], env=marked)  # As what a killed head has left has it.
    try:
        finding = patient.one("cluster")
    finally:
        left.kill()
        left.wait()
    assert "1 processes of a head run here that no record names" in finding.what
    assert finding.mend == "merlin ray cluster stop"


def test_a_lease_whose_holder_is_gone_is_found_without_a_trace_and_put_away_by_fix(patient: Patient) -> None:
    leases = bootstrap.leases(patient.settings)
    gone = subprocess.Popen(["true"])
    identity = processes.identify(gone.pid)
    gone.wait()
    assert identity
    alive = Liveness(process=Process(identity.pid, identity.started, identity.boot_id))
    leases.reserve(Reserve("claim-0000000002", "bob", "", ("u250",)))
    [lease] = leases.reserve(Reserve("claim-0000000001", "ada", "", ("board",), liveness=alive))
    finding = patient.one("leases")
    assert "board is held by ada" in finding.what
    assert "process_gone" in finding.what
    [fixed] = patient.wrong("leases", fix=True)
    assert fixed.fixed
    assert patient.wrong("leases") == []
    state = bootstrap.leases(patient.settings).state()
    assert set(state.leases) == {each.lease_id for each in state.leases.values() if each.key == "u250"}
    assert lease.lease_id not in state.leases
    assert any("nothing but its release" in each.what for each in patient.look() if each.check == "leases"), "in 2099"


def test_a_host_without_ray_is_told(patient: Patient, tmp_path: Path) -> None:
    from merlin_es.errors import RayMissing

    def none() -> Path:
        raise RayMissing("no `ray` beside python")

    found = [
        each for each in replace(bootstrap.doctor(patient.settings), find_ray=none).examine() if each.check == "ray"
    ]
    assert [each.severity for each in found] == ["warning"]


def test_the_verb_prints_80_columns_and_its_exit_code_is_that_of_the_worst(patient: Patient, tmp_path: Path) -> None:
    def doctor(*words: str) -> tuple[int, str]:
        done = typed("ray", "--state-root", str(patient.root), "doctor", *words, cwd=tmp_path)
        return done.returncode, done.stdout

    code, text = doctor()
    assert code == 0, text
    patient.file().unlink()
    code, text = doctor()
    assert code == 4
    lines = text.splitlines()
    assert all(len(line) <= 80 or "/" in line for line in lines)
    assert any(line.startswith("warning  state files  ") for line in lines)
    assert any(line.strip() == "→ merlin ray rebuild" for line in lines)
    assert not patient.file().exists(), "nothing is changed without --fix"
    code, text = doctor("--fix")
    assert (code, patient.file().exists()) == (0, True)
    assert "fixed    state files" in text
    patient.log().write_bytes(patient.log().read_bytes().replace(b"make", b"fake", 1))
    code, text = doctor("-o", "json")
    assert code == 7
    assert {"check", "severity", "what", "mend", "fixed"} == set(json.loads(text)[0])


def test_the_doctor_comes_where_other_verbs_refuse_to_go(patient: Patient, tmp_path: Path) -> None:
    patient.root.chmod(0o777)
    words = ("ray", "--state-root", str(patient.root))
    refused = typed(*words, "jobs", "list", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"chmod o-w {patient.root}" in refused.stderr
    assert typed(*words, "doctor", cwd=tmp_path).returncode == 7
    assert typed(*words, "jobs", "list", cwd=tmp_path, env={"MERLIN_ALLOW_SHARED": "yes"}).returncode == 0


def test_a_lock_that_excludes_nobody_is_found(tmp_path: Path) -> None:
    """The library of this file lies about flock(2), as some network file systems do."""
    (tmp_path / "lie.py").write_text(
        "import fcntl\nfcntl.flock = lambda *_: None\n"
        "from pathlib import Path\nfrom merlin_es.doctor import host\n"
        f"print(*[found.severity for found in host.file_system(Path({str(tmp_path)!r})) if found.check == 'locks'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "lie.py")],
        env={**os.environ, "PYTHONPATH": str(Path(host.__file__).parents[2])},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["error"]


def test_runs_that_stand_still_are_named_with_what_lets_them_go_on(patient: Patient) -> None:
    found = [each for each in patient.look() if each.check == "runs"]
    assert [(each.severity, each.mend) for each in found] == [("note", "merlin ray reconcile"), ("fine", "")]
    patient.books.change(OTHER, BLOCKED)
    gone = RUN[:-1] + "f"
    patient.books.change(gone, requested(gone), intended(), submitted(), lost())
    blocked, missing = (each for each in patient.look() if each.check == "runs")
    assert (blocked.severity, OTHER in blocked.what) == ("note", True)
    assert "reconcile --once --unblock" in blocked.mend
    assert (missing.severity, f"jobs retry {gone}" in missing.mend) == ("note", True)


def test_runs_that_a_loop_follows_are_no_finding(patient: Patient) -> None:
    with (patient.root / "reconciler.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [each.severity for each in patient.look() if each.check == "runs"] == ["fine"]
    assert [each.severity for each in patient.look() if each.check == "runs"] == ["note", "fine"]


def test_secrets_that_are_kept_for_nobody_or_for_everybody_are_found_and_put_right(patient: Patient) -> None:
    vault = Vault(patient.root)
    assert patient.wrong("secrets") == []
    never = RUN[:-1] + "f"
    for run_id in (RUN, OTHER, never):
        vault.put(run_id, Hidden({"A_TOKEN": "x"}))
    vault.path(OTHER).chmod(0o644)
    found = {each.what.split()[0]: each for each in patient.wrong("secrets")}
    assert {path: each.severity for path, each in found.items()} == {
        str(vault.path(RUN)): "warning",
        str(vault.path(OTHER)): "error",
        str(vault.path(never)): "warning",
    }
    assert all(each.fixed for each in patient.look(fix=True) if each.check == "secrets")
    assert patient.wrong("secrets") == []
    assert list(vault.run_ids()) == [OTHER]


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "free space"), (errno.EDQUOT, "quota"), (errno.EROFS, "remount"), (errno.EACCES, "the right to")],
)
def test_where_nothing_can_be_written_it_is_said_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(*_words: object, **_more: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    [found] = host.file_system(tmp_path)
    assert (found.severity, says in found.mend) == ("error", True)


def test_a_job_that_ray_will_never_start_is_told_from_one_that_lives_on(patient: Patient) -> None:
    """A durable head that was killed goes on to say PENDING of what it had queued (Ray 2.60, measured)."""
    ledger = bootstrap.ledger(patient.settings)
    ours = run_ids.ledger_id(ledger.log)

    def said(status: RayStatus) -> list[tuple[str, str]]:
        job = RayJob(RUN, status, "sh", metadata={"merlin_ledger": ours, "merlin_run": RUN})
        server = SimpleNamespace(jobs=lambda: [job])
        return [(found.severity, found.mend) for found in world._jobs(ledger, server)]

    assert said("PENDING") == [("warning", "merlin ray reconcile --once")]
    WitnessFiles(patient.root / "runs").forbid(RUN)
    assert said("PENDING")[0] == ("note", "")
    assert said("RUNNING") == [("warning", "merlin ray reconcile --once")]
