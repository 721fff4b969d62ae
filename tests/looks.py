"""What do runs, and looks at the world, look like in the tests of the deciders?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack

from msgspec.structs import replace

from merlin_es.deciders.observation import Seen
from merlin_es.ports import Ended, RayJob, RayStatus, Started, Witness
from projections.events.recorded import Recorded
from projections.events.run import (
    AttemptFailed,
    CancelRequested,
    RunAdopted,
    RunEvent,
    RunRequested,
    RunStarted,
    RunSubmitted,
    SubmissionStarted,
)
from projections.run_record import RunRecord, evolve

RUN = "saturn-20261123080000-abcdef01"
HOST_BOOT = "boot-of-this-host"
COMMAND_ERROR = "JOB_ENTRYPOINT_COMMAND_ERROR"
ACTOR_DIED = "JOB_SUPERVISOR_ACTOR_DIED"
_BEGIN = datetime(2026, 11, 23, 8, tzinfo=UTC)


class JobDetails(TypedDict, total=False):
    """What else Ray may say of a job."""

    submission_id: str
    message: str
    exit_code: int | None
    node_id: str | None
    ended_ms: int


class LookDetails(TypedDict, total=False):
    """What else may be seen."""

    session_name: str
    previous: str | None
    dead_nodes: frozenset[str]
    pending_reason: tuple[str, str] | None
    kicked_for_s: float
    boot_id: str
    boottime_s: float
    seq: int


def at(seconds: float) -> str:
    """Give the time so many seconds after the run was requested."""
    return (_BEGIN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def milliseconds(seconds: float) -> int:
    """Give the same moment as Ray does."""
    return int((_BEGIN.timestamp() + seconds) * 1000)


def after(record: RunRecord | None, *events: RunEvent, second: float) -> RunRecord:
    """Give the run after `events`, all recorded at one moment."""
    for event in events:
        record = evolve(record, Recorded((record.seq if record else 0) + 1, at(second), "ada@lab", "cli", event))
    assert record
    return record


def requested(**wish: object) -> RunRecord:
    """Give a run that somebody wants since second 0."""
    given = {"run_id": RUN, "target": "saturn", "workflow": "bringup", "source": "cli", "command": ("make", "test")}
    event = RunRequested.made_of({**given, "workdir": "/srv", "target_dir": "/srv/saturn", **wish})
    return after(None, event, second=0)


def intended(record: RunRecord, second: float = 1, session: str = "s1") -> RunRecord:
    """Give the run with one more attempt, which is about to be submitted."""
    number = len(record.attempts) + 1
    event = SubmissionStarted(
        attempt=number,
        submission_id=RUN if number == 1 else f"{RUN}-a{number}",
        cluster_address="http://head:8265",
        session_name=session,
        entrypoint="true",
    )
    return after(record, event, second=second)


def submitted(record: RunRecord, second: float = 2, session: str = "s1") -> RunRecord:
    """Give the run with one more attempt, which Ray has taken."""
    record = intended(record, second - 1, session)
    assert record.attempt
    number, name = record.attempt.number, record.attempt.submission_id
    event = RunSubmitted(attempt=number, submission_id=name, session_name=session, how="answered")
    return after(record, event, second=second)


def running(record: RunRecord, second: float = 3, **start: object) -> RunRecord:
    """Give the run with one more attempt, which runs."""
    record = submitted(record, second - 1)
    assert record.attempt
    event = RunStarted.made_of({"attempt": record.attempt.number, "source": "ray", "node_id": "n1", **start})
    return after(record, event, second=second)


def cancelling(record: RunRecord, second: float, reason: str = "asked") -> RunRecord:
    """Give the run after somebody, or its time, wanted it to end."""
    return after(record, CancelRequested.made_of({"reason": reason}), second=second)


def repeated(record: RunRecord, second: float) -> RunRecord:
    """Give the run after its attempt failed and another one is to follow."""
    assert record.attempt
    event = AttemptFailed(attempt=record.attempt.number, source="ray", kind="never_started", exit_code=7)
    return after(record, event, second=second)


def adopted(attempt: int = 1, second: float = 5) -> RunRecord:
    """Give a run of which nothing was known but its job."""
    event = RunAdopted(
        run_id=RUN,
        attempt=attempt,
        submission_id=RUN if attempt == 1 else f"{RUN}-a{attempt}",
        session_name="s1",
        cluster_address="http://head:8265",
        target="saturn",
        workflow="bringup",
        command=("make", "test"),
        workdir="/srv",
        target_dir="/srv/saturn",
        entrypoint="true",
    )
    return after(None, event, second=second)


def started(second: float = 3, boot_id: str = HOST_BOOT) -> Started:
    """Give what the wrapper writes when it starts the command."""
    return Started("board7", 4711, at(second), boot_id, 1000.0 + second)


def ended(exit_code: int | None = 0, second: float = 10, stopped_by: str | None = None) -> Ended:
    """Give what the wrapper writes when the command has ended; without a code what its guard writes."""
    how = "wrapper_killed" if exit_code is None else "exited"
    return Ended(exit_code, "wrapper_killed" if how == "wrapper_killed" else "exited", at(second), 7.0, stopped_by)


def ran(exit_code: int | None = 0, second: float = 10, stopped_by: str | None = None) -> Witness:
    """Give the files of a command that was started and has ended."""
    return Witness(started(), ended(exit_code, second, stopped_by))


def job(status: RayStatus, error_type: str | None = None, **more: Unpack[JobDetails]) -> RayJob:
    """Give what Ray says of the first attempt; once Ray has run a job it names its node."""
    has_run = status in ("RUNNING", "SUCCEEDED", "STOPPED") or error_type in (COMMAND_ERROR, ACTOR_DIED)
    said = RayJob(RUN, status, "true", error_type=error_type, node_id="n1" if has_run else None)
    return replace(said, **more)


def failed(code: int, **more: Unpack[JobDetails]) -> RayJob:
    """Give what Ray says of a command that ended with a code."""
    said = job("FAILED", COMMAND_ERROR, exit_code=code, message=f"failed with exit code {code}")
    return replace(said, **more)


def look(second: float, seen: RayJob | None, witness: Witness | None = None, **more: Unpack[LookDetails]) -> Seen:
    """Give a look at which Ray was asked; without a job it does not know the attempt."""
    plain = Seen(
        at=at(second),
        asked=True,
        job=seen,
        session_name="s1",
        witness=witness or Witness(),
        previous=at(second - 1),
        boot_id=HOST_BOOT,
        boottime_s=1000.0 + second,
    )
    return replace(plain, **more)


def no_answer(second: float, witness: Witness | None = None, **more: Unpack[LookDetails]) -> Seen:
    """Give a look at which Ray could not be asked."""
    return replace(look(second, None, witness, **more), asked=False, session_name="")
