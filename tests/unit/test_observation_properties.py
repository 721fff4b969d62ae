"""Whatever a lawful world does, and whenever we are interrupted: what holds of every run, step by step?

The world is a small model of Ray, of the wrapper with its guard, and of the machines, in which everything happens that
was measured of Ray 2.60: it forgets, it hangs, it says RUNNING of what is dead and PENDING of what was stopped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from merlin_es.deciders import run as rules
from merlin_es.deciders.observation import Decision, Seen, decide
from merlin_es.deciders.outcome import ended_by_itself
from merlin_es.errors import Refused
from merlin_es.ports import Ended, RayJob, Started, Witness
from projections.events.run import (
    AttemptFailed,
    Outcome,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunLost,
    RunSubmitted,
    SubmissionFailed,
    SubmissionStarted,
)
from projections.run_record import RunRecord
from tests.conftest import Figure
from tests.looks import ACTOR_DIED, COMMAND_ERROR, RUN, after, at, milliseconds, requested

Op = Literal[
    "nothing", "schedule", "launch", "exit 0", "exit 3", "exit 75", "ray notices", "guard", "supervisor dies",
    "cannot start", "restart", "restart, orphans live", "machine dies", "machine loses power", "delete", "stop by hand",
    "hangs", "answers", "cancel", "retry", "deaf", "rejects", "forgets to watch",
]  # fmt: skip
OPS: tuple[Op, ...] = Op.__args__  # type: ignore[attr-defined]  # a Literal has its words there
Fault = Literal["none", "killed before acting", "killed after acting", "list was older"]
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]  # likewise


@dataclass
class Execution:
    """What runs, or has run, of one attempt."""

    alive: bool = False
    exit_code: int | None = None
    ever: bool = False
    guard_owes: bool = False
    witness: Witness = field(default_factory=Witness)


@dataclass
class World:
    """Ray, the wrapper and the machines, for one run."""

    sees_state_root: bool
    second: float = 2.0
    session: int = 1
    session_since: float = 0.0
    reachable: bool = True
    tombstone: bool = False
    deaf: bool = False
    rejects: bool = False
    unwatched: bool = False
    jobs: dict[str, RayJob] = field(default_factory=dict)
    launching: set[str] = field(default_factory=set)
    executions: dict[str, Execution] = field(default_factory=dict)
    dead: bool = False

    def execution(self, name: str) -> Execution:
        return self.executions.setdefault(name, Execution())

    def ends(self, name: str, status: Literal["SUCCEEDED", "FAILED", "STOPPED"], **more: str | int | None) -> None:
        """Have Ray say how a job ended, unless it has said so."""
        job = self.jobs.get(name)
        if job and not job.is_terminal:
            said = replace(job, status=status, ended_ms=milliseconds(self.second))
            self.jobs[name] = replace(said, **more)
            self.launching.discard(name)

    def submit(self, name: str) -> Literal["taken", "exists", "rejected", "no answer"]:
        if not self.reachable:
            return "no answer"
        if name in self.jobs:
            return "exists"
        if self.rejects:
            return "rejected"
        self.jobs[name] = RayJob(name, "PENDING", "true")
        return "taken"

    def stop(self, name: str) -> None:
        """The tombstone always; Ray's stop does nothing for a job that it has not started."""
        self.tombstone = True
        self.ray_stops(name)

    def ray_stops(self, name: str) -> None:
        job = self.jobs.get(name)
        if not self.reachable or job is None or job.status != "RUNNING" or self.deaf or self.dead:
            return
        if self.execution(name).alive:
            self.process_ends(name, -15, stopped_by="SIGTERM")
        self.ends(name, "STOPPED")

    def reap(self, name: str) -> None:
        job = self.jobs.get(name)
        waits_unwatched = self.unwatched and job is not None and job.status == "PENDING"
        if self.reachable and job and not job.is_terminal and not self.dead and not waits_unwatched:
            self.wrapper_dies(name)
            self.ends(name, "FAILED", error_type=ACTOR_DIED)

    def process_ends(self, name: str, code: int | None, stopped_by: str | None = None) -> None:
        execution = self.execution(name)
        execution.alive, execution.exit_code, execution.guard_owes = False, code, False
        if self.sees_state_root:
            how: Literal["exited", "wrapper_killed"] = "exited" if code is not None else "wrapper_killed"
            told = Ended(code, how, at(self.second), 1.0, stopped_by)
            execution.witness = replace(execution.witness, ended=told)

    def wrapper_dies(self, name: str) -> None:
        """Its guard ends what it ran, and says so later."""
        self.launching.discard(name)
        execution = self.execution(name)
        if execution.alive:
            execution.alive, execution.guard_owes = False, self.sees_state_root

    def launch(self, name: str) -> None:
        """Ray starts the entrypoint: the wrapper refuses, or it claims the attempt; unseen, the command just runs."""
        self.launching.discard(name)
        execution = self.execution(name)
        if self.sees_state_root and self.tombstone:
            execution.witness = replace(execution.witness, refused="cancelled")
            self.ends(name, "FAILED", error_type=COMMAND_ERROR, exit_code=75)
        elif self.sees_state_root and execution.ever:
            execution.witness = replace(execution.witness, refused="already_started")
            self.ends(name, "FAILED", error_type=COMMAND_ERROR, exit_code=76)
        else:
            execution.alive = execution.ever = True
            if self.sees_state_root:
                execution.witness = Witness(Started("h", 1, at(self.second), "boot", 1000 + self.second))

    def restarts(self, *, orphans_live: bool) -> None:
        self.session, self.session_since = self.session + 1, self.second
        self.jobs.clear()
        self.dead = False
        for name, execution in self.executions.items():
            if execution.alive and not (orphans_live and self.sees_state_root):
                self.wrapper_dies(name)
        self.launching.clear()

    def ray_notices(self) -> None:
        """Ray says how those ended whose process has ended."""
        for name, job in list(self.jobs.items()):
            execution = self.execution(name)
            if job.status != "RUNNING" or self.dead or not execution.ever or execution.alive:
                continue
            if execution.exit_code is None:
                self.ends(name, "FAILED", error_type=ACTOR_DIED)
            elif execution.exit_code == 0:
                self.ends(name, "SUCCEEDED", exit_code=0)
            else:
                self.ends(name, "FAILED", error_type=COMMAND_ERROR, exit_code=execution.exit_code)

    def happens(self, op: Op) -> None:
        """Let something happen to everything that it can happen to."""
        match op:
            case "hangs" | "answers":
                self.reachable = op == "answers"
            case "deaf":
                self.deaf = True
            case "rejects":
                self.rejects = True
            case "forgets to watch":
                self.unwatched = True
            case "restart" | "restart, orphans live":
                self.restarts(orphans_live=op != "restart")
            case "ray notices":
                self.ray_notices()
            case _:
                for name in {**self.jobs, **self.executions}:
                    self.happens_to(name, op)

    def happens_to(self, name: str, op: Op) -> None:
        job, execution = self.jobs.get(name), self.execution(name)
        if op.startswith("exit") and execution.alive:
            self.process_ends(name, int(op.split()[1]))
        elif op == "guard" and execution.guard_owes:
            self.process_ends(name, None)
        elif op == "launch" and name in self.launching:
            self.launch(name)
        elif job is None:
            return
        elif op == "schedule" and job.status == "PENDING" and not self.dead and not self.unwatched:
            self.jobs[name] = replace(job, status="RUNNING", node_id=f"n{self.session}")
            self.launching.add(name)
        elif op == "cannot start" and job.status == "PENDING" and not self.unwatched:
            self.ends(name, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
        elif op == "supervisor dies" and job.status == "RUNNING" and not self.dead:
            self.wrapper_dies(name)
            self.ends(name, "FAILED", error_type=ACTOR_DIED)
        elif op == "delete" and job.is_terminal:
            del self.jobs[name]
        elif op == "stop by hand":
            self.ray_stops(name)
        elif op in ("machine dies", "machine loses power") and job.status == "RUNNING":
            self.dead = True
            self.wrapper_dies(name)
            execution.guard_owes &= op == "machine dies"


class Driver:
    """Drives one run through a world as the reconciler does, and checks every step."""

    def __init__(self, world: World, record: RunRecord) -> None:
        self.world, self.record = world, record
        self.history: list[RunEvent] = []
        self.previous: str | None = None
        self.retried_by_hand = False
        self.looks = 0

    def look(self, older: dict[str, RayJob] | None = None) -> Seen:
        world, attempt = self.world, self.record.attempt
        asked = world.reachable and attempt is not None
        name = attempt.submission_id if attempt else RUN
        job = world.jobs.get(name) if asked else None
        return Seen(
            at=at(world.second),
            asked=asked,
            job=(older or {}).get(name, job) if job else None,
            session_name=f"s{world.session}" if world.reachable else "",
            witness=world.execution(name).witness,
            previous=self.previous,
            dead_nodes=frozenset({f"n{world.session}"} if world.dead else ()),
            pending_reason=("busy", "it waits"),
            kicked_for_s=world.second - world.session_since,
            boot_id="boot",
            boottime_s=1000 + world.second,
        )

    def record_all(self, events: tuple[RunEvent, ...]) -> None:
        if not events:
            return
        was = self.record
        self.record = after(self.record, *events, second=self.world.second)
        self.history += events
        if was.is_terminal:
            assert self.record.status == was.status
            assert self.record.attempts == was.attempts
        for earlier in was.attempts:
            assert earlier.status != "failed" or earlier in self.record.attempts, "what has ended stays as it ended"
        for happened in events:
            self.check_event(happened)
        ends = Counter(each.attempt for each in self.history if isinstance(each, Outcome))
        assert all(count == 1 for count in ends.values()), "an attempt ends once"
        wishes = [each.submission_id for each in self.history if isinstance(each, SubmissionStarted)]
        assert len(set(wishes)) == len(wishes), "no id is used twice"

    def check_event(self, happened: RunEvent) -> None:
        """What is said of an attempt is true in the world."""
        if not isinstance(happened, Outcome) or not happened.attempt:
            return
        name = rules.submission_id(RUN, happened.attempt)
        execution = self.world.execution(name)
        if isinstance(happened, RunCompleted):
            assert execution.exit_code == 0
            assert happened.cancel_lost_race == bool(self.record.cancel_requested_at)
        if isinstance(happened, RunFailed | AttemptFailed):
            assert not execution.alive or happened.kind == "timeout"
            if happened.kind == "never_started":
                assert not execution.ever
            if happened.kind == "user":
                assert execution.exit_code == happened.exit_code
        if isinstance(happened, RunCancelled):
            ended = execution.witness.ended
            assert not (ended and ended.exit_code == 0 and ended_by_itself(ended)), "the truth wins"
            assert self.record.cancel_requested_at or happened.how == "external" or execution.witness.refused
            assert not execution.alive or happened.how == "external"
            if happened.how in ("never_submitted", "before_start"):
                unseen = not self.world.sees_state_root and happened.source == "inferred"
                assert not execution.ever or unseen, "only where nobody could see it may it have run"

    def check_decision(self, seen: Seen, decision: Decision) -> None:
        self.looks += 1
        attempt, word = self.record.attempt, seen.witness.ended or seen.witness.refused
        assert len(decision.events) <= 4
        if not seen.asked:
            ends = [each for each in decision.events if isinstance(each, Outcome | RunLost) and each.attempt]
            given_up = self.record.status == "lost" and self.record.cancel_requested_at
            assert not ends or word or given_up, "no answer ends nothing but by the wrapper's word"
            assert decision.act not in ("submit", "reap", "kick")
        if decision.act == "submit":
            assert attempt
            assert attempt.status == "intended"
            assert seen.asked
            assert not self.record.cancel_requested_at
        if decision.act == "intend" and seen.job and not seen.job.is_terminal:
            assert not self.world.execution(seen.job.submission_id).alive, "Ray has it, and says so"
        if decision.act == "intend" and not self.retried_by_hand:
            assert not any(execution.alive for execution in self.world.executions.values()), "nothing else lives"
        again = after(self.record, *decision.events, second=self.world.second) if decision.events else self.record
        assert decide(again, seen).events == (), "the same look adds nothing more"

    def step(self, fault: Fault = "none", older: dict[str, RayJob] | None = None) -> None:
        """Look, decide, record and act, unless killed in between."""
        seen = self.look(older)
        decision = decide(self.record, seen)
        self.check_decision(seen, decision)
        self.record_all(decision.events)
        if seen.asked:
            self.previous = seen.at
        if fault != "killed before acting":
            self.act(decision, answer_is_lost=fault == "killed after acting")

    def act(self, decision: Decision, *, answer_is_lost: bool) -> None:
        attempt = self.record.attempt
        name = attempt.submission_id if attempt else RUN
        match decision.act:
            case "intend" if self.world.reachable:
                session = f"s{self.world.session}"
                self.record_all(rules.intend(self.record, "http://head:8265", session, "true", None))
                if not answer_is_lost:
                    self.submit(answer_is_lost=False)
            case "intend":
                self.record_all(rules.block("unreachable", "start it", self.record))
            case "submit":
                self.submit(answer_is_lost=answer_is_lost)
            case "stop":
                self.world.stop(name)
            case "reap":
                self.world.reap(name)
            case "kick" | "nothing":
                pass

    def submit(self, *, answer_is_lost: bool) -> None:
        attempt = self.record.attempt
        assert attempt
        assert attempt.status == "intended", "only what is intended is submitted"
        answer = self.world.submit(attempt.submission_id)
        if answer_is_lost or answer == "no answer":
            return
        if answer == "rejected":
            self.record_all((SubmissionFailed(attempt=attempt.number, http_status=400, message="no"),))
            return
        session = f"s{self.world.session}"
        how: Literal["answered", "repeated"] = "answered" if answer == "taken" else "repeated"
        self.record_all(
            (RunSubmitted(attempt=attempt.number, submission_id=attempt.submission_id, session_name=session, how=how),)
        )

    def happens(self, op: Op) -> None:
        if op == "cancel":
            self.record_all(rules.cancel(self.record))
        elif op == "retry":
            try:
                events = rules.retry(self.record)
            except Refused:
                return
            self.retried_by_hand |= self.record.status == "lost"
            self.record_all(events)
        else:
            self.world.happens(op)

    def comes_to_rest(self) -> None:
        """Let the world go on by itself until nothing more is owed by anybody; then the run has to have ended."""
        self.world.reachable, self.world.rejects, self.world.deaf = True, False, False
        rested = 0
        for number in range(120):
            op: Op = ("schedule", "cannot start", "launch", "exit 0", "guard", "ray notices")[number % 6]
            self.world.second += 15
            self.world.happens(op)
            self.step()
            rested += not self.record.is_active
            if rested > 12:
                break
        waits = self.world.unwatched and self.record.status == "submitted" and not self.record.cancel_requested_at
        assert waits or not self.record.is_active, f"{self.record.status} for ever"
        assert self.record.is_terminal or not self.record.cancel_requested_at, (
            f"{self.record.status}, but it was to end"
        )


wishes = st.fixed_dictionaries(
    {
        "retries_max": st.sampled_from([0, 1, 3]),
        "retry_on_failure": st.booleans(),
        "timeout_s": st.sampled_from([None, 30.0]),
    }
)
steps = st.lists(
    st.tuples(st.sampled_from(OPS), st.sampled_from([0.1, 1.0, 6.0, 45.0]), st.sampled_from(FAULTS)), max_size=40
)


def live(wish: dict[str, object], happenings: list[tuple[Op, float, Fault]], *, sees_state_root: bool) -> Driver:
    """Drive a run through these happenings, and then until the world rests."""
    driver = Driver(World(sees_state_root), requested(**wish))
    driver.step()
    for op, passed_s, fault in happenings:
        older = dict(driver.world.jobs) if fault == "list was older" else None
        driver.happens(op)
        driver.world.second += passed_s
        driver.step(fault, older)
    driver.comes_to_rest()
    return driver


@pytest.mark.parametrize("sees_state_root", [True, False], ids=["seen", "unseen"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wish=wishes, happenings=steps)
def test_every_run_ends_once_truly_and_nothing_runs_twice(
    sees_state_root: bool, wish: dict[str, object], happenings: list[tuple[Op, float, Fault]]
) -> None:
    driver = live(wish, happenings, sees_state_root=sees_state_root)
    event(driver.record.status)


@pytest.mark.parametrize("sees_state_root", [True, False], ids=["seen", "unseen"])
def test_each_happening_alone_and_after_each_other_one_leads_to_an_end(sees_state_root: bool, figure: Figure) -> None:
    ended: Counter[str] = Counter()
    for first in OPS:
        for second in OPS:
            begun: list[tuple[Op, float, Fault]] = [("schedule", 1.0, "none"), ("launch", 1.0, "none")]
            for before in range(3):
                happenings = [*begun[:before], (first, 1.0, "none"), (second, 6.0, "none")]
                driver = live({"retries_max": 1}, happenings, sees_state_root=sees_state_root)
                ended[driver.record.status] += 1
    assert set(ended) >= {"completed", "failed", "cancelled", "lost"}
    figure(f"{sum(ended.values())} lives, {dict(sorted(ended.items()))}")
