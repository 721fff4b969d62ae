"""What does the world say of the runs, what is to be done about it, and what came of that?

A pass looks, decides and takes at most one step for each run. Taking a step for the first time and taking it again
after a crash are the same call; `submit`, `cancel` and `status` are passes over one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct, field

import eventlog
from merlin_es.cluster_link import ClusterLink, Link
from merlin_es.deciders import observation
from merlin_es.deciders import run as rules
from merlin_es.deciders.observation import Decision, Seen
from merlin_es.deciders.pending import why_pending
from merlin_es.errors import (
    ListUnreadable,
    MerlinError,
    Unauthorized,
    Unreachable,
)
from merlin_es.failpoints import reach
from merlin_es.keeper import Keeper
from merlin_es.ledger import Ledger
from merlin_es.ports import Host, RayJob, RayNode, Witnesses
from merlin_es.run_leases import RunLeases
from merlin_es.steps import Steps
from merlin_es.submission import RUN, Submissions, adopted_from, is_imported
from projections.events.run import RunEvent
from projections.layout import RESOURCES, run_id_of
from projections.run_record import TERMINAL, Attempt, RunRecord

if TYPE_CHECKING:
    from merlin_es.resources import Leases

LIST_EVERY_S = 30.0
"""How often Ray's whole list is read, to find what the ledger does not know of."""
LIST_COST = 13
"""One job asked for by its id costs as much as this many jobs in the list (Ray 2.60, measured)."""
KICK_EVERY_S = 60.0
LOST_WATCHED_S = 24 * 3600.0
"""For how long after it was lost a run may still show up again."""
HASTE_S, ACTIVE_S, IDLE_S, BACKOFF_MAX_S = 0.5, 2.0, 15.0, 30.0
YOUNG_S = 60.0


class Pass(Struct):
    """What one pass did: which runs it looked at and changed, what it could not, and when to look again (s)."""

    looked_at: int = 0
    changed: list[str] = field(default_factory=list)
    sick: dict[str, str] = field(default_factory=dict)
    unreachable: str | None = None
    next_s: float = IDLE_S


class _World(Struct):
    """What one pass has seen of the cluster."""

    link: Link | None
    jobs: Mapping[str, RayJob] | None = None
    nodes: list[RayNode] | None = None


