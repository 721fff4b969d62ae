"""Does the audit name what is wrong with logs, and nothing where nothing is?"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.custody import Archive
from tests.examples import ROOT
from tests.holders import give_back, leases_of, wish

if TYPE_CHECKING:
    from audit import Report

RUN = "soak-20261123071351-abcdef01"
A, B, C, D = (f"claim-{letter * 10}" for letter in "abcd")
LEASE_A, LEASE_B, LEASE_R = (f"lease-{letter * 10}" for letter in "abe")
OUTPUT = b"it was built\n"
DIGEST = hashlib.sha256(OUTPUT).hexdigest()
Fact = dict[str, Any]


def fact(type_: str, **data: object) -> Fact:
    return {"type": type_, "data": data}


def queued(claim: str, *keys: str, priority: int = 0) -> Fact:
    return fact("claim.queued", claim_id=claim, keys=list(keys), pool=None, priority=priority)


def granted(claim: str, lease: str, key: str, fence: int) -> Fact:
    return fact(
        "lease.granted", claim_id=claim, lease_id=lease, key=key, fence=fence, keys=[key], place=1, of=1, owner="ada"
    )


def ended(lease: str) -> Fact:
    return fact("lease.released", lease_id=lease)


def cancelled(claim: str) -> Fact:
    return fact("claim.cancelled", claim_id=claim)


@dataclass
class Lab:
    """The logs of a lab in which everything went well, until a test changes that."""

    top: Path
    logs: dict[str, list[Fact]] = field(default_factory=dict)
    told: list[Fact] = field(default_factory=list)
    executed: list[Fact] = field(default_factory=list)
    raw: Callable[[str, bytes], bytes] = lambda _stream, text: text

    def path(self, stream: str) -> Path:
        places = {"cluster/c": "cluster", f"run/{RUN}": f"runs/{RUN}", "execution/x": "work/x"}
        return self.top / "state" / places.get(stream, stream) / "events.jsonl"

    def write(self) -> None:
        """Write the logs, as anybody can who has read how."""
        for stream, facts in self.logs.items():
            before, lines = digest(f"eventlog/1\n{stream}".encode()), []
            for seq, each in enumerate(facts, 1):
                envelope = {"v": 1, "seq": seq, "id": f"{stream}:{seq}", "time": "2026-11-23T07:13:51.123456Z"}
                body = json.dumps({"stream": stream, **envelope, **each})[:-1].encode()
                before, mine = digest(before.encode() + body), body
                lines.append(mine + f',"h":"{before}"}}\n'.encode())
            path = self.path(stream)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.raw(stream, b"".join(lines)))
        for name, entries in (("told", self.told), ("executed", self.executed)):
            (self.top / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))

    def examined(self) -> Report:
        import audit

        self.write()
        journals = ([self.top / "told.jsonl"], [self.top / "executed.jsonl"])
        return audit.examine(audit.Evidence([self.top], *journals, ended=True))

    def named(self) -> set[str]:
        return {violation.invariant for violation in self.examined().violations}


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.syspath_prepend(ROOT / "tools")
    lab = Lab(tmp_path)
    blob = tmp_path / "state/blobs/sha256" / DIGEST[:2] / DIGEST[2:]
    blob.parent.mkdir(parents=True)
    blob.write_bytes(OUTPUT)
    bound = {"lease_id": LEASE_R, "key": "k", "fence": 3}
    lab.logs = {
        f"run/{RUN}": [
            fact("run.requested", run_id=RUN),
            fact("run.waiting", claim_id=C),
            fact("run.lease_bound", claim_id=C, leases=[bound]),
            fact("run.submission_started", attempt=1, submission_id=RUN) | {"cause": 3},
            fact("run.submitted", attempt=1),
            fact("run.attempt_failed", attempt=1),
            fact("run.submission_started", attempt=2, submission_id=f"{RUN}-a2"),
            fact("run.submitted", attempt=2),
            fact("run.cancel_requested"),
            fact("run.logs_captured", attempt=2, sha256=DIGEST) | {"batch": "1/2"},
            fact("run.completed", attempt=2) | {"batch": "2/2"},
        ],
        "resources": [
            queued(A, "k") | {"key": "one"},
            granted(A, LEASE_A, "k", 1),
            queued(B, "k") | {"key": "two"},
            queued(C, "k"),
            ended(LEASE_A),
            granted(B, LEASE_B, "k", 2),
            ended(LEASE_B),
            granted(C, LEASE_R, "k", 3),
            ended(LEASE_R) | {"cause": f"run/{RUN}#11"},
        ],
        "cluster/c": [
            fact("cluster.started", session_name="s1"),
            fact("cluster.unreachable"),
            fact("cluster.session_changed", old="s1", new="s2"),
        ],
        "execution/x": [
            fact("execution.prepared", tasks=[{"id": "a", "depends_on": []}, {"id": "b", "depends_on": ["a"]}]),
            fact("question.asked", request_id="q", task_id="a", options=[{"id": "yes"}, {"id": "no"}]),
            fact("question.answered", request_id="q", choice="yes"),
            fact("question.resolved", request_id="q", choice="yes"),
            fact("task.completed", task_id="a"),
            fact("task.completed", task_id="b"),
        ],
    }
    lab.write()
    h = json.loads(lab.path(f"run/{RUN}").read_bytes().splitlines()[-1])["h"]
    lab.logs["ledger"] = [fact("ledger.created"), fact("run.head_noted", run_id=RUN, seq=11, h=h)]
    lab.told = [
        {"told": "submitted", "run": RUN},
        {"told": "cancelled", "run": RUN},
        {"told": "leased", "lease": LEASE_A, "key": "k", "fence": 1},
        {"told": "released", "lease": LEASE_A},
        {"told": "answered", "execution": "execution/x", "question": "q", "choice": "yes"},
    ]
    lab.executed = [{"run": RUN, "attempt": "1"}, {"run": RUN, "attempt": "2"}]
    return lab


def put(stream: str, place: int, *facts: Fact) -> Callable[[Lab], object]:
    """Put facts into a stream, before the line that has had that place."""
    return lambda lab: lab.logs[stream].__setitem__(slice(place - 1, place - 1), facts)


def change(log: str, line: int, **data: object) -> Callable[[Lab], object]:
    return lambda lab: lab.logs[log][line - 1]["data"].update(data)


def drop(stream: str, seq: int) -> Callable[[Lab], object]:
    return lambda lab: lab.logs[stream].pop(seq - 1)


def edit(old: bytes, new: bytes) -> Callable[[Lab], object]:
    """Edit the bytes of the log of the run, and leave the chain as it is."""

    def edited(lab: Lab) -> None:
        lab.raw = lambda stream, text: text.replace(old, new, 1) if stream.startswith("run/") else text

    return edited


def envelope(log: str, line: int, **keys: object) -> Callable[[Lab], object]:
    return lambda lab: lab.logs[log][line - 1].update(keys)


THE_RUN = f"run/{RUN}"
PLANTED: dict[str, tuple[str, Callable[[Lab], object]]] = {
    "a line was edited": ("chain", edit(b'"attempt": 2', b'"attempt": 3')),
    "a line is no event": ("chain", edit(b'{"stream"', b'["stream"')),
    "a line is gone": ("gapless", edit(b'"seq": 2,', b'"seq": 3,')),
    "a line is of another log": ("own stream", envelope("resources", 2, stream="ledger")),
    "a time is none": ("time", envelope("resources", 2, time="now")),
    "half of an append is there": ("whole appends", put(THE_RUN, 11, fact("run.anomaly_seen"))),
    "two lines have one id": ("ids are unique", envelope("resources", 2, id="ledger:1")),
    "an idempotency key is used twice": ("a key is used once", envelope("resources", 3, key="one")),
    "a cause is yet to come": ("causes exist", envelope(THE_RUN, 4, cause=5)),
    "a cause is nowhere": ("causes exist", envelope("resources", 9, cause="run/other#1")),
    "a run begins twice": ("a run begins once", put(THE_RUN, 5, fact("run.requested", run_id=RUN))),
    "a run ends twice": ("a run ends once", put(THE_RUN, 12, fact("run.failed", attempt=2))),
    "a run goes on after its end": ("a run ends once", put(THE_RUN, 12, fact("run.started", attempt=2))),
    "a run never ends": ("every run ends", lambda lab: lab.logs.__setitem__(THE_RUN, lab.logs[THE_RUN][:9])),
    "a cancel is recorded twice": ("twice is once", put(THE_RUN, 10, fact("run.cancel_requested"))),
    "an attempt is begun twice": ("a run is submitted once", change(THE_RUN, 7, attempt=1)),
    "an attempt follows on one that lives": ("a run is submitted once", drop(THE_RUN, 6)),
    "an attempt is submitted twice": ("a run is submitted once", put(THE_RUN, 9, fact("run.submitted", attempt=2))),
    "an id of Ray is used twice": ("a run is submitted once", change(THE_RUN, 7, submission_id=RUN)),
    "Ray was asked before it was recorded": ("the wish is first", drop(THE_RUN, 4)),
    "what was not lost is recovered": ("only what is lost is recovered", put(THE_RUN, 9, fact("run.recovered"))),
    "a run was cut back": ("what was noted is there", change("ledger", 2, seq=12)),
    "a run was replaced": ("what was noted is there", change("ledger", 2, h="A" * 43)),
    "an output is not what was kept": (
        "outputs are kept",
        lambda lab: (lab.top / "state/blobs/sha256" / DIGEST[:2] / DIGEST[2:]).write_bytes(b"forged"),
    ),
    "a session comes from nowhere": ("sessions follow each other", change("cluster/c", 3, old="s0")),
    "an outage is recorded twice": ("one event for each outage", put("cluster/c", 3, fact("cluster.unreachable"))),
    "a key is granted while it is held": ("one holder of a key", drop("resources", 5)),
    "a fence comes again": ("fences grow", change("resources", 6, fence=1)),
    "a fence falls in a transfer": (
        "fences grow",
        put("resources", 7, fact("lease.transferred", lease_id=LEASE_B, fence=2)),
    ),
    "somebody is passed over": ("the line is kept", put("resources", 6, queued(D, "k"), granted(D, "lease-d", "k", 2))),
    "a priority is passed over": ("the line is kept", change("resources", 4, priority=1)),
    "somebody is overtaken for ever": (
        "the line is kept",
        put("resources", 5, *(each for n in range(9) for each in (
            *([ended(LEASE_A)] if not n else []), queued(f"claim-{n}", "k", priority=9),
            granted(f"claim-{n}", f"lease-{n}", "k", 2 + n), ended(f"lease-{n}"),
        ))),
    ),
    "a drained key is granted": ("no grant while drained", put("resources", 6, fact("resource.draining", key="k"))),
    "a lease is granted twice": ("a lease is granted once", change("resources", 6, lease_id=LEASE_A)),
    "who did not wait is granted": ("only who waits is granted", drop("resources", 3)),
    "a set is granted in part": ("all or nothing", change("resources", 6, keys=["j", "k"])),
    "a renewal comes too late": (
        "nothing stale is accepted",
        put("resources", 8, fact("lease.renewed", lease_id=LEASE_B)),
    ),
    "a lease ends twice": ("nothing stale is accepted", put("resources", 8, ended(LEASE_B))),
    "a claim ends after it was granted": ("a claim ends once", put("resources", 8, cancelled(B))),
    "a claim is queued twice": ("a claim is queued once", put("resources", 5, queued(C, "k"))),
    "a lease is never given back": ("every lease ends", drop("resources", 9)),
    "somebody waits for ever": ("every claim ends", put("resources", 10, queued(D, "k"))),
    "a run has what it was not given": ("a run holds what it was granted", change("resources", 8, fence=4)),
    "a lease outlives its run": ("leases end with their run", drop("resources", 9)),
    "a question is answered twice": (
        "a question is answered once",
        put("execution/x", 4, fact("question.answered", request_id="q", choice="no")),
    ),
    "an answer is none of the options": ("an answer is one of the options", change("execution/x", 3, choice="maybe")),
    "a question is resolved twice": (
        "a question is resolved once",
        put("execution/x", 5, fact("question.resolved", request_id="q", choice="yes")),
    ),
    "a task is done twice": ("a task is done once", put("execution/x", 7, fact("task.completed", task_id="a"))),
    "a task is done too early": ("what a task needs is done first", drop("execution/x", 5)),
    "what was told is nowhere": (
        "what was told is recorded",
        lambda lab: lab.told.append({"told": "submitted", "run": "soak-lost"}),
    ),
    "an attempt is executed twice": (
        "an attempt is executed once",
        lambda lab: lab.executed.append({"run": RUN, "attempt": "2"}),
    ),
}  # fmt: skip


def test_nothing_is_named_where_everything_went_well(lab: Lab) -> None:
    report = lab.examined()
    assert report.violations == ()
    assert (report.figures["runs"], report.figures["leases"], report.figures["torn"]) == (1, 3, 0)


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_named(lab: Lab, what: str) -> None:
    invariant, plant = PLANTED[what]
    plant(lab)
    assert invariant in lab.named()


def test_every_invariant_of_the_audit_is_broken_by_some_test() -> None:
    sources = [*(ROOT / "tools/audits").glob("*.py")]
    named = {line.split('"')[1] for path in sources for line in path.read_text().splitlines() if 'Violation("' in line}
    assert named == {invariant for invariant, _ in PLANTED.values()}
    assert len(named) > 30


def test_an_answer_to_wait_may_be_followed_by_one_that_does_something(lab: Lab) -> None:
    lab.logs["execution/x"][1]["data"]["options"].append({"id": "pause_execution"})
    put("execution/x", 3, fact("question.answered", request_id="q", choice="pause_execution"))(lab)
    assert lab.named() == set()


def test_an_append_that_was_interrupted_is_counted_and_no_violation(lab: Lab) -> None:
    lab.raw = lambda stream, text: text + b'{"v":1,"seq":' if stream == "ledger" else text
    report = lab.examined()
    assert report.violations == ()
    assert report.figures["torn"] == 1


def test_the_logs_of_merlin_are_what_the_audit_takes_them_for(tmp_path: Path) -> None:
    """Whoever reads the format and whoever writes it have nothing in common but its description."""
    root = tmp_path / "state"
    archive = Archive(root)
    for number in range(2):
        archive.ended(f"saturn-2026112307135{number}-abcdef01")
    leases = leases_of(root, sync=False)
    for _ in range(3):
        give_back(leases, leases.reserve(wish("ada", "u250", "x60", waits=False)))
    tops = (str(root), str(ROOT / "tests/golden/0.1-execution"))
    program = [sys.executable, "-S", str(ROOT / "tools" / "audit.py"), "--json", *tops]
    done = subprocess.run(program, env={}, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["figures"]["leases"] == 6
    assert report["figures"]["answers"] == 8
    told = {(each["invariant"], each["where"]) for each in report["violations"]}
    assert told == {("a run is submitted once", "run/saturn-20261123071351-abcdef01#2")}, "these runs are from a book"
    assert done.returncode == 1
