"""What can a door ask of the resources? One method for each verb: it takes a turn, and gives what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

import eventlog
from eventlog.disk import make_directories
from merlin_es.asking import GiveBack, Wish
from merlin_es.bells import Bell
from merlin_es.deciders import lease as rules
from merlin_es.deciders.sight import Observer
from merlin_es.desk import Desk, heard
from merlin_es.errors import Busy, LeaseLost, NotFound, Refused, TimedOut, Usage
from merlin_es.lease_commands import Caller, Declare, Reserve
from merlin_es.lock_probe import require_locks
from merlin_es.observer import BELIEVED_S, World
from merlin_es.processes import identify
from merlin_es.turns import Decide, Turn, Turns
from projections.events.lease import (
    ClaimCancelled,
    ClaimQueued,
    ClaimTimedOut,
    LeaseEvent,
    LeaseGranted,
)
from projections.layout import RESOURCES, lease_name, resources_path
from projections.lease_files import LeaseFiles
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import Claim, Key, Lease, Process, Resources, is_claim_id, is_lease_id

POLL_S: Final = 0.25
"""How long somebody who waits without a bell sleeps before it looks by itself."""
BELL_POLL_S: Final = 1.0
"""The same with a bell, which is only missed where somebody died between a grant and its ring, or on another host."""
PUBLISH_EVERY_S: Final = 5.0
"""How often the files of leases are written while they go from hand to hand: a sync waits for names that are new."""
WAITER_TTL_S: Final = 30.0
"""After this long without a word, who waits is taken to be gone."""
BEATS: Final = 3
"""How often who waits gives a sign within that time."""

ASKED_S: Final = 0.2
"""How long somebody who has asked whoever has a turn waits before it takes one for that."""
CROWDED_S: Final = 0.05
"""For how long who was answered by somebody else's turn asks first, and does not look whether it could have one."""
REAP_EVERY_S: Final = 2.0
"""How soon after it has put away the dead a process does so again."""

Tell = Callable[[Claim, Resources], None]
"""Is told, now and then, how it stands with a claim that waits."""


