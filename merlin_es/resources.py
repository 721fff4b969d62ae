"""What can a door ask of the resources? One method for each verb: it takes a turn, and gives what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

import eventlog
from merlin_es.asking import GiveBack
from merlin_es.claims import ASKED_S, Claims, Tell
from merlin_es.clerk import Clerk
from merlin_es.deciders import lease as rules
from merlin_es.deciders.sight import Observer
from merlin_es.desk import Desk, heard
from merlin_es.drafts import Decide
from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.lease_commands import Caller, Declare, Reserve
from merlin_es.observer import World
from merlin_es.processes import identify
from merlin_es.turns import Turn, Turns
from projections.events.lease import LeaseEvent, LeaseGranted
from projections.layout import RESOURCES, lease_name
from projections.lease_projection import leases_in
from projections.lease_state import Key, Lease, Process, Resources, is_claim_id, is_lease_id


class Leases(msgspec.Struct):
    """The resources of one state root."""

    root: Path
    log: eventlog.FileLog
    desk: Desk
    clerk: Clerk
    claims: Claims

    @property
    def actor(self) -> str:
        """Who asks."""
        return self.clerk.actor

    @property
    def turns(self) -> Turns:
        """The turns at them."""
        return self.clerk.turns

    @property
    def world(self) -> World:
        """What this process knows of the world."""
        return self.clerk.world

    def caller(self, **how: object) -> Caller:
        """Give who asks, now."""
        return self.clerk.caller(**how)

    def state(self) -> Resources:
        """Give what goes on, after what has visibly died was put away."""
        return self.clerk.state()

    def take(self, *decisions: Decide, key: str | None = None) -> Turn:
        """Put away who has visibly died, then decide; publish what came of it."""
        return self.clerk.take(*decisions, key=key)

    def reserve(self, command: Reserve, *, limit_s: float | None = None, tell: Tell | None = None) -> tuple[Lease, ...]:
        """Have some keys; with `command.waits`, when it is one's turn, within `limit_s` seconds.

        Raises Busy, Drained, Unsatisfiable, TimedOut and LeaseLost.
        """
        return self.claims.reserve(command, limit_s, tell)

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
        if not is_durable or self.clerk.reap(state):
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
            end = self.claims.end_of(claim_id)
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
        return self.take().events if self.clerk.reap(state) else ()

    def all(self) -> Iterator[Lease]:
        """Give every lease there ever was, in the order in which they ended, and then those that go on."""
        return leases_in(self.log.read(RESOURCES))

    def _ask_to_give_back(self, lease_id: str, caller: Caller) -> Lease | None:
        """Have a lease given back by whoever has a turn; nothing where that is refused, or not heard of soon."""
        with self.desk.bells.one() as bell:
            if not bell.name or not self.desk.asking.returns.put(
                GiveBack(lease_id, caller, self.turns.door, bell.name)
            ):
                return None
            self.clerk.serve()
            ring = heard(bell.wait(ASKED_S))
        lease = next((lease for lease in ring.leases if lease.lease_id == lease_id), None)
        if lease is not None:
            self.clerk.answered()
            if not ring.is_watched:
                self.clerk.publish_late(self.turns.last())
        return lease

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

        turn = self.clerk.take_at_once(decide) if ask and not self.clerk.is_crowded else None
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
