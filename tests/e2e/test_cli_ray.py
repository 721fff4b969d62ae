"""What does who types `merlin ray …` see while a real Ray does what is asked, and when it is interrupted?"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from merlin_es import bootstrap, processes
from merlin_es.ports import ProcessId
from merlin_es.ray_adapter.head_files import temp_dir_for
from merlin_es.ray_adapter.heads import head_processes
from projections.cluster import ClusterRecord
from projections.events.cluster import ClusterStarted
from tests.e2e.lab import LIMIT_S, Lab, until

pytestmark = pytest.mark.xdist_group("ray")

SUBMIT = ("jobs", "submit", "--target", "t", "--workflow", "w", "--target-dir", "out", "--cpus", "0.1")


def lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


def submitted(lab: Lab, *command: str, options: tuple[str, ...] = ()) -> str:
    done = lab.cli(*SUBMIT, *options, "--", *command)
    assert done.returncode == 0, done
    return lines(done.stdout)["Run ID"]


@contextmanager
def typed(lab: Lab, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a verb beside the test; it is ended with it."""
    argv = [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(lab.root), *words]
    process = subprocess.Popen(
        argv, cwd=lab.work, env=lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def own(alone: Lab) -> Iterator[Lab]:
    """Give a state root on which a head may be started; none outlives the test, not even where the product fails."""
    yield alone
    while left := head_of(alone):
        for process in left:
            processes.send(process, signal.SIGKILL)
        processes.wait_gone(left, 1)


def head_of(lab: Lab) -> list[ProcessId]:
    return head_processes(temp_dir_for(lab.root / "cluster" / "head"))


def test_a_submission_and_its_end_are_told_in_the_lines_of_old(lab: Lab) -> None:
    done = lab.cli(*SUBMIT, "--command", "sh -c 'mkdir -p out; echo \"a  b\" -x | tee out/f.txt'")
    assert (done.returncode, done.stderr) == (0, "")
    found = lines(done.stdout)
    assert list(found) == ["Run ID", "Status", "Workflow", "Submission ID", "Cluster address"]
    run = found["Run ID"]
    assert (found["Submission ID"], found["Cluster address"]) == (run, lab.url)
    wait = lab.cli("jobs", "wait", run)
    assert (wait.returncode, wait.stdout) == (0, f"Run ID: {run}\nStatus: completed\n")
    status = lab.cli("jobs", "status", run)
    names = ["Run ID", "Status", "Workflow", "Target", "Target dir", "Submission ID", "Exit code"]
    assert list(lines(status.stdout)) == names
    assert lab.cli("jobs", "logs", run).stdout == "a  b -x\n"
    assert lab.cli("artifacts", "list", run).stdout == "f.txt text 8B\n"
    fetched = lab.cli("artifacts", "fetch", run, "f.txt", "--to", "here  it is")
    assert fetched.stdout == "Artifact: f.txt\nPath: here  it is\nSize: 8\n"
    cancelled = lab.cli("jobs", "cancel", run)
    assert (cancelled.returncode, lines(cancelled.stdout)["Status"]) == (0, "completed")
    assert lab.cli("jobs", "retry", run).returncode == 4


def test_waiting_gives_the_output_and_the_outcome_as_the_exit_code(lab: Lab) -> None:
    done = lab.cli(*SUBMIT, "--wait", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stderr) == (8, "")
    head, _, tail = done.stdout.partition("out\nerr\n")
    assert list(lines(head)) == ["Run ID", "Status", "Workflow", "Submission ID", "Cluster address"]
    assert lines(tail)["Status"] == "failed"
    assert lines(tail)["Exit code"] == "3"
    json_ = lab.cli(*SUBMIT, "--wait", "-o", "json", "--", "true")
    assert (json_.returncode, json.loads(json_.stdout)["status"]) == (0, "completed")


def test_output_comes_back_byte_by_byte_whatever_it_is(lab: Lab) -> None:
    code = "import os\nfor i in range(20000): os.write(1, bytes(range(256)) + b'%d\\n' % i)"
    expected = b"".join(bytes(range(256)) + b"%d\n" % number for number in range(20_000))
    run = submitted(lab, sys.executable, "-c", code)
    assert lab.cli("jobs", "wait", run).returncode == 0
    whole: tuple[tuple[str, ...], ...] = (("jobs", "logs"), ("jobs", "logs", "-f"))
    for verb in whole:
        with typed(lab, *verb, run) as process:
            output, errors = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, errors) == (0, b"")
        assert hashlib.sha256(output).digest() == hashlib.sha256(expected).digest()
    for tail in (("--tail=1",), ("--tail=1", "-f")):
        with typed(lab, "jobs", "logs", *tail, run) as process:
            assert process.communicate(timeout=LIMIT_S)[0].endswith(b"\xff19999\n")
    for none in (("--tail=0",), ("--tail=0", "-f")):
        done = lab.cli("jobs", "logs", *none, run)
        assert (done.returncode, done.stdout) == (0, "")


