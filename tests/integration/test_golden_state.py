"""Does this release fold what earlier releases recorded, to the same bytes?

The state roots in tests/golden are never changed. A release with new events or another fold adds its own beside them;
where a fold changed on purpose, the files of the older ones are expected as `<name>.fold-<N>`.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from eventlog import FileLog
from projections.events import cluster, lease, run
from projections.events.fact import Checkpointed, Fact, Repaired
from projections.files import Publisher
from projections.layout import CLUSTER, RESOURCES, StateLayout
from projections.rebuilding import rebuild
from tests.examples import unsynced
from tests.lease_examples import LEASE_EVENTS
from tests.run_examples import LEASED, UNBOUND, WAITING, kinds

GOLDEN = Path(__file__).parent.parent / "golden"
BEGIN_NS = 1795418031_123_456_789  # 2026-11-23T07:13:51.123456789Z
RUN = "saturn_opu_v128-20261123071351-0badcafe"
SESSION = "session_2026-11-23_07-00-00_000000_1"


def write_state(root: Path, golden: str) -> None:
    """Write a golden state: together they have every event there is, at fixed times and with fixed ids."""
    seconds, numbers = itertools.count(), itertools.count(1)
    log = FileLog(
        StateLayout(root),
        disk=unsynced(),
        clock=lambda: BEGIN_NS + next(seconds) * 10**9,
        new_id=lambda: f"019ab0c0-0000-7000-8000-{next(numbers):012x}",
    )
    publisher = Publisher(log, root, disk=unsynced())
    for stream, events in STATES[golden]().items():
        for event in events:
            log.append(stream, [event.checked().recorded_by("ada@lab3", "cli", corr=stream)])
        publisher.publish(stream)
    log.close()


def all_that_is_ours() -> Mapping[str, Sequence[Fact]]:
    return {CLUSTER: life_of_the_cluster(), **{f"run/{RUN}{n}": life for n, life in lives().items()}}


def what_was_imported() -> Mapping[str, Sequence[Fact]]:
    imported = cluster.ClusterImported(
        status="active",
        old_status="active",
        address="127.0.0.1:6379",
        dashboard_url="http://127.0.0.1:8265",
        namespace="merlin",
        started_at="2025-03-04T05:06:07.890123Z",
        root="/srv/old",
        files={"cluster/bootstrap.json": "ef" * 32},
    )
    run_imported = run.RunImported(
        run_id=RUN,
        target="t",
        workflow="targetgen_execute",
        source="manual_cli",
        command=("true",),
        workdir="/srv",
        target_dir="/srv/out",
        metadata={"a": "b"},
        created_at="2025-03-04T05:06:07.890123Z",
        updated_at="2025-03-04T05:16:07.000000Z",
        status="error",
        old_status="error",
        message="Job failed",
        cluster_address="http://127.0.0.1:8265",
        submission_id=RUN,
        root="/srv/old",
        files={"run_record.json": "ef" * 32},
    )
    file = run.ArtifactSeen(name="a.json", kind="json", size_bytes=3, sha256="", modified_at="")
    index = run.ArtifactsImported(page=1, pages=1, files=(file,), indexed_at="2025-03-04T05:17:00.000000Z")
    return {
        CLUSTER: [imported],
        f"run/{RUN}": [run_imported, run.LogsCaptured(attempt=1, sha256="cd" * 32, size_bytes=17), index],
    }


def what_is_leased() -> Mapping[str, Sequence[Fact]]:
    wanted = lives()["1"][0]
    life = [wanted, WAITING, LEASED, intended(1), submitted(1), UNBOUND]
    return {RESOURCES: LEASE_EVENTS[:-1], f"run/{RUN}8": life}


STATES = {"0.1-state": all_that_is_ours, "0.1-imported": what_was_imported, "0.1-leases": what_is_leased}


def life_of_the_cluster() -> Sequence[Fact]:
    started = cluster.ClusterStarted(
        address="127.0.0.1:6379",
        dashboard_url="http://127.0.0.1:8265",
        session_name=SESSION,
        ray_version="2.60.0",
        pid=4242,
        pid_started=1234567,
        boot_id="8a0d9f2e-0000-4000-8000-000000000000",
        token_path="/srv/merlin/cluster/head/token",
        temp_dir="/srv/merlin/cluster/head/ray",
        argv=("ray", "start", "--head"),
    )
    wish = cluster.StartRequested(host="127.0.0.1", namespace="merlin", durable=False, directory="/srv/merlin/head")
    return [
        wish,
        cluster.StartFailed(reason="head_failed", message="port 6379 is taken"),
        wish,
        started,
        cluster.ClusterUnreachable(kind="refused", message="no answer"),
        cluster.ClusterReachable(session_name=SESSION),
        cluster.SessionChanged(old=SESSION, new="session_2"),
        cluster.StopRequested(),
        cluster.ClusterStopped(how="terminated"),
        cluster.ClusterAttached(
            dashboard_url="http://lab:8265", session_name="session_3", ray_version="2.60.0", namespace="lab"
        ),
    ]


def lives() -> dict[str, Sequence[Fact]]:
    """Give the lives of some runs, which together have every event."""
    wanted = run.RunRequested(
        run_id=RUN,
        target="saturn_opu_v128",
        workflow="bringup ☃",
        source="manual_cli",
        command=("make", "test", "a b", ""),
        workdir="/srv/bringup",
        target_dir="/srv/bringup/out",
        metadata={"ticket": "42"},
        env={"LANES": "4"},
        cpus=1.0,
        gpus=0.5,
        resources={"u250": 1.0},
        label_selector={"board": "in(u250,vcu118)"},
        working_dir="/srv/bringup",
        timeout_s=3600.0,
        stop_grace_s=5.0,
        retries_max=2,
        retry_on_failure=True,
        captures=("*.json",),
        idempotency_key="nightly-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    outcome = {"attempt": 1, "source": "ray", "ray_status": "FAILED", "ray_message": "it", "node_id": "n1"}
    file = run.ArtifactSeen(
        name="made.json",
        kind="json",
        size_bytes=3,
        sha256="ab" * 32,
        modified_at="2026-11-23T07:13:51.000000Z",
        captured=True,
    )
    begun = [wanted, intended(1), submitted(1), run.RunStarted(attempt=1, source="wrapper", host="h", boottime_s=1.5)]
    return {
        "1": [
            wanted,
            run.RunBlocked(reason="no_cluster", message="start one"),
            run.RunUnblocked(),
            intended(1),
            submitted(1),
            run.PendingExplained(attempt=1, reason="busy", message="everything is taken"),
            run.RunStarted(attempt=1, source="ray", not_before="2026-11-23T07:13:51.000000Z", node_id="n1"),
            run.AttemptFailed.made_of({**outcome, "kind": "infrastructure", "exit_code": None}),
            intended(2),
            submitted(2),
            run.LogsCaptured(attempt=2, sha256="cd" * 32, size_bytes=17),
            run.ArtifactsIndexed(page=1, pages=2, files=(file,), omitted=("link: leads out",)),
            run.ArtifactsIndexed(page=2, pages=2, files=(replace(file, name="log.txt"),)),
            run.RunCompleted(
                attempt=2, source="wrapper", exit_code=0, duration_s=1.25, not_after="2026-11-23T07:14:00.000000Z"
            ),
            run.AnomalySeen(what="alive_after_end", message="Ray says RUNNING"),
        ],
        "2": [
            *begun,
            run.CancelRequested(),
            run.CancelEscalated(attempt=1, how="reaper", message="it did not stop"),
            run.RunCancelled(attempt=1, source="wrapper", how="stopped", exit_code=-15),
        ],
        "3": [*begun, lost(), run.RunRecovered(attempt=1, message="it is back"), lost()],
        "4": [
            *begun,
            run.CancelRequested(reason="timeout"),
            run.RunFailed.made_of({**outcome, "kind": "timeout"}),
        ],
        "5": [wanted, intended(1), run.SubmissionFailed(attempt=1, http_status=400, message="no")],
        "6": [wanted, run.DryRunRecorded(entrypoint="sh -c true", message="nothing was submitted")],
        "7": [
            run.RunAdopted(
                run_id=f"{RUN}7",
                attempt=1,
                submission_id=f"{RUN}7",
                session_name=SESSION,
                cluster_address="http://127.0.0.1:8265",
                target="t",
                workflow="w",
                command=("true",),
                workdir="/srv",
                target_dir="/srv/out",
                entrypoint="exec true",
                metadata={"a": "b"},
            ),
        ],
        "fork": [
            run.RunForked(
                **asdict(wanted) | {"run_id": f"{RUN}fork"},
                parent=f"run/{RUN}1",
                parent_head=f"5:{'A' * 43}",
                answers={"op_1": "retry"},
            ),
        ],
    }


def intended(attempt: int) -> Fact:
    return run.SubmissionStarted(
        attempt=attempt,
        submission_id=RUN if attempt == 1 else f"{RUN}-a{attempt}",
        cluster_address="http://127.0.0.1:8265",
        session_name=SESSION,
        entrypoint="exec true",
        package="gcs://_ray_pkg_ab.zip",
    )


def submitted(attempt: int) -> Fact:
    return run.RunSubmitted(attempt=attempt, submission_id=RUN, session_name=SESSION, how="answered")


def lost() -> Fact:
    return run.RunLost(
        attempt=1, reason="cluster_restarted", never_started=False, asked="job x", answered="unknown", message="gone"
    )


def content(root: Path) -> dict[str, bytes]:
    kept = (".json", ".jsonl")
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.suffix in kept}


@pytest.mark.parametrize("name", STATES)
def test_the_golden_state_folds_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    root = tmp_path / "state"
    shutil.copytree(GOLDEN / name, root)
    golden = content(root)
    log = FileLog(StateLayout(root), disk=unsynced())
    assert {verdict.state for verdict in rebuild(log, root, check=True)} == {"same"}
    for path in golden:
        if path.endswith(".json"):
            (root / path).unlink()
    assert {verdict.state for verdict in rebuild(log, root)} == {"written"}
    assert content(root) == golden


@pytest.mark.parametrize("name", STATES)
def test_this_release_writes_what_the_golden_state_has(tmp_path: Path, name: str) -> None:
    write_state(tmp_path, name)
    assert content(tmp_path) == content(GOLDEN / name)


@pytest.mark.parametrize("union", [run.RunEvent, cluster.ClusterEvent, lease.LeaseEvent])
def test_the_golden_state_has_every_event(union: object) -> None:
    happened = {type(event) for state in STATES.values() for life in state().values() for event in life}
    # Repaired logs, and the golden checkpoints, have their own tests.
    elsewhere = (Repaired, Checkpointed, run.RunSealed)
    assert {kind for kind in kinds(union) if not issubclass(kind, elsewhere)} <= happened
