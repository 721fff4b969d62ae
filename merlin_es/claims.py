"""How does somebody come to have what it claims: at once, or after a wait in line?

Who waits listens at a bell, and looks by itself now and then; it gives signs that it is still there. Where somebody
else has a turn it only asks to be put in line, and takes a turn of its own where it does not hear of that soon.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

import eventlog
from merlin_es.asking import Wish
from merlin_es.bells import Bell
from merlin_es.clerk import Clerk
from merlin_es.deciders import lease as rules
from merlin_es.desk import Desk, heard
from merlin_es.drafts import Decide
from merlin_es.errors import LeaseLost, NotFound, Refused, TimedOut
from merlin_es.lease_commands import Reserve
from merlin_es.observer import BELIEVED_S
from projections.events.lease import (
    ClaimCancelled,
    ClaimQueued,
    ClaimTimedOut,
    LeaseEvent,
    LeaseGranted,
)
from projections.layout import RESOURCES
from projections.lease_projection import LEASE_PROJECTION, leases_in
from projections.lease_state import Claim, Lease, Resources

POLL_S: Final = 0.25
"""How long somebody who waits without a bell sleeps before it looks by itself."""
BELL_POLL_S: Final = 1.0
"""The same with a bell, which is only missed where somebody died between a grant and its ring, or on another host."""
WAITER_TTL_S: Final = 30.0
"""After this long without a word, who waits is taken to be gone."""
BEATS: Final = 3
"""How often who waits gives a sign within that time."""
ASKED_S: Final = 0.2
"""How long somebody who has asked whoever has a turn waits before it takes one for that."""

Tell = Callable[[Claim, Resources], None]
"""Is told, now and then, how it stands with a claim that waits."""


class Claims(msgspec.Struct):
    """The claims of this process, and their waits."""

    log: eventlog.FileLog
    desk: Desk
    clerk: Clerk

    def reserve(self, command: Reserve, limit_s: float | None, tell: Tell | None) -> tuple[Lease, ...]:
        """Have what it claims; see Leases.reserve."""
        if command.idempotency_key is not None:
            return self._reserve_once(command, limit_s, tell)
        return self._reserve(command, None, limit_s, tell)

    def end_of(self, claim_id: str) -> LeaseEvent | None:
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

    def _ask(self, command: Reserve, ringing: Bell, limit_s: float | None) -> bool:
        """Ask whoever has a turn to be put in line."""
        asks = command.waiter is not None and ringing.name and (limit_s is None or limit_s > ASKED_S)
        if asks and self.desk.asking.wishes.put(Wish(self.clerk.actor, command, self.clerk.turns.door)):
            self.clerk.serve()
            return True
        return False

    def _reserve(
        self, command: Reserve, key: str | None, limit_s: float | None, tell: Tell | None
    ) -> tuple[Lease, ...]:
        def reserve(state: Resources) -> rules.Events:
            return rules.reserve(
                replace(command, at=self.clerk.world.host.now()), self.clerk.actor, state, self.clerk.world.look()
            )

        decide: Decide = reserve
        if not command.waits:
            return _of(command.claim_id, self.clerk.take(decide, key=key).state)
        with self.desk.bells.one() as ringing:
            begun_s = self.clerk.world.host.monotonic()
            if command.waiter is not None:
                command = replace(command, waiter=replace(command.waiter, bell=ringing.name))
            try:
                turn = None if key or self.clerk.is_crowded else self.clerk.take_at_once(decide, publishes=False)
                since = 0 if key or turn else self.clerk.turns.kept_seq()
                if not key and not turn and self._ask(command, ringing, limit_s):
                    rung = ringing.wait(ASKED_S)
                    if leases := self._told(command.claim_id, rung):
                        self.clerk.answered()
                        return leases
                    state = self.clerk.turns.look()[0] if rung else self.clerk.turns.last()
                    if _knows(command.claim_id, state):
                        return self._wait(
                            command.claim_id, ringing, begun_s, limit_s, tell, seen=state if rung else None
                        )
                    decide = self._unless_heard(command.claim_id, since, decide)
                turn = turn or self.clerk.take(decide, key=key, publishes=False)
                if leases := _taken(command.claim_id, turn.state.leases.values()):
                    self.clerk.published(turn)
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
        clock, beaten_s, poll_s = self.clerk.world.host.monotonic, begun_s, BELL_POLL_S if ringing.name else POLL_S
        while True:
            left_s = poll_s if limit_s is None else min(poll_s, begun_s + limit_s - clock())
            rung = ringing.wait(left_s) if seen is None else b""
            if leases := self._told(claim_id, rung) or _taken(
                claim_id, (seen or self.clerk.turns.last()).leases.values()
            ):
                return leases
            seen = None
            state, is_durable = self.clerk.turns.look()
            if leases := _of(claim_id, state):
                if not is_durable or any(lease.guard for lease in leases):
                    state = self.clerk.take(*(self._accept(lease.lease_id) for lease in leases)).state
                return self._still(claim_id, leases, state)
            claim = state.claims.get(claim_id)
            if claim is None:
                return self._still(claim_id, (), state)
            waited_s = clock() - begun_s
            if limit_s is not None and waited_s >= limit_s:
                self._time_out(claim_id, waited_s)
            elif claim.waiter and clock() - beaten_s >= claim.waiter.ttl_s / BEATS:
                beaten_s = clock()
                self.clerk.take(lambda state: rules.beat(claim_id, state, self.clerk.world.look()))
            elif not is_durable or self.clerk.reap(state):
                self.clerk.take()
            else:
                self.clerk.publish_late(state)
                if tell:
                    tell(claim, state)

    def _told(self, claim_id: str, rung: bytes) -> tuple[Lease, ...]:
        """Give the leases that a bell says a claim has become, if it rang just now: they may have ended since."""
        leases, host = _taken(claim_id, heard(rung).leases) if rung else (), self.clerk.world.host
        for lease in leases:
            granted = lease.granted
            if not granted or granted.boot_id != host.boot_id or host.boottime() - granted.boottime_s > BELIEVED_S:
                return ()
        return leases

    def _accept(self, lease_id: str) -> Decide:
        return lambda state: rules.accept(lease_id, state)

    def _time_out(self, claim_id: str, waited_s: float) -> None:
        def decide(state: Resources) -> rules.Events:
            return rules.time_out(claim_id, waited_s, self.clerk.caller(), state, self.clerk.world.look())

        if any(isinstance(event, ClaimTimedOut) for event in self.clerk.take(decide).events):
            raise TimedOut(f"{claim_id} was not granted within {waited_s:.0f} s: try again later, or wait for longer")

    def _still(self, claim_id: str, leases: tuple[Lease, ...], state: Resources) -> tuple[Lease, ...]:
        """Give the leases of a claim as they are now; raises what became of it when it has none."""
        if leases and (now := _of(claim_id, state)):
            return now
        end = self.end_of(claim_id)
        if isinstance(end, LeaseGranted):
            lost = [lease for lease in leases_in(self.log.read(RESOURCES)) if lease.claim_id == claim_id]
            raise LeaseLost(f"{claim_id} was granted, and {lost[0].lease_id} {lost[0].ended} before it was taken")
        if isinstance(end, ClaimCancelled):
            raise Refused(f"{claim_id} is no longer in line: {end.reason}")
        raise Refused(f"{claim_id} is no longer in line, as nothing was heard of it: reserve again")

    def _give_up(self, claim_id: str) -> None:
        """Leave the line, or give back what was granted meanwhile: nobody will be there to have it."""

        def decide(state: Resources) -> rules.Events:
            caller, look = self.clerk.caller(reason="who waited has left"), self.clerk.world.look()
            events = rules.leave(claim_id, "who waited has left", caller, state, look)
            for lease in _of(claim_id, state):
                return rules.release(lease.lease_id, replace(caller, fence=lease.fence), state, look)
            return events

        with suppress(Refused):
            while self.clerk.take(decide).events:
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
        if claim_id in self.clerk.state().claims and command.waits:
            with self.desk.bells.one() as ringing:
                return self._wait(claim_id, ringing, self.clerk.world.host.monotonic(), limit_s, tell)
        leases = tuple(lease for lease in leases_in(self.log.read(RESOURCES)) if lease.claim_id == claim_id)
        return leases or self._still(claim_id, (), self.clerk.state())

    def _keyed(self, key: str) -> ClaimQueued | None:
        """Give the claim that was recorded under a key of the log."""
        for event in self.log.read(RESOURCES):
            if event.key == key:
                [recorded] = LEASE_PROJECTION.codec.decode([event])
                return recorded.event if isinstance(recorded.event, ClaimQueued) else None
        return None


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
