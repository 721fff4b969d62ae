"""What do the keys, leases and claims in the tests go through, and what does who decides about them see?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from eventlog import FileLog
from merlin_es.asking import Asking
from merlin_es.bells import Bells
from merlin_es.claims import Claims
from merlin_es.clerk import Clerk
from merlin_es.commands import Caller, Reserve
from merlin_es.desk import Desk
from merlin_es.lock_probe import require_locks
from merlin_es.observer import World
from merlin_es.ports import Host, ProcessId
from merlin_es.resources import Leases
from merlin_es.turns import Turns
from projections.events import lease as e
from projections.events.recorded import Recorded
from projections.fresh import stamps
from projections.layout import StateLayout
from projections.lease_files import LeaseFiles
from projections.lease_state import NOTHING, Liveness, Pool, Process, Resources, Tick, Waiter
from projections.leases import evolve
from tests.examples import unsynced

BOOT, OTHER_BOOT = "boot-1", "boot-2"
PROCESS = Process(17, 170, BOOT)
NOW = "2026-11-23T08:00:00.000000Z"


def at(seq: int) -> str:
    """Give the time at which event `seq` of an example was recorded."""
    return f"2026-11-23T08:{seq // 60 % 60:02d}:{seq % 60:02d}.000000Z"


def folded(events: Iterable[e.LeaseEvent], state: Resources = NOTHING, first: int = 1) -> Resources:
    """Fold events on top of a state."""
    for seq, event in enumerate(events, first):
        state = evolve(state, Recorded(seq, at(seq), "ada@lab", "cli", event))
    return state


@dataclass
class Sight:
    """An observer whose world is what the test says."""

    now_s: float = 1000.0
    boot_id: str = BOOT
    gone: set[Process] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def tick(self) -> Tick:
        """This moment."""
        return Tick(self.boot_id, self.now_s)

    def is_gone(self, process: Process) -> bool:
        """Whether it is among the dead of this boot."""
        return process.boot_id == self.boot_id and process in self.gone

    def unchanged_s(self, name: str, mark: str) -> float:
        """Since when it has been seen."""
        if self.seen.get(name, ("", 0.0))[0] != mark or name not in self.seen:
            self.seen[name] = (mark, self.now_s)
        return self.now_s - self.seen[name][1]

    def run_end(self, run_id: str) -> str | None:
        """How a run has ended."""
        return self.ended.get(run_id)


class Room:
    """A state of resources, and everything that is decided about it, in memory."""

    def __init__(self) -> None:
        self.state = NOTHING
        self.sight = Sight()
        self.log: list[e.LeaseEvent] = []
        self._numbers = itertools.count(1)

    def take(self, events: Iterable[e.LeaseEvent]) -> list[str]:
        """Apply what was decided; gives the types of it."""
        new = list(events)
        self.state = folded(new, self.state, len(self.log) + 1)
        self.log += new
        return [event.type for event in new]

    def wish(self, *keys: str, owner: str = "ada", waits: bool = True, **more: object) -> Reserve:
        """Somebody wants keys."""
        wish = {"waiter": Waiter(30.0) if waits else None, "liveness": Liveness(ttl_s=60.0), **more}
        return Reserve(f"claim-{next(self._numbers):010x}", owner, NOW, keys, waits=waits, **wish)  # type: ignore[arg-type]  # the tests name its fields

    def caller(self, by: str = "ada@lab", **more: object) -> Caller:
        """Somebody asks."""
        return Caller(by, NOW, **more)  # type: ignore[arg-type]  # likewise

    def lease_of(self, claim_id: str) -> str:
        """Give the first lease of a claim."""
        return next(lease.lease_id for lease in self.state.leases.values() if lease.claim_id == claim_id)


@dataclass
class Clock:
    """The clocks of a host that the test moves."""

    boot_id: str = BOOT
    boottime_s: float = 1000.0
    alive: set[ProcessId] = field(default_factory=set)

    def host(self) -> Host:
        """Give them as Merlin has them; wall time is the real one, for people."""
        from merlin_es.bootstrap import now

        return Host(now, lambda: self.boottime_s, self.boot_id, lambda: self.boottime_s)


def leases_at(root: Path, clock: Clock | None = None, runs: dict[str, tuple[str, int]] | None = None) -> Leases:
    """Give the verbs over a state root, with clocks and processes that the test moves."""
    clock = clock or Clock()
    disk = unsynced()
    log = FileLog(StateLayout(root), disk=disk, acknowledged=stamps(root))
    known = runs if runs is not None else {}
    world = World(root, clock.host(), clock.alive.__contains__, known.get)
    files = LeaseFiles(log, root, disk, clock.boot_id)
    desk = Desk(world, Bells(root, disk), Asking(root))
    clerk = Clerk(root, Turns(log, root, disk, "ada@lab", "cli", desk), files, world, disk, require_locks)
    return Leases(root, log, desk, clerk, Claims(log, desk, clerk))


TICK = Tick(BOOT, 1000.0)
CLAIM, LEASE = "claim-00000000a1", "lease-00000000a1"
QUEUED = e.ClaimQueued(claim_id=CLAIM, owner="ada", keys=("u250", "x60"), waiter=Waiter(30.0, PROCESS), tick=TICK)
POOLED = e.ClaimQueued(
    claim_id="claim-00000000b2",
    owner="bob",
    pool=Pool("board", "x60", 2),
    on_behalf_of="eve",
    metadata={"why": "täst"},
    priority=3,
    liveness=Liveness(run_id="run-1"),
    tick=TICK,
    idempotency_key="nightly",
    spec="ab" * 32,
)


def granted(place: int = 1, key: str = "u250") -> e.LeaseGranted:
    """A key of the first claim is held."""
    return e.LeaseGranted(
        lease_id=LEASE if place == 1 else "lease-00000000a2",
        key=key,
        fence=4,
        claim_id=CLAIM,
        owner="ada",
        keys=("u250", "x60"),
        place=place,
        of=2,
        tick=TICK,
        until=at(59),
        handed_over=place == 2,
    )


LEASE_EVENTS: tuple[e.LeaseEvent, ...] = (
    e.ResourceDeclared(key="x60", labels={"board": "x60"}, description="on the shelf", max_duration_s=3600.0),
    e.ResourceDeclared(key="u250"),
    QUEUED,
    POOLED,
    granted(),
    granted(2, "x60"),
    e.ClaimRenewed(claim_id="claim-00000000b2", tick=TICK),
    e.LeaseAccepted(lease_id="lease-00000000a2"),
    e.LeaseRenewed(lease_id=LEASE, tick=Tick(BOOT, 1010.0), until=at(99)),
    e.ResourceDraining(key="x60", reason="a new fan"),
    e.LeaseTransferred(lease_id=LEASE, owner="eve", fence=5, by="ada@lab", tick=TICK),
    e.LeaseReleased(lease_id=LEASE, by="ada@lab"),
    e.LeaseExpired(lease_id="lease-00000000a2", evidence="ttl", silent_s=61.0, limit_s=60.0, tick=TICK),
    e.LeaseRevoked(lease_id="lease-00000000a2", by="boss@lab", reason="burns"),
    e.ResourceEnabled(key="x60", reason="cool"),
    e.ResourceRetired(key="u250", reason="sold"),
    e.ClaimCancelled(claim_id="claim-00000000b2", by="bob@lab", reason="lunch"),
    e.ClaimAbandoned(claim_id="claim-00000000b2", evidence="process_gone"),
    e.ClaimTimedOut(claim_id="claim-00000000b2", waited_s=10.0),
    e.ResourcesLogRepaired(offset=10, length=3, sha256="0" * 64, kept="events.jsonl.torn-10"),
)
"""At least one of each event of the resources."""