def test_a_reader_of_a_long_output_may_stop_early(lab: Lab) -> None:
    run = submitted(lab, sys.executable, "-c", "for i in range(300000): print(i)")
    assert lab.cli("jobs", "wait", run).returncode == 0
    with typed(lab, "jobs", "logs", run) as process:
        assert process.stdout
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.wait(LIMIT_S) == 0
        assert process.stderr
        assert process.stderr.read() == b""


def test_a_pending_run_has_no_output_yet_and_waiting_for_it_has_a_limit(lab: Lab) -> None:
    run = submitted(lab, "true", options=("--cpus", "640"))
    try:
        logs = lab.cli("jobs", "logs", run)
        assert (logs.returncode, logs.stdout) == (0, "")
        until(lambda: "wants 640 CPU" in lab.cli("jobs", "status", run).stdout)
        for limit in ("0", "0.5"):
            wait = lab.cli("jobs", "wait", "-t", limit, run)
            assert (wait.returncode, lines(wait.stdout)["Status"]) == (12, "submitted")
    finally:
        lab.cli("jobs", "cancel", run)
    assert lab.cli("jobs", "wait", run).returncode == 9


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_who_only_watches_can_be_interrupted_and_the_run_goes_on(lab: Lab, number: signal.Signals, code: int) -> None:
    run = submitted(lab, "sh", "-c", "echo begun; sleep 600")
    try:
        with typed(lab, "jobs", "logs", "-f", run) as logs, typed(lab, "jobs", "wait", run) as wait:
            assert logs.stdout
            assert logs.stdout.readline() == b"begun\n"
            until(lambda: is_listening(wait.pid, number))
            for process in (logs, wait):
                process.send_signal(number)
                assert process.wait(LIMIT_S) == code
                assert process.stderr
                assert process.stderr.read() == b""
        assert lines(lab.cli("jobs", "status", run).stdout)["Status"] == "running"
    finally:
        lab.cli("jobs", "cancel", run)


def test_an_interrupted_submission_says_that_its_run_goes_on(lab: Lab) -> None:
    with typed(lab, *SUBMIT, "--wait", "--", "sh", "-c", "echo begun; sleep 600") as process:
        assert process.stdout
        run = ""
        for line in process.stdout:
            run = run or line.decode().removeprefix("Run ID: ").strip()
            if line == b"begun\n":
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert process.stderr
        said = process.stderr.read().decode()
    assert said == f"merlin: {run} goes on: `merlin ray jobs cancel {run}` ends it\n"
    assert lines(lab.cli("jobs", "status", run).stdout)["Status"] == "running"
    lab.cli("jobs", "cancel", run)


def test_a_reconciler_ends_in_order_when_its_terminal_goes(lab: Lab) -> None:
    run = submitted(lab, "true")
    with typed(lab, "reconcile") as process:
        assert process.stdout
        assert process.stdout.readline() == f"{run} changed\n".encode()
        process.send_signal(signal.SIGHUP)
        assert process.wait(LIMIT_S) == 0


def test_only_a_cluster_is_attached_and_it_is_let_go_of_twice(lab: Lab, alone: Lab) -> None:
    wrong = alone.work / "wrong"
    wrong.write_text("0" * 64)
    assert lab.url
    with other_server() as stranger:
        for words, message in [
            (("http://127.0.0.1:1",), "nothing listens there"),
            ((stranger,), "not how Ray's dashboard answers"),
            ((lab.url,), "wants a token"),
            ((lab.url, "--token-file", str(wrong)), "the token in the file"),
            ((lab.url, "--token-file", str(alone.work / "none")), "there is none in the file"),
        ]:
            done = alone.cli("cluster", "attach", *words)
            assert (done.returncode, done.stdout) == (6, "")
            assert message in done.stderr
            assert len(done.stderr.splitlines()) == 3
    assert lines(alone.cli("cluster", "status").stdout)["Status"] == "not_started"
    for _ in range(2):
        done = alone.cli("cluster", "attach", lab.url, "--token-file", str(lab.token))
        assert done.returncode == 0
        assert list(lines(done.stdout)) == ["Cluster", "Status", "Address", "Dashboard", "Session"]
    assert "others run" in alone.cli("cluster", "start-local").stderr
    dry = alone.cli("--dry-run", "cluster", "stop")
    assert lines(dry.stdout)["Status"] == "dry_run"
    assert lines(alone.cli("cluster", "status").stdout)["Status"] == "active", "the dry run stopped nothing"
    for _ in range(2):
        done = alone.cli("cluster", "stop")
        assert (done.returncode, list(lines(done.stdout))) == (0, ["Cluster", "Status", "Message"])
        assert lines(done.stdout)["Status"] == "stopped"
    assert lines(lab.cli("cluster", "status").stdout)["Status"] == "active"


