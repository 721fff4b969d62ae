"""What happens to runs in a laboratory? Stories, each told by the verbs that people type, on real Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from projections.projection import run_json
from tests.e2e.lab import Lab, until
from tests.e2e.test_ray_recipes import supervisor_of
from tests.e2e.test_targetgen_on_ray import ANSWERS, Workshop, ended
from tests.old_roots import OldState
from tests.ray_cluster import OwnHead
from tests.recorder import hook

RESTS: Final = frozenset({"completed", "failed", "cancelled", "error", "dry_run", "blocked", "lost"})
KEY: Final = "u250"

PLAIN: Final[tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], tuple[str, int | None]], ...]] = (
    ("completed", "true", (), ("true",), ("completed", 0)),
    ("completed", "talks", (), ("sh", "-c", "seq 1 2000; echo done >&2"), ("completed", 0)),
    ("completed", "metadata", ("--metadata", "board=7", "--env", "X=1"), ("sh", "-c", "test $X = 1"), ("completed", 0)),
    ("failed", "one", (), ("false",), ("failed", 1)),
    ("failed", "three", (), ("sh", "-c", "echo it broke >&2; exit 3"), ("failed", 3)),
    ("failed", "last", (), ("sh", "-c", "exit 255"), ("failed", 255)),
    ("failed", "unknown", (), ("no-such-command-anywhere",), ("failed", 127)),
    ("killed by a signal", "sigkill", (), ("sh", "-c", "kill -9 $$"), ("failed", -9)),
    ("killed by a signal", "sigsegv", (), ("sh", "-c", "kill -11 $$"), ("failed", -11)),
    ("killed by a signal", "sigterm", (), ("sh", "-c", "kill -15 $$"), ("failed", -15)),
    ("timed out", "slow", ("--timeout", "0.5"), ("sleep", "600"), ("failed", None)),
    ("timed out", "deaf", ("--timeout", "0.5", "--stop-grace", "0.3"),
     ("sh", "-c", "trap '' TERM; sleep 600"), ("failed", None)),
    ("retried", "second", ("--retries", "3", "--retry-on-failure"),
     ("sh", "-c", "mkdir once-$MERLIN_RUN_ID 2>/dev/null && exit 9; true"), ("completed", 0)),
    ("retried", "never", ("--retries", "1", "--retry-on-failure"), ("sh", "-c", "exit 4"), ("failed", 4)),
    ("captured", "bytes", ("--target-dir", "out-1", "--capture", "*.txt"),
     ("sh", "-c", "mkdir -p out-1/deep; echo a | tee out-1/a.txt out-1/deep/b.txt out-1/c.bin"), ("completed", 0)),
    ("captured", "failing", ("--target-dir", "out-2", "--capture", "**"),
     ("sh", "-c", "mkdir -p out-2; echo half > out-2/half.json; exit 2"), ("failed", 2)),
    ("refused by Ray", "label", ("--label-selector", "bad key!!=in("), ("true",), ("error", None)),
)  # fmt: skip
"""Kind, target, options, command, and how it ends (None: by whichever signal): runs that only have to be submitted."""

SUBMITTER_KILLED: Final = "submitter killed"
RETRIED: Final = "blocked, then retried"
SUBMITTER_DIES: Final = ("append.after", "publish.after", "request.after", "submit.before", "submit.after")
CANCELLER_DIES: Final = ("", "append.after")
RECONCILERS_DIE: Final = ("logs.after:2", "record.before:5", "append.after:6")


class Recorded(Lab):
    """A lab in which every process keeps what it publishes; `kinds` are the runs that its stories are about."""

    def __init__(self, top: Path, kept: Path, dashboard_url: str | None, token_path: Path | None) -> None:
        self.kinds: dict[str, str] = {}
        self._hook = hook(top / "hook", kept)
        super().__init__(top, dashboard_url, token_path)

    def environment(self, failpoint: str = "") -> dict[str, str]:
        """Give the environment of a process, which records."""
        mine = super().environment(failpoint)
        return {**mine, "PYTHONPATH": f"{self._hook}{os.pathsep}{mine['PYTHONPATH']}"}

    def type(self, *words: str, code: int = 0) -> str:
        """Run a verb that ends with that code; gives what it printed."""
        done = self.cli(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    def submit_as(self, kind: str, target: str, *words: str, code: int = 0) -> str:
        """Submit a run by the command line; gives its id."""
        out = self.type(*submission(target), *words, code=code)
        return self.note(kind, dict(line.split(": ", 1) for line in out.splitlines())["Run ID"])

    def note(self, kind: str, run_id: str) -> str:
        """Count a run among its kind."""
        self.kinds[run_id] = kind
        return run_id

    def rest(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until a run has one of these statuses, by itself; gives its record, as its log has it."""
        wanted = statuses or tuple(RESTS)
        until(lambda: self.merlin.ledger.run(run_id).status in wanted)
        return run_json(self.merlin.ledger.run(run_id))

    def begins(self, run_id: str) -> dict[str, Any]:
        """Wait until the command of a run is executed."""
        return self.rest(run_id, "running")

    @contextmanager
    def reconcilers(self, failpoints: Sequence[str]) -> Iterator[None]:
        """Have a loop go on; each but the last dies at its failpoint, and then somebody starts the next."""
        over, self.died = threading.Event(), 0
        keeper = threading.Thread(target=self._keep_loops, args=((*failpoints, ""), over))
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _keep_loops(self, failpoints: Sequence[str], over: threading.Event) -> None:
        argv = [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self.root), "reconcile"]
        for failpoint in failpoints:
            loop = subprocess.Popen(
                argv,
                cwd=self.work,
                env=self.environment(failpoint),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while loop.poll() is None and not over.wait(0.1):
                pass
            self.died += loop.poll() == -signal.SIGKILL
            loop.kill()
            loop.wait()
            if over.is_set():
                return


def submission(target: str) -> tuple[str, ...]:
    """Give the words that begin a submission."""
    return ("jobs", "submit", "--target", target, "--workflow", "w", "--target-dir", "none", "--cpus", "0.05")


def plain(lab: Recorded, row: int) -> None:
    """A run that goes its way."""
    kind, target, options, command, (status, exit_code) = PLAIN[row]
    code = 11 if status == "error" else 0
    record = lab.rest(lab.submit_as(kind, target, *options, "--", *command, code=code))
    assert record["status"] == status, record
    assert exit_code in (None, record["exit_code"]), record
    if status == "failed":
        assert record["failure_kind"] == ("timeout" if kind == "timed out" else "user")
    if status == "error":
        assert record["message"], "it says why"
    if kind == "timed out":
        assert "0.5 s that --timeout allows" in record["message"]


def before_the_cluster(lab: Recorded, url: str, token: Path) -> None:
    """Nobody has attached a cluster yet: blocked, and later retried, cancelled, or left; and what another tool left."""
    left, cancelled = (lab.submit_as("blocked", target, "--", "true", code=5) for target in ("left", "given-up"))
    retried = lab.submit_as(RETRIED, "again", "--", "true", code=5)
    dry = lab.cli("--dry-run", *submission("dry"), "--", "true")
    lab.note("dry run", next(line for line in dry.stdout.splitlines() if "Run ID" in line).split(": ")[1])
    old = OldState(lab.top / "old")
    for number, status in enumerate(("completed", "failed", "running")):
        old.run(f"saturn-2025030405060{number}-0badcafe", status)
        lab.note("imported", f"saturn-2025030405060{number}-0badcafe")
    lab.type("import", str(old.root))
    lab.type("cluster", "attach", url, "--token-file", str(token))
    lab.type("jobs", "retry", retried)
    lab.type("jobs", "cancel", cancelled)
    assert lab.rest(cancelled)["status"] == "cancelled"
    assert lab.record_file(left)["status"] == "blocked"


def cancelled_while_it_runs(lab: Recorded, failpoint: str) -> None:
    """Somebody cancels, and is killed over it; the loop sees it through."""
    target = f"cancel-{failpoint.replace('.', '-') or 'well'}"
    run_id = lab.submit_as("cancelled while it ran", target, "--", "sleep", "600")
    lab.begins(run_id)
    done = lab.cli("jobs", "cancel", run_id, failpoint=failpoint)
    assert done.returncode == (-signal.SIGKILL if failpoint else 0)
    assert lab.rest(run_id)["status"] == "cancelled"


def cancelled_before_it_starts(lab: Recorded) -> None:
    """A run that no machine has room for."""
    run_id = lab.submit_as("cancelled before its start", "huge", "--cpus", "640", "--", "true")
    lab.type("jobs", "cancel", run_id)
    assert lab.rest(run_id)["status"] == "cancelled"


def stopped_by_others(lab: Recorded) -> None:
    """Somebody stops the job with Ray's own means."""
    run_id = lab.submit_as("cancelled by others", "others", "--", "sleep", "600")
    lab.begins(run_id)
    lab.merlin.cluster.link().server.stop(run_id)
    assert lab.rest(run_id)["status"] == "cancelled"
    assert lab.merlin.ledger.run(run_id).cancel_requested_at is None, "nobody asked us"


def supervisor_dies(lab: Recorded) -> None:
    """What watches the command dies, which is no fault of the command: it is repeated."""
    once = f"mkdir {lab.work}/begun 2>/dev/null && sleep 600; true"
    run_id = lab.submit_as("infrastructure retried", "infra", "--retries", "1", "--", "sh", "-c", once)
    until(lambda: lab.merlin.witnesses.read(run_id, 1).started and (lab.work / "begun").exists())
    started = lab.merlin.witnesses.read(run_id, 1).started
    assert started
    os.kill(supervisor_of(started.pid), signal.SIGKILL)
    record = lab.rest(run_id)
    assert record["status"] == "completed"
    assert [attempt.status for attempt in lab.merlin.ledger.run(run_id).attempts] == ["failed", "completed"]


def submitter_dies(lab: Recorded, failpoint: str) -> None:
    """Whoever submits is killed at some point around the call to Ray, before any loop could have done it instead."""
    target = f"dies-{failpoint.replace('.', '-')}"
    once = ("sh", "-c", 'mkdir "once-$MERLIN_RUN_ID"')
    assert lab.cli(*submission(target), "--", *once, failpoint=failpoint).returncode == -signal.SIGKILL
    [run_id] = [each for each in lab.runs() if each.startswith(f"{target}-")]
    lab.note(SUBMITTER_KILLED, run_id)


def submitted_after_all(lab: Recorded) -> None:
    """What somebody died over has completed, once."""
    for run_id in [each for each, kind in lab.kinds.items() if kind in (SUBMITTER_KILLED, RETRIED)]:
        assert lab.rest(run_id, "completed", "failed")["status"] == "completed"
        types = lab.types(run_id)
        assert (types.count("run.submitted"), types.count("run.completed")) == (1, 1)
        assert [job.submission_id for job in lab.jobs() if job.submission_id.startswith(run_id)] == [run_id]


def keys(lab: Recorded) -> None:
    """Runs that want one key: one after the other, one that gives up, one whose key is taken away."""
    first = lab.submit_as("with a lease", "holder", "--lease", KEY, "--", "sleep", "600")
    lab.begins(first)
    waiting = lab.submit_as("cancelled in line", "impatient", "--lease", KEY, "--", "true")
    second = lab.submit_as("with a lease", "second", "--lease", KEY, "--", "sh", "-c", "echo $MERLIN_LEASE_FENCE")
    two = lab.submit_as("with a lease", "both", "--lease", KEY, "--lease", "vcu118", "--", "true")
    assert lab.record_file(waiting)["status"] == "waiting"
    lab.type("jobs", "cancel", waiting)
    assert lab.rest(waiting)["status"] == "cancelled"
    assert lab.merlin.ledger.run(waiting).attempts == (), "it never comes to Ray"
    lab.type("resources", "release", "--key", KEY, "--force", "--reason", "the board is on fire")
    lab.type("jobs", "cancel", first)
    assert lab.rest(first)["status"] == "cancelled"
    assert [lab.rest(run_id, "completed")["status"] for run_id in (second, two)] == ["completed", "completed"]
    until(lambda: lab.merlin.reconciler.leases.state().holder(KEY) is None)


def people(lab: Recorded) -> None:
    """Keys that people hold, hand over, and take out of service."""
    lab.type("resources", "declare", "oscilloscope", "--label", "room=12")
    out = lab.type("resources", "reserve", "oscilloscope", "--owner", "ada", "-o", "json")
    lease = json.loads(out)["lease_id"]
    lab.type("resources", "reserve", "oscilloscope", "--owner", "bob", code=13)
    lab.type("resources", "transfer", lease, "--to", "bob", "--owner", "ada")
    lab.type("resources", "drain", "oscilloscope", "--reason", "calibration")
    lab.type("resources", "release", lease, "--owner", "bob")
    lab.type("resources", "reserve", "oscilloscope", "--owner", "ada", code=15)
    lab.type("resources", "enable", "oscilloscope")
    lab.type("resources", "hold", "oscilloscope", "--owner", "ada", "--", "true")


def forked(lab: Recorded) -> None:
    """A run that failed is made again from its past, twice, and what it had made is there."""
    out = lab.work / "bench"
    parent = lab.submit_as(
        *("captured", "parent", "--target-dir", str(out), "--capture", "**", "--"),
        *("sh", "-c", f"mkdir -p {out}; echo one > {out}/made; exit 5"),
    )
    assert lab.rest(parent)["status"] == "failed"
    for number, command in enumerate((f"cat {lab.work}/again-0/made", "exit 6")):
        directory = lab.work / f"again-{number}"
        words = ("fork", parent, "--at", "run.failed", "--target-dir", str(directory), "-o", "json")
        run_id = lab.note("forked", json.loads(lab.type(*words, "--", "sh", "-c", command))["run_id"])
        assert lab.rest(run_id)["exit_code"] == 6 * number


def kept_for_good(lab: Recorded) -> None:
    """A run that is indexed again, sealed and archived; and one that was asked for twice with one key."""
    out = lab.work / "late"
    out.mkdir()
    words = ("--target-dir", str(out), "--idempotency-key", "nightly", "--", "true")
    run_id = lab.submit_as("sealed and archived", "nightly", *words)
    lab.rest(run_id)
    assert lab.submit_as("sealed and archived", "nightly", *words) == run_id
    (out / "late.txt").write_text("after the end")
    lab.type("artifacts", "index", run_id)
    lab.type("seal", run_id)
    lab.type("archive", run_id)


def plan(lab: Recorded, example: str, workshop: Workshop) -> None:
    """A plan is carried out by runs, with a person who answers at each gate, and one question answered otherwise."""
    out = ended(workshop.start("orchestrate", "--example", example, "-o", "json"))
    target = json.loads(out)["target"]
    workshop.respond(target)
    directory = workshop.directory(target)
    asked: list[tuple[str, str]] = []
    while True:
        said = json.loads(ended(workshop.on_ray("--from-dir", str(directory))))
        run_id = lab.note("plan with gates", said["run_id"])
        assert lab.rest(run_id)["status"] == "completed"
        question = workshop.state(target)["open_question_id"]
        if question is None or len(asked) == 2:
            break
        asked.append((question, run_id))
        choice = ANSWERS[question.rpartition("-")[2]]
        workshop.merlin("answer", "--target-dir", str(directory), "--question-id", question, "--choice", choice)
    question, run_id = asked[0]
    request = json.loads((directory / "operator_requests" / f"{question}.json").read_text())
    given = ANSWERS[question.rpartition("-")[2]]
    other = next(
        option["id"] for option in request["options"] if option["id"] != given and not option["id"].startswith("pause")
    )
    words = ("fork", run_id, "--at", "question.asked#1", "--answer", f"{question}={other}", "-o", "json")
    fork = lab.note("forked with another answer", json.loads(lab.type(*words))["run_id"])
    lab.rest(fork)


def cluster_dies(lab: Recorded, head: OwnHead) -> None:
    """The head is killed with everything on it, and comes back empty."""
    done = lab.submit_as("before the cluster died", "before", "--", "echo", "out")
    running = lab.submit_as("lost with its cluster", "lost", "--", "sleep", "600")
    again = lab.submit_as(
        *("lost with its cluster", "again", "--"),
        *("sh", "-c", f"mkdir {lab.work}/lost 2>/dev/null && sleep 600; true"),
    )
    pending = lab.submit_as("lost with its cluster", "pending", "--cpus", "640", "--", "true")
    for run_id in (running, again):
        lab.running(run_id)
    lab.ended(done)
    gone = lab.submit_as("ended while nobody could be asked", "gone", "--", "sh", "-c", "sleep 1; exit 5")
    until(lambda: lab.merlin.witnesses.read(gone, 1).ended and (lab.work / "lost").exists())
    head.kill()
    until(lambda: lab.merlin.reconcile_once().unreachable)
    ended_alone = lab.ended(gone)
    assert (ended_alone.status, ended_alone.exit_code) == ("failed", 5), "by the word of its wrapper"
    late = lab.submit_as("blocked", "late", "--", "true", code=5)
    head.restart()
    assert [lab.ended(run_id).status for run_id in (running, again, pending)] == ["lost"] * 3
    for run_id in (again, pending):
        lab.type("jobs", "retry", run_id)
    lab.type("jobs", "cancel", pending)
    assert lab.ended(pending).status == "cancelled"
    assert lab.ended(again).status == "completed"
    assert lab.record_file(late)["status"] == "blocked"


def tell(stories: Sequence[Callable[[], None]], workers: int) -> None:
    """Tell stories beside one another; raises what went wrong when all are over."""
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(story) for story in stories]
    wrong = [error for future in futures if (error := future.exception())]
    if wrong:
        raise BaseExceptionGroup("stories that went otherwise", wrong)


def kinds(labs: Sequence[Recorded]) -> Counter[str]:
    """Count the runs of each kind."""
    return Counter(kind for lab in labs for kind in lab.kinds.values())