class Leases(msgspec.Struct):
    """The resources of one state root."""

    root: Path
    log: eventlog.FileLog
    turns: Turns
    files: LeaseFiles
    world: World
    disk: eventlog.Disk
    desk: Desk
    probe: Callable[[Path], None] = require_locks
    _probed: bool = False
    _reaped_s: float = -REAP_EVERY_S
    _answered_s: float = -CROWDED_S

    @property
    def actor(self) -> str:
        """Who asks."""
        return self.turns.actor

    def caller(self, **how: object) -> Caller:
        """Give who asks, now."""
        return Caller(by=self.actor, at=self.world.host.now(), **how)  # type: ignore[arg-type]  # the callers name its fields

    def state(self) -> Resources:
        """Give what goes on, after what has visibly died was put away."""
        state, _ = self.turns.look()
        return self.take().state if self._reap(state) else state

    def reserve(self, command: Reserve, *, limit_s: float | None = None, tell: Tell | None = None) -> tuple[Lease, ...]:
        """Have some keys; with `command.waits`, when it is one's turn, within `limit_s` seconds.

        Raises Busy, Drained, Unsatisfiable, TimedOut and LeaseLost.
        """
        if command.idempotency_key is not None:
            return self._reserve_once(command, limit_s, tell)
        return self._reserve(command, None, limit_s, tell)

    def renew(self, lease_id: str, **how: object) -> Lease:
        """Begin the time to live of a lease again; raises LeaseLost when it has ended."""
        return self._change(lease_id, rules.renew, how)

    def release(self, lease_id: str, **how: object) -> Lease:
        """Give a lease back, or with force take it away; gives it as it is then."""
        asks = how.get("fence") is not None and not how.get("force")
        return self._change(lease_id, rules.release, how, self._ask_to_give_back if asks else None)

    def transfer(self, lease_id: str, to: str, on_behalf_of: str | None, **how: object) -> Lease:
        """Have somebody else hold a lease."""

        def decide(lease_id: str, caller: Caller, state: Resources, look: Observer, past: Lease | None) -> rules.Events:
            return rules.transfer(lease_id, to, on_behalf_of, caller, state, look, past)

        return self._change(lease_id, decide, how)

    def check(self, lease_id: str, fence: int) -> Lease:
        """Give a lease when it is still that of who has this fence; raises LeaseLost and NotFound."""
        state, is_durable = self.turns.look()
        if not is_durable or self._reap(state):
            state = self.take().state
        return rules.check(lease_id, fence, self.caller(), state, self._past(lease_id, state))

    def holder(self, key: str) -> Lease:
        """Give the lease that a key is held by; raises NotFound."""
        lease = self.state().holder(key)
        if lease is None:
            raise NotFound(f"nobody holds {key}: `merlin ray resources list --all` shows who did")
        return lease

    def leave(self, claim_id: str, reason: str = "it was asked to leave") -> None:
        """Take a claim out of the line; twice is once. Raises NotFound and Refused."""
        if not is_claim_id(claim_id):
            raise NotFound(
                f"{claim_id!r} is no claim: `merlin ray resources queue` shows those there are",
                names_a="claim",
                name=claim_id,
            )
        turn = self.take(lambda state: rules.leave(claim_id, reason, self.caller(), state, self.world.look()))
        if not turn.events:
            end = self._end_of(claim_id)
            if isinstance(end, LeaseGranted):
                raise Refused(f"{claim_id} was granted as {end.lease_id}: release that")

    def declare(self, command: Declare) -> Key:
        """Say what a key is."""
        turn = self.take(lambda state: rules.declare(command, self.caller(), state, self.world.look()))
        return turn.state.keys[command.key]

    def set_status(self, key: str, verb: str, reason: str) -> Key:
        """Drain, enable or retire a key."""
        rule = {"drain": rules.drain, "enable": rules.enable, "retire": rules.retire}[verb]
        turn = self.take(lambda state: rule(key, self.caller(reason=reason), state, self.world.look()))
        return turn.state.keys[key]

    def reap(self) -> tuple[LeaseEvent, ...]:
        """Put away what has visibly died, and give what that came to."""
        state, _ = self.turns.look()
        return self.take().events if self._reap(state) else ()

    def all(self) -> Iterator[Lease]:
        """Yield every lease there ever was, in the order in which they ended, and then those that go on."""
        state = Resources()
        for state, _ in LEASE_PROJECTION.states(self.log.read(RESOURCES), state):  # noqa: B020  the last state is kept
            if state.touched is not None and state.touched.ended:
                yield state.touched
        yield from state.leases.values()

    def take(self, *decisions: Decide, key: str | None = None, publishes: bool = True) -> Turn:
        """Put away who has visibly died, then decide; publish what came of it."""
        now_s = self._now_s()
        reaps = not decisions or self._is_to_reap(now_s)
        first = [self._reap] if reaps else []
        try:
            turn = self.turns.take(*first, *decisions, key=key)
        except Busy:
            if reaps:
                raise
            reaps = True  # Whoever is in the way may have died since.
            turn = self.turns.take(self._reap, *decisions, key=key)
        self._reaped_s = now_s if reaps else self._reaped_s
        return self._published(turn) if publishes else turn

    def _take_at_once(self, decide: Decide, *, publishes: bool = True) -> Turn | None:
        """The same, but nothing where somebody else has a turn just now."""
        now_s = self._now_s()
        first = [self._reap] if (reaps := self._is_to_reap(now_s)) else []
        if turn := self.turns.take_at_once(*first, decide):
            self._reaped_s = now_s if reaps else self._reaped_s
            return self._published(turn) if publishes else turn
        return None

    def _now_s(self) -> float:
        """Give the time, before a turn: in the first one it is seen that locks are locks here."""
        if not self._probed:
            make_directories(self.disk, resources_path(self.root))
            self.probe(resources_path(self.root))
            self._probed = True
        return self.world.host.boottime()

    def _is_to_reap(self, now_s: float) -> bool:
        return not 0 <= now_s - self._reaped_s < REAP_EVERY_S

    def _published(self, turn: Turn) -> Turn:
        if turn.events or turn.others:
            self._publish(turn.state, turn.head, turn)
        return turn

    def _serve(self) -> None:
        """Decide what was asked, one's own among it, unless somebody has a turn: who has one will before it goes."""
        if served := self.turns.serve():
            self._published(served)

    def _ask_to_give_back(self, lease_id: str, caller: Caller) -> Lease | None:
        """Have a lease given back by whoever has a turn; nothing where that is refused, or not heard of soon."""
        with self.desk.bells.one() as bell:
            if not bell.name or not self.desk.asking.returns.put(
                GiveBack(lease_id, caller, self.turns.door, bell.name)
            ):
                return None
            self._serve()
            ring = heard(bell.wait(ASKED_S))
        lease = next((lease for lease in ring.leases if lease.lease_id == lease_id), None)
        if lease is not None:
            self._answered_s = self.world.host.monotonic()
            if not ring.is_watched:
                self._publish_late(self.turns.last())
        return lease

    def _is_crowded(self) -> bool:
        return self.world.host.monotonic() - self._answered_s < CROWDED_S

    def _ask(self, command: Reserve, ringing: Bell, limit_s: float | None) -> bool:
        """Ask whoever has a turn to be put in line."""
        asks = command.waiter is not None and ringing.name and (limit_s is None or limit_s > ASKED_S)
        if asks and self.desk.asking.wishes.put(Wish(self.actor, command, self.turns.door)):
            self._serve()
            return True
        return False

    def _reserve(
        self, command: Reserve, key: str | None, limit_s: float | None, tell: Tell | None
    ) -> tuple[Lease, ...]:
        def reserve(state: Resources) -> rules.Events:
            return rules.reserve(replace(command, at=self.world.host.now()), self.actor, state, self.world.look())

        decide: Decide = reserve
        if not command.waits:
            return _of(command.claim_id, self.take(decide, key=key).state)
        with self.desk.bells.one() as ringing:
            begun_s = self.world.host.monotonic()
            if command.waiter is not None:
                command = replace(command, waiter=replace(command.waiter, bell=ringing.name))
            try:
                turn = None if key or self._is_crowded() else self._take_at_once(decide, publishes=False)
                since = 0 if key or turn else self.turns.kept_seq()
                if not key and not turn and self._ask(command, ringing, limit_s):
                    rung = ringing.wait(ASKED_S)
                    if leases := self._told(command.claim_id, rung):
                        self._answered_s = self.world.host.monotonic()
                        return leases
                    state = self.turns.look()[0] if rung else self.turns.last()
                    if _knows(command.claim_id, state):
                        return self._wait(
                            command.claim_id, ringing, begun_s, limit_s, tell, seen=state if rung else None
                        )
                    decide = self._unless_heard(command.claim_id, since, decide)
                turn = turn or self.take(decide, key=key, publishes=False)
                if leases := _taken(command.claim_id, turn.state.leases.values()):
                    self._published(turn)
                    return leases
                return self._wait(command.claim_id, ringing, begun_s, limit_s, tell)
            except Refused:
                raise
            except BaseException:
                self._give_up(command.claim_id)
                raise

    def _unless_heard(self, claim_id: str, since: int, decide: Decide) -> Decide:
        """Decide, unless somebody has put that claim in line since, and all that came of it has ended already."""

        def decide_once(state: Resources) -> rules.Events:
            news = LEASE_PROJECTION.codec.decode(self.log.read(RESOURCES, since + 1))
            heard = any(getattr(recorded.event, "claim_id", None) == claim_id for recorded in news)
            return () if heard else tuple(decide(state))

        return decide_once

    def _wait(
        self,
        claim_id: str,
        ringing: Bell,
        begun_s: float,
        limit_s: float | None,
        tell: Tell | None,
        *,
        seen: Resources | None = None,
    ) -> tuple[Lease, ...]:
        """Wait until a claim is granted; raises what became of it otherwise.

        `seen` is what there was to see after the bell has rung, if it has.
        """
        clock, beaten_s, poll_s = self.world.host.monotonic, begun_s, BELL_POLL_S if ringing.name else POLL_S
        while True:
            left_s = poll_s if limit_s is None else min(poll_s, begun_s + limit_s - clock())
            rung = ringing.wait(left_s) if seen is None else b""
            if leases := self._told(claim_id, rung) or _taken(claim_id, (seen or self.turns.last()).leases.values()):
                return leases
            seen = None
            state, is_durable = self.turns.look()
            if leases := _of(claim_id, state):
                if not is_durable or any(lease.guard for lease in leases):
                    state = self.take(*(self._accept(lease.lease_id) for lease in leases)).state
                return self._still(claim_id, leases, state)
            claim = state.claims.get(claim_id)
            if claim is None:
                return self._still(claim_id, (), state)
            waited_s = clock() - begun_s
            if limit_s is not None and waited_s >= limit_s:
                self._time_out(claim_id, waited_s)
            elif claim.waiter and clock() - beaten_s >= claim.waiter.ttl_s / BEATS:
                beaten_s = clock()
                self.take(lambda state: rules.beat(claim_id, state, self.world.look()))
            elif not is_durable or self._reap(state):
                self.take()
            else:
                self._publish_late(state)
                if tell:
                    tell(claim, state)

    def _told(self, claim_id: str, rung: bytes) -> tuple[Lease, ...]:
        """Give the leases that a bell says a claim has become, if it rang just now: they may have ended since."""
        leases, host = _taken(claim_id, heard(rung).leases) if rung else (), self.world.host
        for lease in leases:
            granted = lease.granted
            if not granted or granted.boot_id != host.boot_id or host.boottime() - granted.boottime_s > BELIEVED_S:
                return ()
        return leases

    def _accept(self, lease_id: str) -> Decide:
        return lambda state: rules.accept(lease_id, state)

    def _time_out(self, claim_id: str, waited_s: float) -> None:
        def decide(state: Resources) -> rules.Events:
            return rules.time_out(claim_id, waited_s, self.caller(), state, self.world.look())

        if any(isinstance(event, ClaimTimedOut) for event in self.take(decide).events):
            raise TimedOut(f"{claim_id} was not granted within {waited_s:.0f} s: try again later, or wait for longer")

    def _still(self, claim_id: str, leases: tuple[Lease, ...], state: Resources) -> tuple[Lease, ...]:
        """Give the leases of a claim as they are now; raises what became of it when it has none."""
        if leases and (now := _of(claim_id, state)):
            return now
        end = self._end_of(claim_id)
        if isinstance(end, LeaseGranted):
            lost = [lease for lease in self.all() if lease.claim_id == claim_id]
            raise LeaseLost(f"{claim_id} was granted, and {lost[0].lease_id} {lost[0].ended} before it was taken")
        if isinstance(end, ClaimCancelled):
            raise Refused(f"{claim_id} is no longer in line: {end.reason}")
        raise Refused(f"{claim_id} is no longer in line, as nothing was heard of it: reserve again")

    def _give_up(self, claim_id: str) -> None:
        """Leave the line, or give back what was granted meanwhile: nobody will be there to have it."""

        def decide(state: Resources) -> rules.Events:
            caller, look = self.caller(reason="who waited has left"), self.world.look()
            events = rules.leave(claim_id, "who waited has left", caller, state, look)
            for lease in _of(claim_id, state):
                return rules.release(lease.lease_id, replace(caller, fence=lease.fence), state, look)
            return events

        with suppress(Refused):
            while self.take(decide).events:
                pass

    def _reserve_once(self, command: Reserve, limit_s: float | None, tell: Tell | None) -> tuple[Lease, ...]:
        """Reserve under an idempotency key, or give what was reserved under it before."""
        said = msgspec.to_builtins(replace(command, claim_id="", at="", waits=False, waiter=None, spec=""))
        said["liveness"].pop("process")
        spec = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        key = f"reserve:{hashlib.sha256(str(command.idempotency_key).encode()).hexdigest()}"
        try:
            return self._reserve(replace(command, spec=spec), key, limit_s, tell)
        except eventlog.KeyReused:
            earlier = self._keyed(key)
        except Refused:
            earlier = self._keyed(key)
            if earlier is None:
                raise
        assert earlier is not None  # noqa: S101  the log has just said so
        if earlier.spec != spec:
            raise Refused(
                f"the idempotency key {command.idempotency_key!r} was used for another reservation: give the same keys "
                "and options as then, or a new key"
            )
        return self._again(earlier.claim_id, command, limit_s, tell)

    def _again(self, claim_id: str, command: Reserve, limit_s: float | None, tell: Tell | None) -> tuple[Lease, ...]:
        """Give what a claim has become; wait for it where it still waits."""
        if claim_id in self.state().claims and command.waits:
            with self.desk.bells.one() as ringing:
                return self._wait(claim_id, ringing, self.world.host.monotonic(), limit_s, tell)
        leases = tuple(lease for lease in self.all() if lease.claim_id == claim_id)
        return leases or self._still(claim_id, (), self.state())

    def _keyed(self, key: str) -> ClaimQueued | None:
        """Give the claim that was recorded under a key of the log."""
        for event in self.log.read(RESOURCES):
            if event.key == key:
                [recorded] = LEASE_PROJECTION.codec.decode([event])
                return recorded.event if isinstance(recorded.event, ClaimQueued) else None
        return None

    def _end_of(self, claim_id: str) -> LeaseEvent | None:
        """Find how a claim has ended; raises NotFound when there was none."""
        for recorded in LEASE_PROJECTION.codec.decode(self.log.read_backwards(RESOURCES)):
            event: LeaseEvent = recorded.event
            if getattr(event, "claim_id", None) == claim_id:
                return event
        raise NotFound(
            f"there is no claim {claim_id!r}: `merlin ray resources queue` shows those there are",
            names_a="claim",
            name=claim_id,
        )

    def _change(
        self,
        lease_id: str,
        rule: Callable[..., rules.Events],
        how: dict[str, object],
        ask: Callable[[str, Caller], Lease | None] | None = None,
    ) -> Lease:
        """Change a lease, in a turn of somebody else if one may `ask` and somebody has one."""
        if not is_lease_id(lease_id):
            raise NotFound(
                f"{lease_id!r} is no lease: `merlin ray resources list --all` shows those there are",
                names_a="lease",
                name=lease_id,
            )
        ended: list[Lease | None] = []

        def decide(state: Resources) -> rules.Events:
            ended[:] = [self._past(lease_id, state)]
            return rule(lease_id, self.caller(**how), state, self.world.look(), ended[0])

        turn = self._take_at_once(decide) if ask and not self._is_crowded() else None
        if ask and turn is None and (lease := ask(lease_id, self.caller(**how))):
            return lease
        turn = turn or self.take(decide)
        now, _ = turn.touched.get(lease_id, (turn.state.leases.get(lease_id), None))
        lease = now or ended[0] or self._past(lease_id, turn.state)
        assert lease is not None  # noqa: S101  the rule has found it
        return lease

    def _past(self, lease_id: str, state: Resources) -> Lease | None:
        """Give a lease that has ended; its file is enough where that says so, as no lease begins again."""
        if lease_id in state.leases or not is_lease_id(lease_id):
            return None
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            lease = msgspec.json.decode((self.root / lease_name(lease_id)).read_bytes(), type=Lease)
            if lease.ended and lease.lease_id == lease_id:
                return lease
        return next((lease for lease in self.all() if lease.lease_id == lease_id), None)

    def _reap(self, state: Resources) -> rules.Events:
        return rules.reap(self.world.host.now(), self.actor, state, self.world.look())

    def _publish(self, state: Resources, head: eventlog.Head, turn: Turn | None = None) -> None:
        """Write the files. While somebody waits, whoever comes or looks a moment later does: each lease once."""
        if state.is_watched and self.files.are_new(PUBLISH_EVERY_S):
            return
        try:
            is_published = turn and turn.before and self.files.publish_turn(turn.before, turn.state, head, turn.touched)
            while is_published or self.files.publish(head):
                is_published = False
                kept = self.turns.kept()
                if kept is None or kept[1].seq <= head.seq or kept[0].is_watched:
                    return
                head = kept[1]  # Others have decided meanwhile, and have left it to us.
        except OSError as error:
            warnings.warn(
                f"the files of the resources cannot be written ({error}); the log has everything: remove the cause, "
                "then `merlin ray rebuild`",
                RuntimeWarning,
                stacklevel=2,
            )

    def _publish_late(self, state: Resources) -> None:
        """Write what was left to be written, if it was."""
        kept = self.turns.kept()
        if kept is not None and not self.files.are_at(kept[1]):
            self._publish(state, kept[1])


def _knows(claim_id: str, state: Resources) -> bool:
    """Tell whether a claim waits or has been granted."""
    return claim_id in state.claims or bool(_of(claim_id, state))


def _taken(claim_id: str, leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """Give the leases that a claim has become, where nobody has to say first that they have come."""
    leases = tuple(lease for lease in leases if lease.claim_id == claim_id)
    return leases if not any(lease.guard for lease in leases) else ()


def _of(claim_id: str, state: Resources) -> tuple[Lease, ...]:
    """Give the leases that a claim has become."""
    return tuple(lease for lease in state.leases.values() if lease.claim_id == claim_id)


def check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of one reservation when they can be; raises Usage."""
    from projections.lease_state import check_key

    try:
        checked = tuple(map(check_key, keys))
    except eventlog.Invalid as error:
        raise Usage(str(error)) from None
    if len(set(checked)) != len(checked):
        raise Usage("one key is named twice, and can only be held once: name each once")
    return checked


def this_process() -> Process:
    """Name the process that asks."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:
    process = identify(pid)
    assert process is not None  # noqa: S101  it runs this very line
    return Process(process.pid, process.started, process.boot_id)
