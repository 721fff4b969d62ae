"""Was every run submitted at most once, and did it end once? Is what was noted of its end still there?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from audits.chain import Event, Log, Violation

BEGINNINGS = frozenset({"run.requested", "run.forked", "run.adopted", "run.imported"})
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled", "run.submission_failed", "run.dry_run_recorded"})
AFTER_THE_END = frozenset(
    {"run.anomaly_seen", "run.artifacts_indexed", "run.lease_unbound", "run.sealed", "log.repaired", "log.checkpoint"}
)
ONCE = frozenset({"run.cancel_requested", "run.sealed"})


def of_run(log: Log) -> Iterator[Violation]:
    """Say what is wrong with one run."""
    intended: set[int] = set()
    submitted: set[int] = set()
    seen: set[str] = set()
    ended: Event | None = None
    lost = False
    for event in log.events:
        attempt = event.data.get("attempt", 0)
        if (event.type in BEGINNINGS) != (event.seq == 1):
            yield Violation("a run begins once", event.where, f"{event.type} is line {event.seq}")
        if ended is not None and event.type not in AFTER_THE_END:
            yield Violation("a run ends once", event.where, f"{event.type} after {ended.type} in line {ended.seq}")
        if event.type in ONCE and event.type in seen:
            yield Violation("twice is once", event.where, f"{event.type} again")
        if event.type == "run.submission_started":
            if attempt in intended:
                yield Violation("a run is submitted once", event.where, f"attempt {attempt} was begun before")
            if intended and not seen & {"run.attempt_failed", "run.lost"}:
                yield Violation("a run is submitted once", event.where, "the attempt before had not failed")
            intended.add(attempt)
        if event.type == "run.submitted":
            if attempt not in intended:
                yield Violation("the wish is first", event.where, f"attempt {attempt} was never about to be submitted")
            if attempt in submitted:
                yield Violation("a run is submitted once", event.where, f"attempt {attempt} was submitted before")
            submitted.add(attempt)
        if event.type == "run.recovered" and not lost:
            yield Violation("only what is lost is recovered", event.where, "it was not lost")
        lost = event.type in ("run.lost", "run.imported") or (lost and event.type != "run.recovered")
        ended = event if event.type in ENDS else ended
        seen.add(event.type)


def across(runs: Iterable[Log]) -> Iterator[Violation]:
    """Say which id of a submission was used for two."""
    used: dict[str, str] = {}
    for log in runs:
        for event in log.events:
            if event.type == "run.submission_started":
                where = used.setdefault(event.data["submission_id"], event.where)
                if where != event.where:
                    yield Violation("a run is submitted once", event.where, f"its submission id is that of {where}")


def unended(runs: Iterable[Log]) -> Iterator[Violation]:
    """Name the runs that go on: at the end of a soak there are none."""
    for log in runs:
        if log.events and not any(event.type in ENDS for event in log.events):
            yield Violation("every run ends", log.events[-1].where, f"{log.events[-1].type} is the last of it")


def noted(ledger: Log | None, runs: Mapping[str, Log]) -> Iterator[Violation]:
    """Name the runs that do not have the head that was noted of them."""
    for event in ledger.events if ledger else ():
        if event.type != "run.head_noted":
            continue
        log = runs.get(f"run/{event.data['run_id']}")
        seq = event.data["seq"]
        if log is None or not any(each.seq == seq and each.h == event.data["h"] for each in log.events):
            what = f"run/{event.data['run_id']} has no line {seq} of the digest that was noted"
            yield Violation("what was noted is there", event.where, what)


def outputs(runs: Iterable[Log], blobs: Path) -> Iterator[Violation]:
    """Name the outputs that are not kept as they were."""
    for log in runs:
        for event in log.events:
            digest = event.data.get("sha256") if event.type == "run.logs_captured" else None
            if not digest:
                continue
            path = blobs / "sha256" / digest[:2] / digest[2:]
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                yield Violation("outputs are kept", event.where, f"{path} is not what was kept")


def of_cluster(log: Log) -> Iterator[Violation]:
    """Say where the story of the cluster does not go on from where it was."""
    session, unreachable = None, False
    for event in log.events:
        if event.type == "cluster.session_changed" and session not in (None, event.data["old"]):
            yield Violation("sessions follow each other", event.where, f"the one before was {session}")
        if event.type in ("cluster.unreachable", "cluster.reachable"):
            if unreachable == (event.type == "cluster.unreachable"):
                yield Violation("one event for each outage", event.where, f"{event.type} again")
            unreachable = event.type == "cluster.unreachable"
        elif event.type.startswith("cluster."):
            unreachable = unreachable and event.type in ("cluster.stop_requested", "cluster.start_requested")
        session = event.data.get("new") or event.data.get("session_name") or session