def test_the_cluster_of_somebody_else_at_our_port_is_not_taken_for_ours(lab: Lab, alone: Lab) -> None:
    recorded(alone, lab, session_name="session_of_our_head", boot_id="another-boot")
    status = alone.cli("cluster", "status")
    assert (status.returncode, lines(status.stdout)["Status"]) == (6, "error")
    assert "merlin ray cluster start-local" in lines(status.stdout)["Message"]
    submit = alone.cli(*SUBMIT, "--", *alone.marked())
    assert (submit.returncode, lines(submit.stdout)["Status"]) == (5, "blocked")
    assert lab.url
    server = bootstrap.connect(lab.url, lab.token)
    assert server.job(lines(submit.stdout)["Run ID"]) is None
    assert alone.cli("cluster", "stop").returncode == 0
    assert server.session().session_name, "nobody was ended whose pid was only the same"


def test_another_program_at_our_port_is_no_cluster(lab: Lab, alone: Lab) -> None:
    with other_server() as stranger:
        recorded(alone, lab, boot_id=processes.boot_id(), dashboard_url=stranger)
        status = alone.cli("cluster", "status")
    assert (status.returncode, lines(status.stdout)["Status"]) == (6, "error")
    assert "is gone" in lines(status.stdout)["Message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_start_that_is_interrupted_leaves_no_head(own: Lab, number: signal.Signals, code: int) -> None:
    with typed(own, "cluster", "start-local") as process:
        until(lambda: head_of(own))
        process.send_signal(number)
        assert process.wait(LIMIT_S) == code
        assert process.communicate() == (b"", b"")
    assert head_of(own) == []
    assert lines(own.cli("cluster", "status").stdout)["Status"] == "not_started"


def test_a_head_whose_start_was_killed_is_ended_by_stop(own: Lab) -> None:
    assert own.cli("cluster", "start-local", failpoint="head.after").returncode == -signal.SIGKILL
    assert head_of(own) != []
    assert own.cli("cluster", "stop").returncode == 0
    assert head_of(own) == []


def test_two_starts_are_one_head_that_is_not_taken_down_for_being_slow(own: Lab) -> None:
    with typed(own, "cluster", "start-local") as first, typed(own, "cluster", "start-local") as second:
        outputs = [process.communicate(timeout=LIMIT_S) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert outputs[0] == outputs[1], "the same head, twice"
    found = lines(outputs[0][0].decode())
    assert list(found) == ["Cluster", "Status", "Address", "Dashboard", "Session"]
    taken = own.cli("--dry-run", "cluster", "start-local")
    assert "is in use" in taken.stdout
    record = own.merlin.cluster.peek()
    assert record.pid
    members = head_of(own)
    asleep = [each for each in members if any("dashboard.py" in word for word in processes.command_line(each.pid))]
    assert asleep
    for each in asleep:
        processes.send(each, signal.SIGSTOP)
    try:
        done = own.cli("cluster", "start-local")
        assert (done.returncode, done.stdout) == (4, "")
        assert f"process {record.pid}) runs, but gives no answer" in done.stderr
    finally:
        for each in asleep:
            processes.send(each, signal.SIGCONT)
    until(lambda: own.cli("cluster", "status").returncode == 0)
    run = submitted(own, "sleep", "600")
    own.running(run)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: own.cli("cluster", "status").returncode == 6)
    status = lines(own.cli("cluster", "status").stdout)
    assert f"its head (process {record.pid}) is gone" in status["Message"]
    stop = own.cli("cluster", "stop")
    assert (stop.returncode, lines(stop.stdout)["Status"]) == (0, "stopped")
    assert head_of(own) == []


def recorded(
    alone: Lab, lab: Lab, *, boot_id: str, session_name: str | None = None, dashboard_url: str | None = None
) -> ClusterRecord:
    """Record a head of ours that was process 1, long ago, and whose port is another one's now."""
    assert lab.url
    session = bootstrap.connect(lab.url, lab.token).session()
    event = ClusterStarted(
        address="127.0.0.1:1",
        dashboard_url=dashboard_url or lab.url,
        session_name=session_name or session.session_name,
        ray_version=session.ray_version,
        pid=1,
        pid_started=1,
        boot_id=boot_id,
        token_path=str(lab.token),
        temp_dir=str(alone.work / "ray"),
        argv=("ray",),
    )
    return alone.merlin.ledger.change_cluster(lambda _known: (event,))


@contextmanager
def other_server() -> Iterator[str]:
    """Serve files, as python -m http.server does, and so be no cluster."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def is_listening(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has come so far that it catches a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    # Python catches SIGINT from the start; ours are caught when the words are read.
    ours = signal.SIGTERM if number == signal.SIGINT else number
    return bool(caught >> (ours - 1) & 1)
