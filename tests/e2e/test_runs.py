"""Does a run end as Ray says, once, with its output and its artifacts, whatever it does?"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from merlin_es import bootstrap
from merlin_es.errors import Blocked, NotFound, Refused
from projections.rebuilding import rebuild
from tests.e2e.lab import Lab, until

pytestmark = pytest.mark.xdist_group("ray")


def test_a_run_is_submitted_at_once_and_ends_with_its_output_and_its_artifacts(lab: Lab) -> None:
    record = lab.submit("sh", "-c", "echo hello; echo '{}' > made.json; echo 'it failed' >&2")
    assert record.status == "submitted"
    assert record.attempt
    assert record.attempt.submission_id == record.run_id
    ended = lab.ended(record.run_id)
    assert (ended.status, ended.exit_code) == ("completed", 0)
    assert b"".join(lab.merlin.output(record.run_id)) == b"hello\nit failed\n"
    assert [(each.name, each.size_bytes) for each in lab.merlin.artifacts(record.run_id)] == [("made.json", 3)]
    types = lab.types(record.run_id)
    assert types[:3] == ["run.requested", "run.submission_started", "run.submitted"]
    assert types[-2:] == ["run.completed", "log.checkpoint"]
    assert types.index("run.logs_captured") < types.index("run.completed"), "the output may be gone when it ended"


def test_a_word_in_the_output_or_the_name_does_not_make_a_status(lab: Lab) -> None:
    record = lab.submit("sh", "-c", "echo SUCCEEDED; exit 1", workflow="succeeded", target="succeeded_probe")
    assert lab.ended(record.run_id).status == "failed"


def test_a_run_without_a_cluster_is_blocked_says_what_to_do_and_can_be_submitted_later(lab: Lab, alone: Lab) -> None:
    blocked = alone.submit(*alone.marked())
    assert blocked.status == "blocked"
    assert "merlin ray cluster start-local" in (blocked.message or "")
    assert alone.merlin.reconcile_once().changed == [], "a blocked run waits for somebody to ask"
    assert lab.url
    bootstrap.clusters(alone.settings).attach(lab.url, "merlin", lab.token)
    assert alone.merlin.retry(blocked.run_id).status == "submitted"
    assert alone.ended(blocked.run_id).status == "completed"
    assert alone.executed() == 1


def test_blocked_runs_are_submitted_by_a_reconciler_that_was_told_to(lab: Lab, alone: Lab) -> None:
    runs = [alone.submit(*alone.marked()).run_id for _ in range(3)]
    assert lab.url
    bootstrap.clusters(alone.settings).attach(lab.url, "merlin", lab.token)
    alone.merlin.reconcile_once(unblock=True)
    assert [alone.ended(run).status for run in runs] == ["completed"] * 3
    assert alone.executed() == 3


def test_a_dry_run_submits_nothing_and_shows_the_entrypoint(alone: Lab) -> None:
    record = alone.merlin.submit(alone.wish("true"), dry_run=True)
    assert record.status == "dry_run"
    assert alone.types(record.run_id) == ["run.requested", "run.dry_run_recorded", "log.checkpoint"]


def test_the_same_idempotency_key_gives_the_same_run_and_one_job(lab: Lab) -> None:
    found: list[str] = []

    def ask() -> None:
        merlin = lab.build()
        found.append(merlin.submit(lab.wish(*lab.marked(), idempotency_key="nightly-1")).run_id)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert lab.ended(found[0]).status == "completed"
    assert lab.executed() == 1
    assert len(lab.jobs()) == 1
    with pytest.raises(Refused, match="was used for another submission"):
        lab.submit("something", "else", idempotency_key="nightly-1")


def test_the_command_gets_its_words_its_directory_and_its_environment(lab: Lab) -> None:
    words = ["a b", "", "-x", "it's", 'q"uote', "$HOME", "ünï\n2"]
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"
    record = lab.submit(sys.executable, "-c", code, *words, env={"BOARD": "x 60"}, traceparent="00-abc-def-01")
    assert lab.ended(record.run_id).status == "completed"
    argv, directory, environment = json.loads(b"".join(lab.merlin.output(record.run_id)))
    assert argv == words
    assert directory == str(lab.work)
    assert environment["BOARD"] == "x 60"
    assert environment["MERLIN_RUN_ID"] == record.run_id
    assert environment["MERLIN_STATE_ROOT"] == str(lab.root)
    assert environment["TRACEPARENT"] == "00-abc-def-01"


def test_a_working_directory_is_uploaded_only_when_asked(lab: Lab) -> None:
    (lab.work / "here.txt").write_text("uploaded")
    record = lab.submit("sh", "-c", "pwd; cat here.txt", working_dir=str(lab.work))
    assert lab.ended(record.run_id).status == "completed"
    directory, content = b"".join(lab.merlin.output(record.run_id)).decode().splitlines()
    assert content == "uploaded"
    assert directory != str(lab.work)


def test_cancelling_ends_the_run_and_twice_is_once(lab: Lab) -> None:
    record = lab.running(lab.submit("sleep", "600").run_id)
    lab.merlin.cancel(record.run_id)
    lab.merlin.cancel(record.run_id)
    ended = lab.ended(record.run_id)
    assert ended.status == "cancelled"
    lab.merlin.cancel(record.run_id)
    assert lab.types(record.run_id).count("run.cancel_requested") == 1
    assert lab.types(record.run_id).count("run.cancelled") == 1


def test_cancelling_what_has_ended_changes_nothing(lab: Lab) -> None:
    record = lab.ended(lab.submit("true").run_id)
    assert lab.merlin.cancel(record.run_id) == record


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(lab: Lab) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    record = lab.running(lab.submit(sys.executable, "-c", code, stop_grace_s=1.0).run_id)
    until(lambda: b"deaf" in b"".join(lab.merlin.output(record.run_id)))
    lab.merlin.cancel(record.run_id)
    assert lab.ended(record.run_id).status == "cancelled"


def test_a_pending_run_is_explained_really_cancelled_and_never_executed(lab: Lab) -> None:
    record = lab.submit(*lab.marked(), cpus=640.0)
    explained = lab.until(record.run_id, lambda known: bool(known.attempt and known.attempt.pending_reason))
    assert explained.attempt
    assert explained.attempt.pending_reason == "no_such_resource"
    assert "wants 640 CPU" in (explained.message or "")
    lab.merlin.cancel(record.run_id)
    ended = lab.ended(record.run_id)
    assert ended.status == "cancelled"
    assert "run.cancel_escalated" in lab.types(record.run_id)
    assert lab.executed() == 0


def test_a_label_that_no_machine_has_is_named(lab: Lab) -> None:
    record = lab.submit("true", label_selector={"board": "vcu118"})
    explained = lab.until(record.run_id, lambda known: bool(known.attempt and known.attempt.pending_reason))
    assert explained.attempt
    assert explained.attempt.pending_reason == "no_such_label"
    lab.merlin.cancel(record.run_id)
    lab.ended(record.run_id)


def test_a_failed_command_is_repeated_only_when_asked(lab: Lab) -> None:
    command = lab.marked(f"test $(wc -l < {lab.work}/executed) = 2")
    once = lab.ended(lab.submit(*command, retries_max=3).run_id)
    assert (once.status, len(once.attempts)) == ("failed", 1)
    (lab.work / "executed").unlink()
    twice = lab.ended(lab.submit(*command, retries_max=3, retry_on_failure=True).run_id)
    assert (twice.status, [attempt.status for attempt in twice.attempts]) == ("completed", ["failed", "completed"])
    assert twice.attempts[1].submission_id == f"{twice.run_id}-a2"
    assert lab.executed() == 2


def test_a_job_that_the_ledger_forgot_is_adopted(lab: Lab) -> None:
    record = lab.submit("sh", "-c", "echo kept; sleep 1")
    shutil.rmtree(lab.root / "runs" / record.run_id)
    merlin = lab.build()
    until(lambda: merlin.reconcile_once() and merlin.ledger.has_run(record.run_id))
    adopted = lab.ended(record.run_id, merlin)
    assert adopted.adopted
    assert adopted.status == "completed"
    assert adopted.request.command == record.request.command
    assert b"".join(merlin.output(record.run_id)) == b"kept\n"


def test_jobs_of_others_are_left_alone(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other", lab.url, lab.token)
    record = other.submit("sleep", "600")
    lab.merlin.reconcile_once()
    assert lab.runs() == []
    other.running(record.run_id)
    other.merlin.cancel(record.run_id)
    assert other.ended(record.run_id).status == "cancelled"


def test_all_state_files_come_back_the_same(lab: Lab) -> None:
    for command in ("true", "false"):
        lab.ended(lab.submit(command).run_id)
    files = [path for path in lab.root.rglob("*.json") if "witness" not in path.parts]
    assert len(files) == 7
    before = {path: path.read_bytes() for path in files}
    for path in [*files, *lab.root.glob("index.sqlite*")]:
        path.unlink()
    assert lab.cli("rebuild").returncode == 0
    assert {path: path.read_bytes() for path in files} == before
    listed = json.loads(lab.cli("jobs", "list", "-o", "json").stdout)
    assert sorted(row["status"] for row in listed) == ["completed", "failed"]
    assert all(verdict.state == "same" for verdict in rebuild(lab.merlin.ledger.log, lab.root, check=True))


def test_a_sick_log_does_not_stop_the_other_runs(lab: Lab) -> None:
    sick, well = (lab.submit("sleep", "1").run_id for _ in range(2))
    path = lab.root / "runs" / sick / "events.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"bringup", b"bringdn", 1))
    merlin = lab.build()
    assert lab.ended(well, merlin).status == "completed"
    assert sick in merlin.reconcile_once().sick
    path.write_bytes(content)
    assert lab.ended(sick, lab.build()).status == "completed"


def test_a_second_reconciler_waits_and_takes_over_when_the_first_is_killed(lab: Lab) -> None:
    argv = [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(lab.root), "reconcile"]
    processes = []
    try:
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    argv, cwd=lab.work, env=lab.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
            )
            first = lab.submit("true")
            until(lambda: lab.build().status(first.run_id, cached=True).is_terminal)  # noqa: B023  used at once
        second = processes[1]
        assert second.stderr
        assert f"process {processes[0].pid} reconciles this state root already" in second.stderr.readline().decode()
        processes[0].kill()
        record = lab.submit("true")
        until(lambda: lab.build().status(record.run_id, cached=True).is_terminal)
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_run_nobody_knows_is_not_found(alone: Lab) -> None:
    with pytest.raises(NotFound, match="merlin ray jobs list"):
        alone.merlin.status("nobody")
    with pytest.raises(NotFound):
        alone.merlin.cancel("../../etc")
    assert Blocked.exit_code == 5