class Reconciler:
    """Compares what the ledger says with what the world says. Keeps only what may be forgotten."""

    def __init__(
        self,
        ledger: Ledger,
        cluster: ClusterLink,
        witnesses: Witnesses,
        submissions: Submissions,
        keeper: Keeper,
        host: Host,
        run_leases: RunLeases,
    ) -> None:
        self._run_leases = run_leases
        self._ledger = ledger
        self._cluster = cluster
        self._witnesses = witnesses
        self._submissions = submissions
        self._keeper = keeper
        self._host = host
        self._steps = Steps(ledger, cluster, witnesses, submissions, host)
        self._previous: dict[str, str] = {}
        self._kicked: dict[str, tuple[float, float]] = {}
        self._listed: float | None = None
        self._list_size = 0
        self._failures = 0

    @property
    def leases(self) -> Leases:
        """The resources, which runs hold too."""
        return self._run_leases.leases

    def tick(self, *, unblock: bool = False) -> Pass:
        """Look at everything that may have changed, once."""
        done = Pass(sick=dict(self._ledger.index.sick()))
        with suppress(eventlog.EventLogError):  # A sick registry is for `verify` to tell of; the runs go on.
            self._ledger.registry.note_missing()
        self._guarded(RESOURCES, done, self._reap)
        self._forget_what_has_ended()
        active = [run_id for run_id, status in self._ledger.index.active() if unblock or status != "blocked"]
        due = self._listed is None or self._host.monotonic() - self._listed >= LIST_EVERY_S
        if not active and not due:
            return done
        world = self._look_at_cluster(done)
        if world.link:
            self._read_list(world, active, due=due)
            self._kick_if_due(world)
        watched = [*active, *self._others_to_watch(world, due=due)]
        for run_id in dict.fromkeys(watched):
            self._guarded(run_id, done, partial(self._advance, run_id, world, done, unblock=unblock))
        if world.jobs and world.link:
            self._steps.stop_superseded(world.jobs, world.link)
            self._adopt(world, world.link, done)
        done.next_s = self._pause_s(active, done)
        return done

    def look_at(self, run_id: str, *, unblock: bool = False) -> RunRecord:
        """Look at one run, once, and take its next step; gives the run as it is then."""
        done = Pass()
        record = self._ledger.run(run_id)
        if record.is_terminal:
            self._run_leases.end(record)
            self._submissions.vault.forget(run_id)
            return record
        if (record := self._run_leases.advance(record)).status == "waiting":
            return record
        world = self._look_at_cluster(done)
        self._advance(run_id, world, done, unblock=unblock)
        if (record := self._ledger.run(run_id)).is_terminal:
            self._submissions.vault.forget(run_id)
        return record

    def _forget_what_has_ended(self) -> None:
        """Remove the secrets of runs that need them no more."""
        for run_id in self._submissions.vault.run_ids():
            status = self._ledger.status(run_id)
            if status and status[0] in TERMINAL:
                self._submissions.vault.forget(run_id)

    def _reap(self) -> None:
        self.leases.reap()

    def _look_at_cluster(self, done: Pass) -> _World:
        try:
            link = self._cluster.link()
        except (Unreachable, Unauthorized) as error:
            done.unreachable = str(error)
            self._failures += 1
            return _World(None)
        self._failures = 0
        return _World(link)

    def _read_list(self, world: _World, active: list[str], *, due: bool) -> None:
        """Read Ray's list where that costs less than asking for each job, and now and then for what nobody knows."""
        assert world.link  # noqa: S101  the caller has looked
        if not due and len(active) * LIST_COST < self._list_size:
            return
        with suppress(ListUnreadable, Unreachable, Unauthorized):
            world.jobs = {job.submission_id: job for job in world.link.server.jobs()}
            self._list_size = len(world.jobs)
        self._listed = self._host.monotonic()

    def _others_to_watch(self, world: _World, *, due: bool) -> Iterable[str]:
        """Name the runs that rest, but may be seen again: lost ones, and ended ones that Ray says are alive."""
        if due:
            yield from self._ledger.index.lost_since(LOST_WATCHED_S)
        for job in (world.jobs or {}).values():
            if not job.is_terminal and self._submissions.is_ours(job) and self._ledger.has_run(job.metadata[RUN]):
                yield job.metadata[RUN]

    def _advance(self, run_id: str, world: _World, done: Pass, *, unblock: bool) -> None:
        """Look at a run, record what that shows, and take its next step."""
        done.looked_at += 1
        record = self._ledger.run(run_id)
        before = record.seq
        if (record := self._run_leases.advance(record)).status == "waiting":
            if record.seq != before:
                done.changed.append(run_id)
            return
        if unblock and record.status == "blocked" and world.link:
            record = self._ledger.change_run(run_id, lambda known: rules.retry(_there(known)))
        seen = self._look(record, world)
        record, decision = self._record(record, seen, world.link)
        if decision.act == "kick" and world.link:
            self._kick(world, world.link)
        else:
            self._steps.take(record, decision.act, world.link)
        if seen.asked:
            self._previous[run_id] = seen.at
        after = self._ledger.run(run_id)
        self._run_leases.end(after)
        if after.seq != before:
            done.changed.append(run_id)

    def _look(self, record: RunRecord, world: _World) -> Seen:
        attempt = record.attempt
        link = world.link
        witness = self._witnesses.read(record.run_id, attempt.number if attempt else 1)
        job, asked, session_name = None, False, link.session.session_name if link else ""
        if link and attempt:
            job, asked, session_name = self._ask(attempt, world, link)
            if job and not (self._submissions.is_of(job, record.run_id) or is_imported(job, record)):
                job = None  # Somebody else's under the same id: to us that is none.
        nodes = self._nodes(world, job)
        first_kick = self._kicked.get(session_name, (self._host.monotonic(), 0.0))[0]
        return Seen(
            at=self._host.now(),
            asked=asked,
            job=job,
            session_name=session_name,
            witness=witness,
            previous=self._previous.get(record.run_id),
            dead_nodes=frozenset(node.node_id for node in nodes if not node.alive),
            pending_reason=why_pending(record.request, job, nodes),
            kicked_for_s=self._host.monotonic() - first_kick,
            boot_id=self._host.boot_id,
            boottime_s=self._host.boottime(),
            seq=record.seq,
        )

    def _ask(self, attempt: Attempt, world: _World, link: Link) -> tuple[RayJob | None, bool, str]:
        """Ask Ray for an attempt. That it is unknown counts when it is so twice, within one and the same session."""
        if world.jobs and (job := world.jobs.get(attempt.submission_id)):
            return job, True, link.session.session_name
        try:
            for _ in range(2):
                if job := link.server.job(attempt.submission_id):
                    return job, True, link.session.session_name
                if link.server.session() != link.session:
                    return None, False, ""
        except (Unreachable, Unauthorized):
            return None, False, ""
        return None, True, link.session.session_name

    def _nodes(self, world: _World, job: RayJob | None) -> list[RayNode]:
        """Give the machines, once a pass, where a job is such that they matter."""
        if world.link is None or job is None or job.is_terminal:
            return []
        if world.nodes is None:
            try:
                world.nodes = world.link.server.nodes()
            except (Unreachable, Unauthorized):
                world.nodes = []
        return world.nodes

    def _record(self, record: RunRecord, seen: Seen, link: Link | None) -> tuple[RunRecord, Decision]:
        """Append what the look shows; where an attempt ended, what it left behind is kept in the same append."""
        decision = observation.decide(record, seen)
        if not decision.events:
            return record, decision
        kept: tuple[RunEvent, ...] = ()
        if any(map(observation.is_outcome, decision.events)):
            kept = self._keeper.keep(record, decision.events, link.server if link else None, self._cluster.peek())
        reach("record.before")

        def decide(known: RunRecord | None) -> tuple[RunEvent, ...]:
            nonlocal decision
            decision = observation.decide(_there(known), seen)
            told = (self._keeper.last_word(record, event) for event in decision.events)
            events = tuple(self._keeper.without_secrets(record, event) for event in told)
            return _before_outcome(kept, events)

        return self._ledger.change_run(record.run_id, decide), decision

    def _kick_if_due(self, world: _World) -> None:
        """After a restart nobody watches jobs until a request reaches the agent: see that one does, now and then."""
        assert world.link  # noqa: S101  the caller has looked
        last = self._kicked.get(world.link.session.session_name)
        if last is None or self._host.monotonic() - last[1] > KICK_EVERY_S:
            self._kick(world, world.link)

    def _kick(self, world: _World, link: Link) -> None:
        """Stop a job that has ended, which does nothing but reach the agent; failing that, read one that runs."""
        now = self._host.monotonic()
        with suppress(Unreachable, Unauthorized, ListUnreadable):
            jobs = list((world.jobs or {job.submission_id: job for job in link.server.jobs()}).values())
            if ended := next((job for job in jobs if job.is_terminal), None):
                link.server.kick(ended.submission_id)
            elif running := next((job for job in jobs if job.status == "RUNNING"), None):
                link.server.logs(running.submission_id)
            else:
                return
            first, _ = self._kicked.get(link.session.session_name, (now, now))
            self._kicked[link.session.session_name] = first, now

    def _adopt(self, world: _World, link: Link | None, done: Pass) -> None:
        """Take in the jobs of this ledger that it has no record of."""
        assert link  # noqa: S101  the caller has looked
        assert world.jobs is not None  # noqa: S101  likewise
        for job in world.jobs.values():
            if self._submissions.is_ours(job) and not self._ledger.has_run(job.metadata[RUN]):
                event = adopted_from(job, link)
                run_id = job.metadata[RUN]
                if event is None or run_id_of(f"run/{run_id}") is None:
                    continue
                self._guarded(run_id, done, partial(self._take_in, run_id, event, world, done))

    def _take_in(self, run_id: str, event: RunEvent, world: _World, done: Pass) -> None:
        self._ledger.change_run(run_id, lambda known: () if known else (event,))
        self._advance(run_id, world, done, unblock=False)

    def _guarded(self, run_id: str, done: Pass, step: Callable[[], None]) -> None:
        """Take a step for one run; what is wrong with it alone does not stop the others."""
        try:
            step()
        except (eventlog.EventLogError, MerlinError) as error:
            done.sick[run_id] = str(error)

    def _pause_s(self, active: list[str], done: Pass) -> float:
        if done.unreachable:
            return min(float(2 ** min(self._failures, 5)), BACKOFF_MAX_S)
        if not active:
            return IDLE_S
        now = self._host.now()
        records = (self._ledger.run(run_id) for run_id in active[:200] if run_id not in done.sick)
        hasty = any(
            record.is_active and (record.cancel_requested_at or observation.seconds(record.updated_at, now) < YOUNG_S)
            for record in records
        )
        return HASTE_S if hasty else ACTIVE_S


def _there(record: RunRecord | None) -> RunRecord:
    assert record is not None  # noqa: S101  a run is never taken away
    return record


def _before_outcome(kept: tuple[RunEvent, ...], events: tuple[RunEvent, ...]) -> tuple[RunEvent, ...]:
    """Put what was kept of an attempt before the event that ends it."""
    for place, event in enumerate(events):
        if observation.is_outcome(event):
            return (*events[:place], *kept, *events[place:])
    return events
