"""What do the runs and clusters in the tests go through?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from hypothesis import strategies as st
from msgspec.structs import asdict

import eventlog
from eventlog import FileLog
from projections.cluster import NOT_STARTED, ClusterRecord
from projections.cluster import evolve as evolve_cluster
from projections.events import cluster as c
from projections.events import run as r
from projections.events.fact import Fact
from projections.events.recorded import Recorded
from projections.files import Publisher
from projections.fresh import stamps
from projections.index import Index
from projections.layout import StateLayout, run_stream
from projections.lease_wish import Bound, LeaseWish
from projections.run_record import RunRecord, evolve
from tests.examples import unsynced

RUN = "saturn-20261123071351-abcdef01"
FILES = ("run_request.json", "run_record.json", "artifacts.json")


def requested(
    run_id: str = RUN, *, target: str = "saturn", workflow: str = "plan", source: str = "cli"
) -> r.RunRequested:
    """Somebody wants a run."""
    return r.RunRequested(
        run_id=run_id,
        target=target,
        workflow=workflow,
        source=source,
        command=("make", "täst"),
        workdir="/w",
        target_dir="/w/out/",
        metadata={"b": "2", "a": "1"},
        cpus=1,
    )


def intended(number: int = 1) -> r.SubmissionStarted:
    """An attempt is about to be given to Ray."""
    return r.SubmissionStarted(
        attempt=number,
        submission_id=RUN if number == 1 else f"{RUN}-a{number}",
        cluster_address=f"http://ray:{number}",
        session_name="session_1",
        entrypoint="python entrypoint.py",
    )


def submitted(number: int = 1) -> r.RunSubmitted:
    """Ray has the attempt."""
    return r.RunSubmitted(attempt=number, submission_id=RUN, session_name="session_2", how="answered")


def started(number: int = 1) -> r.RunStarted:
    """The command runs."""
    return r.RunStarted(attempt=number, source="wrapper", not_after="2026-11-23T07:00:00.000000Z", node_id="n1")


def completed(number: int = 1) -> r.RunCompleted:
    """The command ended well."""
    return r.RunCompleted(attempt=number, source="wrapper", exit_code=0, duration_s=1.5)


def failed(number: int = 1) -> r.RunFailed:
    """The command did not."""
    return r.RunFailed(attempt=number, source="ray", exit_code=3, kind="user", message="it broke", error_type="E")


def lost(number: int = 1) -> r.RunLost:
    """Nobody knows what became of it."""
    return r.RunLost(
        attempt=number,
        reason="cluster_restarted",
        never_started=False,
        asked="GET job",
        answered="404",
        message="the cluster has forgotten it",
    )


def recovered(number: int = 1) -> r.RunRecovered:
    """It has shown up again."""
    return r.RunRecovered(attempt=number, message="there it is")


def artifact(name: str, size_bytes: int = 1) -> r.ArtifactSeen:
    """A file in the target directory."""
    modified = "2026-11-23T06:00:00.000000Z"
    return r.ArtifactSeen(name=name, kind="file", size_bytes=size_bytes, sha256="0" * 64, modified_at=modified)


def indexed(*names: str, page: int = 1, pages: int = 1, omitted: Sequence[str] = ()) -> r.ArtifactsIndexed:
    """One page of what lies in the target directory."""
    files = tuple(artifact(name) for name in names)
    return r.ArtifactsIndexed(page=page, pages=pages, files=files, omitted=tuple(omitted))


def cancelled(how: str = "stopped") -> r.RunCancelled:
    """It was ended before it ended."""
    return r.RunCancelled.made_of({"attempt": 1, "source": "ray", "how": how})


BLOCKED = r.RunBlocked(reason="no_cluster", message="start a cluster")
ADOPTED = r.RunAdopted(
    run_id=RUN,
    attempt=2,
    submission_id=f"{RUN}-a2",
    session_name="session_1",
    cluster_address="http://ray:1",
    target="saturn",
    workflow="plan",
    command=("make",),
    workdir="/w",
    target_dir="/w/out",
    entrypoint="python entrypoint.py",
)
FORKED = r.RunForked(
    **asdict(requested(run_id=f"{RUN[:-8]}0000f04c")),
    parent=f"run/{RUN}",
    parent_head=f"3:{'A' * 43}",
    answers={"op_1": "retry"},
)
IMPORTED = r.RunImported(
    run_id=RUN,
    target="saturn",
    workflow="plan",
    source="manual_cli",
    command=("make",),
    workdir="/w",
    target_dir="/w/out",
    metadata={"a": "1"},
    created_at="2025-03-04T05:06:07.000000Z",
    updated_at="2025-03-04T05:16:07.000000Z",
    status="failed",
    old_status="failed",
    message="it broke",
    cluster_address="http://ray:1",
    submission_id=RUN,
    root="/old",
    files={"run_record.json": "2" * 64},
)
REPAIR = {"offset": 10, "length": 3, "sha256": "0" * 64, "kept": "events.jsonl.torn-10"}

BOUND = (Bound("lease-00000000a1", "u250", 7), Bound("lease-00000000a2", "x60", 1))
WAITING = r.RunWaiting(claim_id="claim-00000000a1", wish=LeaseWish("ada", ("u250", "x60")), message="it waits for u250")
LEASED = r.LeaseBound(claim_id="claim-00000000a1", leases=BOUND)
UNBOUND = r.LeaseUnbound(leases=BOUND, reason="the run has ended")
CHECKPOINT = {"fold": 0, "files": {"run_record.json": "0" * 64}, "trail_from": 1, "trail": ["0/status=abcd"]}

RUN_EVENTS: tuple[r.RunEvent, ...] = (
    requested(),
    BLOCKED,
    r.RunUnblocked(),
    r.DryRunRecorded(entrypoint="python entrypoint.py", message="would have"),
    intended(),
    intended(2),
    submitted(),
    r.SubmissionFailed(attempt=1, http_status=500, message="never"),
    r.PendingExplained(attempt=1, reason="resources", message="no node has that much"),
    started(),
    started(2),
    completed(),
    failed(),
    r.AttemptFailed(attempt=1, source="ray", kind="never_started", message="no node", exit_code=1),
    r.CancelRequested(reason="timeout"),
    r.CancelEscalated(attempt=1, how="reaper", message="it did not stop"),
    cancelled(),
    lost(),
    recovered(),
    r.AnomalySeen(what="two_jobs", message="there are two"),
    ADOPTED,
    FORKED,
    IMPORTED,
    r.ArtifactsImported(page=1, pages=1, files=(artifact("a.txt"),), indexed_at="2025-03-04T05:17:00.000000Z"),
    r.LogsCaptured(attempt=1, sha256="1" * 64, size_bytes=12, truncated=True),
    indexed("a.txt", "b/c.txt", pages=2),
    indexed("d.txt", page=2, pages=2, omitted=["secret: is a link"]),
    indexed(),
    r.RunLogRepaired.made_of(REPAIR),
    WAITING,
    LEASED,
    UNBOUND,
    r.RunSealed(reason="handed over"),
    r.RunCheckpointed.made_of(CHECKPOINT),
)
"""At least one of each event of a run."""

CLUSTER_STARTED = c.ClusterStarted(
    address="127.0.0.1:6379",
    dashboard_url="http://127.0.0.1:8265",
    session_name="session_1",
    ray_version="2.60.0",
    pid=17,
    pid_started=18,
    boot_id="boot",
    token_path="/t/token",
    temp_dir="/t",
    argv=("ray", "start"),
)
CLUSTER_IMPORTED = c.ClusterImported(
    status="active",
    old_status="active",
    address="127.0.0.1:6379",
    dashboard_url="http://127.0.0.1:8265",
    namespace="lab",
    started_at="2025-03-04T05:06:07.000000Z",
    root="/old",
    files={"cluster/bootstrap.json": "3" * 64},
)

CLUSTER_EVENTS: tuple[c.ClusterEvent, ...] = (
    c.StartRequested(host="127.0.0.1", namespace="merlin", durable=True, directory="/t"),
    CLUSTER_STARTED,
    c.StartFailed(reason="ray_missing", message="install Ray"),
    c.StartFailed(reason="head_failed", message="the port is taken"),
    c.ClusterAttached(dashboard_url="http://ray:8265", session_name="session_9", ray_version="2.60.0", namespace="lab"),
    c.StopRequested(),
    c.ClusterStopped(how="terminated"),
    c.ClusterUnreachable(kind="timeout", message="no answer within 5 s"),
    c.ClusterReachable(session_name="session_1"),
    c.SessionChanged(old="session_1", new="session_2"),
    CLUSTER_IMPORTED,
    c.ClusterLogRepaired.made_of(REPAIR),
    c.ClusterCheckpointed.made_of(CHECKPOINT),
)
"""At least one of each event of a cluster."""


def kinds(union: object) -> set[type]:
    """Give the classes of a union of events."""
    return set(get_args(get_args(union)[0]) or get_args(union))


def at(seq: int) -> str:
    """Give the time at which event `seq` of an example was recorded."""
    return f"2026-11-23T08:{seq // 60:02d}:{seq % 60:02d}.000000Z"


def recorded(events: Iterable[r.RunEvent]) -> list[Recorded[r.RunEvent]]:
    """Give the events as a log would."""
    return [Recorded(seq, at(seq), "ada@lab", "cli", event) for seq, event in enumerate(events, 1)]


def run_after(*events: r.RunEvent) -> RunRecord | None:
    """Fold the events of a run."""
    record: RunRecord | None = None
    for each in recorded(events):
        record = evolve(record, each)
    return record


def the_run_after(*events: r.RunEvent) -> RunRecord:
    """Fold the events of a run that has begun."""
    record = run_after(*events)
    assert record
    return record


def cluster_after(*events: c.ClusterEvent) -> ClusterRecord:
    """Fold the events of the cluster."""
    record = NOT_STARTED
    for seq, event in enumerate(events, 1):
        record = evolve_cluster(record, Recorded(seq, at(seq), "ada@lab", "cli", event))
    return record


histories = st.lists(st.sampled_from(RUN_EVENTS[:-1]), max_size=15)
"""Any events in any order: a fold refuses nothing. Checkpoints come by themselves, and tell the truth."""


class Books:
    """A state root with all that writes to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = FileLog(StateLayout(root), disk=unsynced(), acknowledged=stamps(root))
        self.index = Index(root, sync=False)
        self.publisher = Publisher(self.log, root, self.index, unsynced())

    def append(self, stream: str, *events: Fact) -> None:
        """Append, as everybody should, but do not publish."""
        _, head = self.publisher.fold(stream)
        with self.publisher.appending(stream, head):
            recorded = [event.checked().recorded_by("ada@lab", "cli") for event in events]
            closing = self.publisher.closing(stream, head, events)
            self.log.append(stream, recorded, expected=head, closing=closing)

    def change(self, run_id: str, *events: r.RunEvent) -> None:
        """Append to a run, and publish it."""
        self.append(run_stream(run_id), *events)
        self.publisher.publish(run_stream(run_id))

    def head(self, run_id: str = RUN) -> eventlog.Head:
        """Give the head of a run's log."""
        return self.log.head(run_stream(run_id))

    def content(self) -> dict[str, bytes]:
        """Give every projected file."""
        paths = [*self.root.glob("runs/*/*.json"), *self.root.glob("cluster/*.json")]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(paths)}
