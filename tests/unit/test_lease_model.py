"""Do the rules and the fold do what a model says that has neither events nor a fold, whatever happens in any order?

The model keeps who holds what and who waits in plain lists, and after each step looks for who is next by brute force.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from merlin_es.commands import Declare
from merlin_es.deciders import lease as rules
from merlin_es.errors import MerlinError
from projections.events import lease as e
from projections.lease_state import Liveness, Pool, Process, Waiter
from tests.conftest import Figure
from tests.lease_examples import BOOT, NOW, Room, at, folded

EXAMPLES, STEPS, DRAWN = 1000, 50, 10
KEYS = ("a", "b", "c", "d")
POOL = {"a": "x", "b": "x", "c": "y", "d": "y"}
TTL_S, WAITER_TTL_S = 60.0, 30.0
OVERTAKEN_MAX = 8
VERBS = ("reserve",) * 6 + ("release",) * 5 + ("renew", "leave", "drain", "time", "revoke", "beat")
CROWDED = ("reserve",) * 5 + ("release",) * 4
counts: Counter[str] = Counter()


@dataclass
class Waits:
    """Somebody in the model who waits."""

    claim_id: str
    owner: str
    keys: tuple[str, ...]
    pool: tuple[str, int] | None
    priority: int
    beat_s: float
    overtaken: int = 0

    def candidates(self) -> list[str]:
        return [key for key in KEYS if POOL[key] == self.pool[0]] if self.pool else list(self.keys)

    def needs(self) -> int:
        return self.pool[1] if self.pool else len(self.keys)


@dataclass
class Holds:
    """Somebody in the model who holds a key."""

    claim_id: str
    owner: str
    renewed_s: float
    mortal: bool


class Model:
    """Who holds what, and who waits, in the order in which they came."""

    def __init__(self) -> None:
        self.held: dict[str, Holds] = {}
        self.line: list[Waits] = []
        self.fences = dict.fromkeys(KEYS, 0)
        self.drained: set[str] = set()
        self.mortals: dict[str, bool] = {}

    def serve(self, now_s: float) -> None:
        """Grant until nobody can be granted anything."""
        while self._serve_one(now_s):
            pass

    def _serve_one(self, now_s: float) -> bool:
        kept: set[str] = set()
        patient = [each for each in self.line if each.overtaken >= OVERTAKEN_MAX]
        others = [each for each in self.line if each.overtaken < OVERTAKEN_MAX]
        for priority in (None, *sorted({each.priority for each in others}, reverse=True)):
            for each in patient if priority is None else [one for one in others if one.priority == priority]:
                usable = [key for key in each.candidates() if key not in self.drained]
                if len(usable) < each.needs():
                    continue
                free = [key for key in usable if key not in self.held and key not in kept]
                if len(free) < each.needs():
                    kept |= set(free)
                    continue
                self._grant(each, free[: each.needs()], now_s)
                return True
        return False

    def _grant(self, each: Waits, keys: list[str], now_s: float) -> None:
        earlier = self.line[: self.line.index(each)]
        self.line.remove(each)
        for other in earlier:
            waits_beside = sum(key not in self.drained for key in other.candidates()) < other.needs()
            if not waits_beside and set(other.candidates()) & set(keys):
                other.overtaken += 1
        for key in keys:
            self.fences[key] += 1
            self.held[key] = Holds(each.claim_id, each.owner, now_s, self.mortals[each.claim_id])


class Machine(RuleBasedStateMachine):
    """Takes any steps, and compares after each."""

    @initialize(is_crowded=st.sampled_from((False, False, True)))
    def begin(self, is_crowded: bool) -> None:
        """Start with four keys; a crowd wants one, each more urgently, so the first are overtaken often."""
        self.is_crowded = is_crowded
        self.room, self.model, self.claims = Room(), Model(), 0
        self.fences: dict[str, int] = {}
        for key in KEYS:
            self.room.take(
                rules.declare(Declare(key, {"board": POOL[key]}), self.room.caller(), self.room.state, self.room.sight)
            )

    @rule(dice=st.integers(0, 2**32 - 1))
    def steps(self, dice: int) -> None:
        """Take some steps: to draw each of them alone takes longer than to take it."""
        pick = random.Random(dice)
        for _ in range(DRAWN):
            what = pick.choice(CROWDED if self.is_crowded else VERBS)
            counts[what] += 1
            getattr(self, what)(pick, self.room.sight.now_s)
            self.compare()

    def reserve(self, pick: random.Random, now_s: float) -> None:
        self.claims += 1
        keys = tuple(sorted(pick.sample(KEYS, pick.choice((1, 1, 1, 2, 3)))))
        pool = (pick.choice("xy"), pick.choice((1, 1, 2))) if pick.random() < 0.3 else None
        mortal, priority, owner = pick.random() < 0.5, pick.choice((0, 0, 0, 1, 2)), pick.choice("pqrs")
        if self.is_crowded:
            keys, pool, priority = ("a",), None, self.claims
        wish = self.room.wish(
            *(() if pool else keys),
            owner=owner,
            pool=Pool("board", *pool) if pool else None,
            priority=priority,
            liveness=Liveness(ttl_s=TTL_S if mortal else None),
            waiter=Waiter(WAITER_TTL_S, Process(self.claims, 1, BOOT)),
            waits=pick.random() < 0.8,
        )
        self.model.mortals[wish.claim_id] = mortal
        line, held, fences = list(self.model.line), dict(self.model.held), dict(self.model.fences)
        overtaken = [each.overtaken for each in line]
        self.model.line.append(Waits(wish.claim_id, owner, keys, pool, priority, now_s))
        self.model.serve(now_s)
        if not wish.waits and any(each.claim_id == wish.claim_id for each in self.model.line):
            self.model.line, self.model.held, self.model.fences = line, held, fences
            for each, times in zip(line, overtaken, strict=True):
                each.overtaken = times
        try:
            self.room.take(rules.reserve(wish, "x@y", self.room.state, self.room.sight))
        except MerlinError:
            assert not wish.waits

    def release(self, pick: random.Random, now_s: float) -> None:
        if key := self._a_held_key(pick):
            lease = self.room.state.holder(key)
            assert lease
            del self.model.held[key]
            self.model.serve(now_s)
            caller = self.room.caller(fence=lease.fence)
            self.room.take(rules.release(lease.lease_id, caller, self.room.state, self.room.sight))

    def revoke(self, pick: random.Random, now_s: float) -> None:
        if key := self._a_held_key(pick):
            lease = self.room.state.holder(key)
            assert lease
            self.model.line = [
                each for each in self.model.line if each.owner != lease.owner or key not in each.candidates()
            ]
            del self.model.held[key]
            self.model.serve(now_s)
            caller = self.room.caller(owner="boss", force=True, reason="it burns")
            self.room.take(rules.release(lease.lease_id, caller, self.room.state, self.room.sight))

    def renew(self, pick: random.Random, now_s: float) -> None:
        if (key := self._a_held_key(pick)) and self.model.held[key].mortal:
            lease = self.room.state.holder(key)
            assert lease
            if now_s - self.model.held[key].renewed_s >= rules.COALESCED * TTL_S:
                self.model.held[key].renewed_s = now_s
            caller = self.room.caller(fence=lease.fence)
            self.room.take(rules.renew(lease.lease_id, caller, self.room.state, self.room.sight))

    def leave(self, pick: random.Random, now_s: float) -> None:
        if self.model.line:
            gone = pick.choice(self.model.line)
            self.model.line.remove(gone)
            self.model.serve(now_s)
            self.room.take(rules.leave(gone.claim_id, "lunch", self.room.caller(), self.room.state, self.room.sight))

    def beat(self, pick: random.Random, now_s: float) -> None:
        if self.model.line:
            each = pick.choice(self.model.line)
            if now_s - each.beat_s >= rules.COALESCED * WAITER_TTL_S:
                each.beat_s = now_s
            self.room.take(rules.beat(each.claim_id, self.room.state, self.room.sight))

    def drain(self, pick: random.Random, now_s: float) -> None:
        key = pick.choice(KEYS)
        verb = rules.enable if key in self.model.drained else rules.drain
        self.model.drained ^= {key}
        self.model.serve(now_s)
        self.room.take(verb(key, self.room.caller(reason="fan"), self.room.state, self.room.sight))

    def time(self, pick: random.Random, now_s: float) -> None:
        """Time goes by, and somebody looks who is still alive."""
        self.room.sight.now_s = now_s = now_s + pick.choice((1.0, 10.0, 31.0, 61.0))
        self.model.line = [each for each in self.model.line if now_s - each.beat_s <= WAITER_TTL_S]
        for key, holds in list(self.model.held.items()):
            lease = self.room.state.holder(key)
            guarded = lease is not None and lease.guard is not None
            limit_s = WAITER_TTL_S if guarded else TTL_S
            if (holds.mortal or guarded) and now_s - holds.renewed_s > limit_s:
                del self.model.held[key]
        self.model.serve(now_s)
        self.room.take(rules.reap(NOW, "x@y", self.room.state, self.room.sight))

    def compare(self) -> None:
        state = self.room.state
        assert {lease.key: lease.claim_id for lease in state.leases.values()} == {
            key: holds.claim_id for key, holds in self.model.held.items()
        }
        assert [claim.claim_id for claim in sorted(state.claims.values(), key=lambda each: each.seq)] == [
            each.claim_id for each in self.model.line
        ]
        assert {key: state.keys[key].fence for key in KEYS} == self.model.fences
        counts["overtaken for the last time"] += any(each.overtaken == OVERTAKEN_MAX for each in self.model.line)
        assert all(claim.overtaken <= OVERTAKEN_MAX for claim in state.claims.values())
        assert not {claim.claim_id for claim in state.claims.values()} & {
            lease.claim_id for lease in state.leases.values()
        }

    def _a_held_key(self, pick: random.Random) -> str | None:
        return pick.choice(sorted(self.model.held)) if self.model.held else None

    def teardown(self) -> None:
        """Look at the whole log once more: at each of its prefixes."""
        if hasattr(self, "room"):
            check_every_prefix(self.room.log)


def check_every_prefix(log: list[e.LeaseEvent]) -> None:
    """Check the invariants that can be read from events alone."""
    held: dict[str, str] = {}
    key_of: dict[str, str] = {}
    fences: dict[str, int] = {}
    drained: set[str] = set()
    for event in log:
        match event:
            case e.LeaseGranted(key=key, lease_id=lease_id, fence=fence):
                assert key not in held, "two holders of one key"
                assert key not in drained, "granted while it was drained"
                assert fence > fences.get(key, 0), "a fence that repeats or falls"
                assert lease_id not in key_of, "an id that repeats"
                held[key], key_of[lease_id], fences[key] = lease_id, key, fence
            case e.LeaseReleased() | e.LeaseExpired() | e.LeaseRevoked():
                assert held.pop(key_of[event.lease_id]) == event.lease_id
            case e.ResourceDraining(key=key):
                drained.add(key)
            case e.ResourceEnabled(key=key):
                drained.discard(key)
            case _:
                pass
    state = folded(log)
    for each in state.keys.values():
        spent, (declared, last) = each.spent, (seconds(each.declared_at), seconds(each.since))
        assert spent.free_us + spent.active_us + spent.drained_us == (last - declared) * 1_000_000


def seconds(time: str) -> int:
    assert time == at(0)[:14] + time[14:]
    return int(time[14:16]) * 60 + int(time[17:19])


def test_the_rules_do_what_the_model_says_in_any_order(figure: Figure) -> None:
    counts.clear()
    begin = time.process_time()
    run = seed(4)(Machine)
    run_state_machine_as_test(
        run,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS // DRAWN,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert counts.pop("overtaken for the last time") > 0
    assert set(counts) == set(VERBS)
    figure(
        f"{EXAMPLES} examples of up to {STEPS} steps, {counts.total():,} in all, {time.process_time() - begin:.0f} s"
    )
