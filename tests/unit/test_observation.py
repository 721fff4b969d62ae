"""What does a look at the world say of a run, for every row of the table in merlin_es/deciders/README.md?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import pytest
from msgspec.structs import replace

from merlin_es.deciders.failure import FIRST_EXECUTION_LIMIT_S
from merlin_es.deciders.look import Act
from merlin_es.deciders.observation import PENDING_OVERDUE_S, Seen, decide, seconds
from merlin_es.ports import RayJob, Witness
from projections.events.fact import Fact
from projections.events.run import (
    AnomalySeen,
    AttemptFailed,
    CancelRequested,
    Outcome,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunLost,
    RunStarted,
    RunSubmitted,
    RunUnblocked,
    SubmissionFailed,
)
from projections.run_record import STATUSES, RunRecord
from tests.examples import ROOT
from tests.looks import (
    ACTOR_DIED,
    COMMAND_ERROR,
    RUN,
    adopted,
    after,
    at,
    cancelling,
    ended,
    failed,
    intended,
    job,
    look,
    milliseconds,
    no_answer,
    ran,
    repeated,
    requested,
    running,
    started,
    submitted,
)

README = ROOT / "merlin_es" / "deciders" / "README.md"
STARTED = Witness(started())
REFUSED = Witness(refused="cancelled")
SECOND_EXECUTION = Witness(started(), refused="already_started")
KILLED = ran(None)
NEVER_STARTED = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"


def lost(record: RunRecord, seen: Seen) -> RunRecord:
    """Give the run as it is when this look has found it lost."""
    record = after(record, *decide(record, seen).events, second=20)
    assert record.status == "lost"
    return record


def stopping(record: RunRecord, *escalations: float) -> RunRecord:
    """Give the run when it was asked to end at second 20, and other ways were tried at some seconds after."""
    record = cancelling(record, 20)
    for second in escalations:
        record = after(record, *decide(record, look(second, job_of(record))).events, second=second)
    assert record.escalations == len(escalations)
    return record


def job_of(record: RunRecord) -> RayJob:
    assert record.attempt
    return job("RUNNING" if record.attempt.status == "running" else "PENDING")


LOST_WITH_CLUSTER = lost(running(requested()), look(20, None, STARTED, session_name="s2"))
LOST_IN_SILENCE = lost(running(requested()), look(60, job("FAILED", ACTOR_DIED, ended_ms=milliseconds(20)), STARTED))
LOST_WITH_NODE = lost(
    running(requested()), look(60, job("RUNNING"), STARTED, dead_nodes=frozenset({"n1"}), kicked_for_s=31)
)
REPEATABLE = {"retries_max": 1}
E = TypeVar("E", bound=Fact)


@dataclass(frozen=True)
class Row:
    """One row of the table: a run, a look at it, and what comes of that."""

    fact: str
    record: RunRecord
    seen: Seen
    status: str
    events: str = ""
    act: Act = "nothing"

    @property
    def seen_at(self) -> float:
        """When the look was, in seconds since the run was requested."""
        return seconds(at(0), self.seen.at)


# fmt: off
ROWS = [
    # Before Ray has it.
    Row("a run that nobody submitted is to be submitted", requested(), no_answer(5), "requested", "", "intend"),
    Row("a run that is not wanted any more is never submitted",
        cancelling(requested(), 4), no_answer(5), "cancelled", "cancelled"),
    Row("an intended attempt that Ray does not know is submitted, with the same id",
        intended(requested()), look(5, None), "requested", "", "submit"),
    Row("an intended attempt is left alone while Ray cannot be asked",
        intended(requested()), no_answer(5), "requested"),
    Row("an intended attempt that Ray has was submitted",
        intended(requested()), look(5, job("PENDING")), "submitted", "submitted"),
    Row("an intended attempt that Ray has already ended goes through all its states",
        intended(requested()), look(15, job("SUCCEEDED"), ran()), "completed", "submitted started completed"),
    Row("an intended attempt whose wrapper has started it was submitted, though Ray forgot it",
        intended(requested()), look(5, None, STARTED, session_name="s2"), "lost", "submitted started lost"),
    Row("an intended attempt whose wrapper has ended it was submitted, though Ray forgot it",
        intended(requested()), look(15, None, ran(3)), "failed", "submitted started failed"),
    Row("an intended attempt that is not wanted any more, and that nobody has, is cancelled and kept from starting",
        cancelling(intended(requested()), 4), look(5, None), "cancelled", "cancelled", "stop"),
    Row("an intended attempt that is not wanted any more is kept from starting while Ray cannot be asked",
        cancelling(intended(requested()), 4), no_answer(5), "requested", "", "stop"),
    # PENDING.
    Row("a job that waits is submitted", submitted(requested()), look(5, job("PENDING")), "submitted"),
    Row("why a job waits is told after a while",
        submitted(requested()), look(13, job("PENDING"), pending_reason=("busy", "taken")),
        "submitted", "pending_explained"),
    Row("why a job waits is not told at once",
        submitted(requested()), look(12, job("PENDING"), pending_reason=("busy", "taken")), "submitted"),
    Row("that nothing there is can run a job is told soon",
        submitted(requested()), look(6, job("PENDING"), pending_reason=("no_such_label", "none")),
        "submitted", "pending_explained"),
    Row("a job that waits for longer than Ray would let it is an anomaly",
        submitted(requested()), look(PENDING_OVERDUE_S + 3, job("PENDING")), "submitted", "anomaly_seen"),
    Row("a wrapper that has started is believed when Ray still says PENDING",
        submitted(requested()), look(5, job("PENDING"), STARTED), "running", "started"),
    Row("a job that waits and is to end is stopped by Ray and by the tombstone",
        stopping(submitted(requested())), look(24, job("PENDING")), "submitted", "", "stop"),
    Row("a job that waits and that Ray does not stop has its supervisor killed",
        stopping(submitted(requested())), look(24.5, job("PENDING")), "submitted", "cancel_escalated", "reap"),
    Row("a job that waits while its supervisor is killed is kept from starting",
        stopping(submitted(requested()), 25), look(45, job("PENDING")), "submitted", "", "stop"),
    Row("a job that still waits after its supervisor was killed has it killed again",
        stopping(submitted(requested()), 25), look(45.5, job("PENDING")), "submitted", "cancel_escalated", "reap"),
    Row("a job that still waits after its supervisor was killed five times is cancelled by its tombstone",
        stopping(submitted(requested()), 25, 50, 100, 200, 300), look(400, job("PENDING")),
        "cancelled", "cancelled", "stop"),
    # RUNNING.
    Row("a job that Ray says runs was started", submitted(requested()), look(5, job("RUNNING")), "running", "started"),
    Row("a job that runs goes on", running(requested()), look(5, job("RUNNING"), STARTED), "running"),
    Row("a command that ran for too long is stopped",
        running(requested(timeout_s=60)), look(63.5, job("RUNNING")), "running", "cancel_requested", "stop"),
    Row("a command may run for as long as it was given",
        running(requested(timeout_s=60)), look(63, job("RUNNING")), "running"),
    Row("a command that ran for too long is stopped while Ray cannot be asked",
        running(requested(timeout_s=60)), no_answer(64), "running", "cancel_requested", "stop"),
    Row("a job that ended on time is not stopped for being seen late",
        running(requested(timeout_s=60)), look(99, job("SUCCEEDED"), ran()), "completed", "completed"),
    Row("a failure that was seen after its time is still repeated",
        running(requested(timeout_s=60, retry_on_failure=True, **REPEATABLE)), look(99, failed(3), ran(3)),
        "requested", "attempt_failed"),
    Row("a wrapper that has just ended leaves Ray the time to notice",
        running(requested()), look(40, job("RUNNING"), ran()), "running"),
    Row("a wrapper that ended long ago has Ray woken",
        running(requested()), look(40.5, job("RUNNING"), ran()), "running", "", "kick"),
    Row("a wrapper that ended long ago is believed when Ray does not wake up",
        running(requested()), look(40.5, job("RUNNING"), ran(3), kicked_for_s=31), "failed", "failed"),
    Row("a guard that cleaned up long ago is believed when Ray does not wake up",
        running(requested()), look(40.5, job("RUNNING"), KILLED, kicked_for_s=31), "failed", "failed"),
    Row("a wrapper whose clock is far ahead is believed too",
        running(requested()), look(12, job("RUNNING"), ran(0, 4000), kicked_for_s=31), "completed", "completed"),
    Row("a job on a dead machine has Ray woken",
        running(requested()), look(40, job("RUNNING"), STARTED, dead_nodes=frozenset({"n1"})), "running", "", "kick"),
    Row("a job on a dead machine is lost when Ray does not wake up",
        running(requested()), look(40, job("RUNNING"), STARTED, dead_nodes=frozenset({"n1"}), kicked_for_s=31),
        "lost", "lost"),
    Row("a job on a dead machine has ended as its wrapper says",
        running(requested()), look(15, job("RUNNING"), ran(0), dead_nodes=frozenset({"n1"}), kicked_for_s=31),
        "completed", "completed"),
    Row("a command that ran for too long on a dead machine is lost, and not said to have been stopped",
        running(requested(timeout_s=10)),
        look(40, job("RUNNING"), STARTED, dead_nodes=frozenset({"n1"}), kicked_for_s=31),
        "lost", "lost"),
    Row("a job on a dead machine that was to end is given up",
        cancelling(running(requested()), 20),
        look(40, job("RUNNING"), STARTED, dead_nodes=frozenset({"n1"}), kicked_for_s=31),
        "cancelled", "lost cancelled", "stop"),
    Row("another machine's death says nothing",
        running(requested()), look(40, job("RUNNING"), STARTED, dead_nodes=frozenset({"n2"}), kicked_for_s=31),
        "running"),
    Row("a wrapper that refused is believed when Ray says RUNNING for ever",
        cancelling(submitted(requested()), 4), look(5, job("RUNNING"), REFUSED, kicked_for_s=31),
        "cancelled", "cancelled"),
    Row("a wrapper that has just refused leaves Ray the time to notice",
        cancelling(submitted(requested()), 4), look(5, job("RUNNING"), REFUSED), "submitted", "", "kick"),
    Row("a job that runs and is to end is stopped",
        stopping(running(requested())), look(28, job("RUNNING"), STARTED), "running", "", "stop"),
    Row("a job that outlives its grace is stopped once more",
        stopping(running(requested())), look(28.5, job("RUNNING"), STARTED), "running", "cancel_escalated", "stop"),
    Row("a job with a longer grace has a longer grace",
        stopping(running(requested(stop_grace_s=60))), look(85, job("RUNNING"), STARTED), "running", "", "stop"),
    Row("a job that is stopped in vain has its supervisor killed",
        stopping(running(requested()), 29), look(37.5, job("RUNNING"), STARTED), "running", "cancel_escalated", "reap"),
    Row("a job that nothing ends is not said to have ended",
        stopping(running(requested()), 29, 40, 50, 60, 70, 80), look(90, job("RUNNING"), STARTED),
        "running", "anomaly_seen", "stop"),
    # SUCCEEDED.
    Row("a job that Ray says succeeded is completed",
        running(requested()), look(15, job("SUCCEEDED"), ran()), "completed", "completed"),
    Row("a job that nobody saw run was started all the same",
        submitted(requested()), look(15, job("SUCCEEDED")), "completed", "started completed"),
    Row("a job that succeeded before it could be stopped is completed",
        cancelling(running(requested()), 9), look(15, job("SUCCEEDED"), ran()), "completed", "completed"),
    # FAILED, and the command was run.
    Row("a command that failed is a failed run",
        running(requested()), look(15, failed(3), ran(3)), "failed", "failed"),
    Row("a command that failed on a machine without the state root is a failed run",
        running(requested()), look(15, failed(3)), "failed", "failed"),
    Row("a command that failed before anybody saw it run was started all the same",
        submitted(requested()), look(15, failed(3)), "failed", "started failed"),
    Row("a failed command is not repeated by itself",
        running(requested(**REPEATABLE)), look(15, failed(3), ran(3)), "failed", "failed"),
    Row("a failed command is repeated where that was asked for",
        running(requested(retry_on_failure=True, **REPEATABLE)), look(15, failed(3), ran(3)),
        "requested", "attempt_failed"),
    Row("a command that failed before it could be stopped is failed",
        cancelling(running(requested(retry_on_failure=True, **REPEATABLE)), 9), look(15, failed(3), ran(3)),
        "failed", "failed"),
    Row("a command that failed before it could be stopped, without the state root, is failed",
        cancelling(running(requested()), 9), look(15, failed(3)), "failed", "failed"),
    Row("a command that our signal ended is cancelled, whatever its code",
        cancelling(running(requested()), 9), look(15, failed(3), ran(3, 10, "SIGTERM")), "cancelled", "cancelled"),
    Row("a command that a signal ended, without the state root, is cancelled when it was to end",
        cancelling(running(requested()), 9), look(15, failed(143)), "cancelled", "cancelled"),
    Row("a command whose end could not be written has failed as Ray says",
        running(requested()), look(25, failed(3, ended_ms=milliseconds(10)), STARTED), "failed", "failed"),
    Row("a user's exit code 75 is a failure",
        running(requested()), look(15, failed(75)), "failed", "failed"),
    # FAILED, and the wrapper refused.
    Row("a wrapper that met the tombstone cancelled the run before it started",
        cancelling(submitted(requested()), 4), look(15, failed(75), REFUSED), "cancelled", "cancelled"),
    Row("a wrapper that met a tombstone which the ledger forgot cancelled the run before it started",
        submitted(requested()), look(15, failed(75), REFUSED), "cancelled", "cancelled"),
    Row("exit code 75 of a run that was to end is a refusal that could not be written",
        cancelling(submitted(requested()), 4), look(15, failed(75)), "cancelled", "cancelled"),
    Row("a second execution was refused, and the first one is followed",
        running(requested()), look(99, failed(76), SECOND_EXECUTION), "running"),
    Row("a second execution whose refusal could not be written is known by its exit code",
        running(requested()), look(99, failed(76), STARTED), "running"),
    Row("a user's exit code 76 is a failure",
        running(requested()), look(99, failed(76)), "failed", "failed"),
    Row("a second execution was refused, and the first one has ended",
        running(requested()), look(99, failed(76), Witness(started(), ended(), "already_started")),
        "completed", "completed"),
    Row("a second execution was refused, and the first one takes too long",
        running(requested(timeout_s=60)), look(99, failed(76), SECOND_EXECUTION),
        "running", "cancel_requested", "stop"),
    Row("a second execution was refused, and the first one is not heard of for a day",
        running(requested()), look(FIRST_EXECUTION_LIMIT_S + 4, failed(76), SECOND_EXECUTION), "lost", "lost"),
    Row("a second execution was refused, and the first one, which is to end, has time for that",
        cancelling(running(requested()), 20), look(28, failed(76), SECOND_EXECUTION), "running", "", "stop"),
    Row("a second execution was refused, and the first one, which was to end, is given up",
        cancelling(running(requested()), 20), look(28.5, failed(76), SECOND_EXECUTION),
        "cancelled", "lost cancelled", "stop"),
    # FAILED, and not by the command.
    Row("a job that Ray could not start never started",
        submitted(requested()), look(15, job("FAILED", NEVER_STARTED)), "failed", "failed"),
    Row("a job that never started is repeated",
        submitted(requested(**REPEATABLE)), look(15, job("FAILED", NEVER_STARTED)), "requested", "attempt_failed"),
    Row("a queued job whose machine died never started",
        submitted(requested(**REPEATABLE)), look(15, job("FAILED", ACTOR_DIED, node_id=None)),
        "requested", "attempt_failed"),
    Row("a job that never started and was to end is cancelled",
        cancelling(submitted(requested()), 9), look(15, job("FAILED", ACTOR_DIED, node_id=None)),
        "cancelled", "cancelled"),
    Row("a job that ended before its supervisor died has ended as its wrapper says",
        running(requested()), look(15, job("FAILED", ACTOR_DIED), ran(0)), "completed", "completed"),
    Row("a job whose processes the guard has ended has failed with what ran it",
        running(requested()), look(15, job("FAILED", ACTOR_DIED), KILLED), "failed", "failed"),
    Row("a job whose processes the guard has ended is repeated",
        running(requested(**REPEATABLE)), look(15, job("FAILED", ACTOR_DIED), KILLED), "requested", "attempt_failed"),
    Row("a job whose processes the guard has ended is cancelled when it was to end",
        cancelling(running(requested(**REPEATABLE)), 9), look(15, job("FAILED", ACTOR_DIED), KILLED),
        "cancelled", "cancelled"),
    Row("the guard is given time to speak, counted from the end and not from the start",
        running(requested()), look(5000, job("FAILED", ACTOR_DIED, ended_ms=milliseconds(4990)), STARTED), "running"),
    Row("a job of which nobody says how it ended is lost",
        running(requested(**REPEATABLE)), look(5000, job("FAILED", ACTOR_DIED, ended_ms=milliseconds(4989)), STARTED),
        "lost", "lost"),
    Row("a job of which nobody says how it ended is cancelled when it was to end",
        cancelling(running(requested()), 9), look(99, job("FAILED", ACTOR_DIED), STARTED), "cancelled", "cancelled"),
    Row("a job that ran where the state root is not seen may have done anything, and is lost",
        running(requested(**REPEATABLE)), look(99, job("FAILED", ACTOR_DIED)), "lost", "lost"),
    Row("a job that ran unseen where the state root is not seen is not repeated either",
        submitted(requested(**REPEATABLE)), look(99, job("FAILED", ACTOR_DIED)), "lost", "started lost"),
    # STOPPED.
    Row("a job that we stopped is cancelled",
        cancelling(running(requested()), 9), look(15, job("STOPPED"), ran(-15, 10, "SIGTERM")),
        "cancelled", "cancelled"),
    Row("a job that we stopped before it started is cancelled",
        cancelling(submitted(requested()), 9), look(15, job("STOPPED", node_id=None)), "cancelled", "cancelled"),
    Row("a job that was stopped because it took too long has failed",
        cancelling(running(requested(timeout_s=3)), 9, "timeout"), look(15, job("STOPPED"), ran(-15, 10, "SIGTERM")),
        "failed", "failed"),
    Row("a job that others stopped is cancelled by others",
        running(requested()), look(15, job("STOPPED"), ran(-15, 10, "SIGTERM")), "cancelled", "cancelled"),
    Row("a command that ended with 0 just before it was stopped is completed",
        cancelling(running(requested()), 9), look(15, job("STOPPED"), ran(0)), "completed", "completed"),
    Row("a command that failed just before it was stopped is failed",
        cancelling(running(requested()), 9), look(15, job("STOPPED"), ran(3)), "failed", "failed"),
    Row("a command that ended with 0 because it was told to stop is cancelled",
        cancelling(running(requested()), 9), look(15, job("STOPPED"), ran(0, 10, "SIGTERM")), "cancelled", "cancelled"),
    Row("a command that the signal reached before its wrapper is cancelled",
        cancelling(running(requested()), 9), look(15, job("STOPPED"), ran(-15)), "cancelled", "cancelled"),
    Row("a command that the signal reached before its wrapper is cancelled without Ray, too",
        cancelling(running(requested()), 9), no_answer(15, ran(143)), "cancelled", "cancelled"),
    Row("a stopped job whose guard has not spoken yet is not judged yet",
        cancelling(running(requested()), 9), look(15, job("STOPPED", ended_ms=milliseconds(14)), STARTED), "running"),
    Row("a stopped job whose guard does not speak is cancelled",
        cancelling(running(requested()), 9), look(25, job("STOPPED", ended_ms=milliseconds(14)), STARTED),
        "cancelled", "cancelled"),
    # A healthy Ray does not know it.
    Row("a job that Ray does not know has ended as its wrapper says",
        submitted(requested()), look(15, None, ran(3)), "failed", "started failed"),
    Row("a job that somebody deleted while it ran is lost",
        running(requested()), look(15, None, STARTED), "lost", "lost"),
    Row("a job that somebody deleted before it started is lost",
        submitted(requested()), look(15, None), "lost", "lost"),
    Row("a job that was killed with its cluster is lost",
        running(requested()), look(15, None, KILLED, session_name="s2"), "lost", "lost"),
    Row("a job that waited when its cluster was restarted is lost",
        submitted(requested()), look(15, None, session_name="s2"), "lost", "lost"),
    Row("a job that Ray does not know, and that was to end before it started, is cancelled",
        cancelling(submitted(requested()), 9), look(15, None), "cancelled", "cancelled", "stop"),
    Row("a job that was killed with its cluster is cancelled when it was to end",
        cancelling(running(requested()), 9), look(15, None, KILLED, session_name="s2"), "cancelled", "cancelled"),
    Row("a job that Ray does not know, and that was to end, is given up",
        cancelling(running(requested()), 9), look(15, None, STARTED), "cancelled", "lost cancelled", "stop"),
    # No answer.
    Row("no answer says nothing of a job that waits", submitted(requested()), no_answer(999), "submitted"),
    Row("no answer says nothing of a job that runs", running(requested()), no_answer(999, STARTED), "running"),
    Row("a start that the wrapper tells of is recorded without Ray",
        submitted(requested()), no_answer(15, STARTED), "running", "started"),
    Row("an end that the wrapper tells of is recorded without Ray",
        submitted(requested()), no_answer(15, ran(5)), "failed", "started failed"),
    Row("a guard's word waits for Ray's", running(requested()), no_answer(999, KILLED), "running"),
    Row("a guard's word is enough of a job that was to end",
        cancelling(running(requested()), 9), no_answer(15, KILLED), "cancelled", "cancelled"),
    Row("a refusal is enough without Ray",
        cancelling(submitted(requested()), 9), no_answer(15, REFUSED), "cancelled", "cancelled"),
    Row("a job that is to end is kept from starting while Ray cannot be asked",
        cancelling(submitted(requested()), 9), no_answer(15), "submitted", "", "stop"),
    # Lost.
    Row("a lost run stays lost while nobody knows it", LOST_WITH_CLUSTER, look(30, None, session_name="s2"), "lost"),
    Row("a lost run stays lost while Ray cannot be asked", LOST_WITH_CLUSTER, no_answer(30, STARTED), "lost"),
    Row("a lost run that Ray knows again is recovered",
        LOST_WITH_CLUSTER, look(30, job("RUNNING"), STARTED), "running", "recovered started"),
    Row("a lost run whose wrapper tells of its end is recovered, and has ended",
        LOST_WITH_CLUSTER, look(30, None, ran(4)), "failed", "recovered started failed"),
    Row("a lost run whose guard speaks late is recovered, and has failed",
        LOST_IN_SILENCE, look(70, job("FAILED", ACTOR_DIED), KILLED), "failed", "recovered started failed"),
    Row("a run that was lost because Ray knew nothing is not recovered by its saying so again",
        LOST_IN_SILENCE, look(70, job("FAILED", ACTOR_DIED), STARTED), "lost"),
    Row("a run that was lost with its machine is not recovered by Ray's still saying RUNNING",
        LOST_WITH_NODE, look(70, job("RUNNING"), STARTED), "lost"),
    Row("a lost run that is not wanted any more is given up",
        cancelling(LOST_WITH_CLUSTER, 25), look(30, None, session_name="s2"), "cancelled", "cancelled", "stop"),
    Row("a lost run that is to be submitted after all is recovered instead when Ray knows it again",
        after(LOST_WITH_CLUSTER, RunUnblocked(), second=25), look(30, job("RUNNING"), STARTED),
        "running", "recovered started"),
    Row("a lost run that is to be submitted after all is submitted",
        after(LOST_WITH_CLUSTER, RunUnblocked(), second=25), look(30, None, session_name="s2"),
        "requested", "", "intend"),
    # Again.
    Row("another attempt waits a little",
        repeated(running(requested(**REPEATABLE)), 20), look(20.9, failed(3)), "requested"),
    Row("another attempt follows",
        repeated(running(requested(**REPEATABLE)), 20), look(21, failed(3)), "requested", "", "intend"),
    Row("another attempt waits for a cluster that answers",
        repeated(running(requested(**REPEATABLE)), 20), no_answer(99), "requested"),
    Row("another attempt that is not wanted any more is never submitted",
        cancelling(repeated(running(requested(**REPEATABLE)), 20), 21), look(22, failed(3)), "cancelled", "cancelled"),
    Row("there are no more attempts than were asked for",
        submitted(repeated(running(requested(**REPEATABLE)), 20), 30),
        look(40, job("FAILED", NEVER_STARTED, submission_id=f"{RUN}-a2")), "failed", "failed"),
    Row("a look at an earlier attempt says nothing of this one",
        intended(repeated(running(requested(**REPEATABLE)), 20), 30), look(40, job("SUCCEEDED")), "requested"),
    Row("an adopted second attempt is not the last but one",
        adopted(2), look(40, job("FAILED", NEVER_STARTED, submission_id=f"{RUN}-a2")), "failed", "failed"),
    Row("an adopted run goes on like any other",
        adopted(), look(15, job("SUCCEEDED"), ran()), "completed", "started completed"),
    # Resting.
    Row("a blocked run waits for somebody to ask",
        after(requested(), RunBlocked(reason="no_cluster", message=""), second=5), no_answer(30), "blocked"),
    Row("a blocked run that is not wanted any more ends",
        cancelling(after(requested(), RunBlocked(reason="no_cluster", message=""), second=5), 6), no_answer(30),
        "cancelled", "cancelled"),
    Row("what has ended stays as it is",
        after(running(requested()), RunCompleted(attempt=1, source="ray"), second=9), look(15, None), "completed"),
    Row("what has ended, and lives on, is an anomaly and is stopped",
        after(running(requested()), RunCompleted(attempt=1, source="ray"), second=9), look(15, job("RUNNING")),
        "completed", "anomaly_seen", "stop"),
    Row("what still lives on is stopped again, without another word",
        after(running(requested()), RunCompleted(attempt=1, source="ray"),
              AnomalySeen(what="alive_after_end", message=""), second=9),
        look(15, job("RUNNING")), "completed", "", "stop"),
    Row("what has ended by its wrapper's word does not live on, whatever Ray says",
        after(running(requested()), RunCompleted(attempt=1, source="wrapper"), second=9),
        look(15, job("RUNNING"), ran()), "completed"),
    Row("what has ended and still waits in Ray is stopped",
        after(submitted(requested()), RunCancelled(attempt=1, source="ray", how="before_start"), second=9),
        look(15, job("PENDING")), "cancelled", "", "stop"),
    Row("a job of somebody else under an id of ours is left alone",
        after(intended(requested()), SubmissionFailed(attempt=1, http_status=500, message=""), second=9),
        look(15, job("RUNNING")), "error"),
]
# fmt: on


def by_fact(row: Row) -> str:
    return row.fact


def line(row: Row) -> str:
    """Give a row as README.md has it."""
    then = ", ".join(f"`{name}`" for name in row.events.split()) or "-"
    act = f" **{row.act}**" if row.act != "nothing" else ""
    return (
        f"| {row.fact} | {of_ledger(row.record)} | {of_ray(row.seen)} | {of_wrapper(row.seen.witness)} | {then}{act} |"
    )


def of_ledger(record: RunRecord) -> str:
    attempt = record.attempt
    intends = attempt is not None and attempt.status == "intended" and record.status == "requested"
    return ("intended" if intends else record.status) + (", to end" if record.cancel_requested_at else "")


def of_ray(seen: Seen) -> str:
    if not seen.asked:
        return "no answer"
    if seen.job is None:
        return "unknown" if seen.session_name == "s1" else "unknown, other session"
    code = {None: "", COMMAND_ERROR: f" {seen.job.exit_code}", ACTOR_DIED: " died", NEVER_STARTED: " not started"}
    return seen.job.status + code[seen.job.error_type]


def of_wrapper(witness: Witness) -> str:
    if witness.ended:
        told = " when told" if witness.ended.stopped_by else ""
        return f"ended {witness.ended.exit_code}{told}" if witness.ended.how == "exited" else "killed"
    return ", ".join(filter(None, ["started" if witness.started else "", "refused" if witness.refused else ""])) or "-"


@pytest.mark.parametrize("row", ROWS, ids=by_fact)
def test_a_look_leads_to_these_events_and_this_step(row: Row) -> None:
    decision = decide(row.record, row.seen)
    assert [event.type.removeprefix("run.") for event in decision.events] == row.events.split()
    assert decision.act == row.act
    assert after(row.record, *decision.events, second=row.seen_at).status == row.status


@pytest.mark.parametrize("row", ROWS, ids=by_fact)
def test_the_same_look_adds_nothing_more(row: Row) -> None:
    record = after(row.record, *decide(row.record, row.seen).events, second=row.seen_at)
    assert decide(record, row.seen).events == ()


@pytest.mark.parametrize("row", [row for row in ROWS if row.events], ids=by_fact)
def test_a_look_that_was_made_for_an_earlier_state_of_the_run_adds_nothing(row: Row) -> None:
    assert decide(row.record, replace(row.seen, seq=row.record.seq)).events
    assert decide(row.record, replace(row.seen, seq=row.record.seq - 1)).events == ()
    assert decide(row.record, replace(row.seen, seq=row.record.seq - 1)).act == "nothing"


def test_the_readme_has_every_row_and_no_other() -> None:
    shown = [each for each in README.read_text().splitlines() if each.startswith("| ")][2:]
    assert shown == [line(row) for row in ROWS]


def test_the_diagram_has_every_status_that_runs_take() -> None:
    diagram = README.read_text().partition("stateDiagram-v2")[2].partition("```")[0]
    shown = {word.strip(":") for each in diagram.splitlines() for word in each.partition(": ")[0].split(" --> ")}
    assert {name.strip() for name in shown} - {"", "[*]"} == set(STATUSES)


def test_every_fact_is_stated_once() -> None:
    assert len({row.fact for row in ROWS}) == len(ROWS)


# What the events say.


def only(kind: type[E], record: RunRecord, seen: Seen) -> E:
    """Give the one event of that kind which the look adds."""
    (event,) = [event for event in decide(record, seen).events if isinstance(event, kind)]
    return event


def test_a_start_that_the_wrapper_tells_of_is_known_to_the_moment() -> None:
    event = only(RunStarted, submitted(requested()), look(5, job("RUNNING"), STARTED))
    assert (event.source, event.not_before, event.not_after, event.host) == ("wrapper", at(3), at(3), "board7")
    assert (event.boot_id, event.boottime_s, event.node_id) == ("boot-of-this-host", 1003.0, "n1")


def test_a_start_that_ray_tells_of_lies_between_two_looks() -> None:
    event = only(RunStarted, submitted(requested()), look(5, job("RUNNING")))
    assert (event.source, event.not_before, event.not_after) == ("ray", at(4), at(5))


def test_a_start_lies_after_the_wish_when_there_was_no_look_before() -> None:
    event = only(RunStarted, submitted(requested()), look(5, job("SUCCEEDED"), previous=None))
    assert (event.source, event.not_before, event.not_after) == ("inferred", at(1), at(5))


@pytest.mark.parametrize("second", [-3600, 3600], ids=["an hour behind", "an hour ahead"])
def test_the_clock_of_another_machine_is_not_believed_when_it_cannot_be(second: float) -> None:
    witness = Witness(started(second, "another boot"), ended(0, second + 5))
    record = submitted(requested(timeout_s=60))
    assert decide(record, look(15, job("RUNNING"), replace(witness, ended=None))).act == "nothing"
    event = only(RunStarted, record, look(15, job("SUCCEEDED"), witness))
    assert (event.source, event.not_before, event.not_after) == ("wrapper", at(14), at(15))
    outcome = only(RunCompleted, record, look(15, job("SUCCEEDED"), witness))
    assert (outcome.not_before, outcome.not_after, outcome.duration_s) == (at(14), at(15), 7.0)


def test_an_interval_does_not_begin_after_it_ends_when_our_clock_is_set_back() -> None:
    event = only(RunStarted, submitted(requested()), look(5, job("RUNNING"), previous=at(900)))
    assert (event.not_before, event.not_after) == (None, at(5))


def test_the_time_that_a_command_may_take_is_counted_by_the_clock_that_nobody_sets() -> None:
    record = running(requested(timeout_s=60), boot_id="boot-of-this-host", boottime_s=1000.0)
    assert decide(record, look(4000, job("RUNNING"), boottime_s=1059.0)).events == ()
    assert only(CancelRequested, record, look(5, job("RUNNING"), boottime_s=1061.0)).reason == "timeout"


def test_the_clock_of_another_boot_is_not_ours() -> None:
    record = running(requested(timeout_s=60), boot_id="another", boottime_s=1000.0)
    assert decide(record, look(5, job("RUNNING"), boottime_s=9999.0)).events == ()


def test_an_attempt_that_was_lost_and_recovered_keeps_its_start() -> None:
    record = LOST_WITH_CLUSTER
    record = after(record, *decide(record, look(30, job("RUNNING"))).events, second=30)
    assert record.attempt
    assert (record.status, record.attempt.started_at) == ("running", at(3))


def test_what_was_observed_was_submitted_in_the_session_that_has_it() -> None:
    assert only(RunSubmitted, intended(requested()), look(5, job("PENDING"), session_name="s9")).session_name == "s9"
    assert only(RunSubmitted, intended(requested()), look(5, None, ran(), session_name="s9")).session_name == "s1"


def test_a_success_tells_what_both_witnesses_said() -> None:
    event = only(RunCompleted, running(requested()), look(15, job("SUCCEEDED", message="fine"), ran()))
    assert (event.source, event.exit_code, event.ray_status, event.ray_message) == ("ray", 0, "SUCCEEDED", "fine")
    assert (event.duration_s, event.not_before, event.not_after, event.node_id) == (7.0, at(10), at(10), "n1")
    assert not event.cancel_lost_race


def test_a_success_against_ray_keeps_what_ray_said() -> None:
    event = only(RunCompleted, running(requested()), look(15, job("FAILED", ACTOR_DIED, message="died"), ran()))
    assert (event.source, event.exit_code, event.ray_status, event.error_type) == ("wrapper", 0, "FAILED", ACTOR_DIED)


@pytest.mark.parametrize(
    ("record", "seen", "kind", "exit_code", "message"),
    [
        (running(requested()), look(15, failed(3), ran(3)), "user", 3, "the command ended with exit code 3"),
        (running(requested()), look(15, failed(3)), "user", 3, "the command ended with exit code 3"),
        (running(requested()), look(15, failed(137), ran(-9)), "user", -9, "signal 9 ended it"),
        (running(requested()), no_answer(15, ran(5)), "user", 5, "the command ended with exit code 5"),
        (
            running(requested()),
            look(15, job("FAILED", ACTOR_DIED, message="it died\nof this"), KILLED),
            "infrastructure",
            None,
            "it died",
        ),
        (running(requested()), look(15, failed(-9), KILLED), "infrastructure", -9, "failed with exit code -9"),
        (submitted(requested()), look(15, job("FAILED", NEVER_STARTED)), "never_started", None, "never started"),
        (
            cancelling(running(requested(timeout_s=3)), 9, "timeout"),
            look(15, job("STOPPED"), ran(-15, 10, "SIGTERM")),
            "timeout",
            -15,
            "it was stopped after the 3 s that --timeout allows",
        ),
        (
            cancelling(running(requested(timeout_s=3)), 9, "timeout"),
            look(15, None, KILLED),
            "timeout",
            None,
            "it was stopped after the 3 s",
        ),
    ],
)
def test_a_failure_tells_its_kind_its_code_and_what_happened(
    record: RunRecord, seen: Seen, kind: str, exit_code: int | None, message: str
) -> None:
    event = only(RunFailed, record, seen)
    assert (event.kind, event.exit_code) == (kind, exit_code)
    assert message in event.message


@pytest.mark.parametrize(
    ("seen", "lost_race"),
    [
        (look(15, job("SUCCEEDED"), ran()), True),
        (look(15, failed(3), ran(3)), True),
        (look(15, failed(3)), True),
        (look(15, job("STOPPED"), ran(0)), True),
        (no_answer(15, ran(0)), True),
        (look(15, job("STOPPED"), ran(0, 10, "SIGTERM")), False),
        (look(15, failed(3), ran(3, 10, "SIGTERM")), False),
    ],
)
def test_what_ended_before_it_could_be_stopped_says_so(seen: Seen, lost_race: bool) -> None:
    event = only(Outcome, cancelling(running(requested()), 9), seen)
    assert event.cancel_lost_race == lost_race
    assert isinstance(event, RunCancelled) != lost_race


@pytest.mark.parametrize(
    ("record", "seen", "how", "exit_code", "attempt"),
    [
        (cancelling(requested(), 4), no_answer(5), "never_submitted", None, 0),
        (cancelling(intended(requested()), 4), look(5, None), "never_submitted", None, 1),
        (cancelling(submitted(requested()), 4), look(15, failed(75), REFUSED), "before_start", None, 1),
        (cancelling(submitted(requested()), 4), look(15, job("STOPPED"), REFUSED), "before_start", None, 1),
        (cancelling(running(requested()), 4), look(15, job("STOPPED")), "stopped", None, 1),
        (cancelling(submitted(requested()), 4), look(15, job("STOPPED")), "stopped", None, 1),
        (cancelling(running(requested()), 4), look(15, failed(143)), "stopped", 143, 1),
        (cancelling(running(requested()), 4), look(15, job("STOPPED"), ran(-15, 9, "SIGTERM")), "stopped", -15, 1),
        (running(requested()), look(15, job("STOPPED"), ran(-15, 9, "SIGTERM")), "external", -15, 1),
        (cancelling(running(requested()), 4), look(15, None, STARTED), "external", None, 1),
    ],
)
def test_a_cancellation_tells_at_which_point_it_was(
    record: RunRecord, seen: Seen, how: str, exit_code: int | None, attempt: int
) -> None:
    event = only(RunCancelled, record, seen)
    assert (event.how, event.exit_code, event.attempt) == (how, exit_code, attempt)


@pytest.mark.parametrize(
    ("record", "seen", "reason", "never_started"),
    [
        (running(requested()), look(15, None), "deleted_in_ray", False),
        (submitted(requested()), look(15, None), "deleted_in_ray", True),
        (submitted(requested()), look(15, None, session_name="s2"), "cluster_restarted", True),
        (running(requested()), look(15, None, KILLED, session_name="s2"), "cluster_restarted", False),
        (running(requested()), look(99, job("FAILED", ACTOR_DIED), STARTED), "infrastructure", False),
    ],
)
def test_a_loss_tells_what_was_asked_and_answered_and_what_to_do(
    record: RunRecord, seen: Seen, reason: str, never_started: bool
) -> None:
    event = only(RunLost, record, seen)
    assert (event.reason, event.never_started) == (reason, never_started)
    assert RUN in event.asked
    assert event.answered == (f"FAILED {ACTOR_DIED}" if seen.job else "unknown")
    assert f"jobs retry {RUN}" in event.message


def test_a_repeated_attempt_ends_like_one_and_leaves_the_run_to_the_next() -> None:
    seen = look(15, job("FAILED", NEVER_STARTED))
    record = submitted(requested(**REPEATABLE))
    event = only(AttemptFailed, record, seen)
    assert (event.attempt, event.kind) == (1, "never_started")
    record = after(record, event, second=15)
    assert record.attempt
    assert (record.status, record.attempt.status, record.attempt.never_started) == ("requested", "failed", True)


def test_an_earlier_attempt_stays_as_it_ended_when_the_next_is_not_wanted() -> None:
    record = cancelling(repeated(running(requested(**REPEATABLE)), 20), 21)
    ended_run = after(record, *decide(record, look(22, failed(3))).events, second=22)
    assert ended_run.status == "cancelled"
    assert ended_run.attempts == record.attempts


def test_the_wait_before_another_attempt_grows_and_has_an_end() -> None:
    record, waits = requested(retries_max=99), []
    for number in range(12):
        record = repeated(submitted(record, 1000.0 * number + 10), 1000.0 * number + 20)
        second = 1000.0 * number + 20
        while decide(record, look(second, None)).act != "intend":
            second += 0.5
        waits.append(second - 1000.0 * number - 20)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]


def test_why_a_job_waits_is_told_again_only_when_it_is_another_reason() -> None:
    record = submitted(requested())
    first = look(13, job("PENDING"), pending_reason=("busy", "taken"))
    record = after(record, *decide(record, first).events, second=13)
    assert record.message == "taken"
    assert decide(record, look(14, job("PENDING"), pending_reason=("busy", "taken by others"))).events == ()
    second = look(15, job("PENDING"), pending_reason=("no_node", "none is alive"))
    record = after(record, *decide(record, second).events, second=15)
    assert record.message == "none is alive"


def test_an_anomaly_of_a_job_that_waits_is_told_once() -> None:
    record = submitted(requested())
    record = after(record, *decide(record, look(PENDING_OVERDUE_S + 3, job("PENDING"))).events, second=990)
    assert decide(record, look(PENDING_OVERDUE_S + 900, job("PENDING"))).events == ()
