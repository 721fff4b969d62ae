"""How do many processes decide about the resources one at a time, each from where the one before has left off?

Whoever decides takes a turn: a lock beside that of the log, held from reading the state to storing the next one. So
nobody decides in vain, and nobody folds what others did: a checkpoint goes from turn to turn. All of it is only speed.
What is appended is checked against the head that it was decided on, whoever else appends.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field

import eventlog
from eventlog.disk import make_directories
from eventlog.frame import origin
from eventlog.lock import holder, unlock
from eventlog.tip import surely_ends_at
from merlin_es.errors import MerlinError, Refused
from merlin_es.failpoints import reach
from projections.checkpoint import Checkpoint
from projections.events.lease import (
    ClaimAbandoned,
    ClaimCancelled,
    ClaimQueued,
    ClaimTimedOut,
    LeaseEvent,
    LeaseGranted,
)
from projections.events.recorded import Recorded
from projections.layout import RESOURCES, resources_path
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import NOTHING, Lease, Resources

LOCK_LIMIT_S: Final = 30.0
"""How long somebody waits for a turn. Turns are milliseconds; who takes longer is stopped or stuck."""
TRY_S: Final = 0.0001
"""How long apart a turn is tried for: a wait in the kernel has no limit but in a thread, and that wakes up twice."""
PATIENT_S: Final = 0.05
"""Whoever has waited for so long tries as much less often: a turn takes longer than turns do."""
CONFLICTS_MAX: Final = 20
"""How often a decision is taken again because somebody appended without a turn."""

DRAFTED: Final = 1 << 60
"""Behind every seq of a log, and before what a decider drafts: where what was asked will stand."""
_NOW: Final = "9999-12-31T23:59:59.999999Z"

Decide = Callable[[Resources], Sequence[LeaseEvent]]


class Asked(Struct, frozen=True):
    """What somebody wants to have decided who does not take a turn itself."""

    actor: str
    decide: Decide


class Turn(Struct, frozen=True):
    """What a turn came to: the state after it, its head, what was appended, and at which bells that is to be told.

    `before` is the head that it began on, and `touched` has the leases that it was about, each with its last head.
    `others` is what was appended for those who had asked.
    """

    state: Resources
    head: eventlog.Head
    events: tuple[LeaseEvent, ...]
    bells: tuple[str, ...] = ()
    before: eventlog.Head | None = None
    touched: Mapping[str, tuple[Lease, eventlog.Head]] = field(default_factory=dict)
    others: tuple[LeaseEvent, ...] = ()


class Turns:
    """Takes turns at the stream of the resources. Safe to use from threads, and after a fork."""

    def __init__(self, log: eventlog.FileLog, root: Path, disk: eventlog.Disk, actor: str, door: str) -> None:
        self.actor = actor
        self._log = log
        self._root = root
        self._disk = disk
        self._door = door
        self._path = log.path(RESOURCES)
        self._checkpoint = Checkpoint(root)
        self._lock_path = resources_path(root) / "turn.lock"
        self._mutex = threading.Lock()
        self._fd: int | None = None
        _all.add(self)

    def look(self) -> tuple[Resources, bool]:
        """Give the state without a turn, and whether all of it is surely durable."""
        kept = self._checkpoint.load()
        if kept is not None and surely_ends_at(self._path, kept[1]):
            return kept[0], True
        state, head = self._folded(kept)
        return state, head.seq == 0

    def kept(self) -> tuple[Resources, eventlog.Head] | None:
        """Give the state after the last turn, all of it durable, and its head; perhaps somebody has appended since."""
        return self._checkpoint.load()

    def last(self) -> Resources:
        """Give the state after the last turn, all of it durable."""
        kept = self.kept()
        return kept[0] if kept is not None else NOTHING

    def take(
        self, *decisions: Decide, key: str | None = None, asked: Callable[[], Sequence[Asked]] = lambda: ()
    ) -> Turn:
        """Append what each of the decisions makes of the state, each at once; `key` is that of the last one.

        What was `asked` by then is in the append of the first of them. What this returns is durable, also where nothing
        was appended.
        """
        with self._turn():
            state, head = (self._checkpoint.load() if decisions else None) or self._at_head()
            before: eventlog.Head | None = head
            touched: dict[str, tuple[Lease, eventlog.Head]] = {}
            done: list[LeaseEvent] = []
            others: list[LeaseEvent] = []
            bells: list[str] = []
            wishes = asked()
            if wishes and (key is not None or not decisions):
                decisions = (*decisions[:-1], _nothing, *decisions[-1:])
            for place, decide in enumerate(decisions, 1 - len(decisions)):
                with_wishes = wishes and place == (0 if key is None else -1)
                said = wishes if with_wishes else ()
                turn = self._append(decide, state, head, None if place else key, said)
                bells.extend(turn.bells)
                others.extend(turn.others)
                if turn.before != head:
                    before = None  # Somebody has appended in between, without a turn.
                state, head = turn.state, turn.head
                done.extend(turn.events)
                touched |= turn.touched
            return Turn(state, head, tuple(done), tuple(bells), before, touched, tuple(others))

    def _append(
        self, decide: Decide, state: Resources, head: eventlog.Head, key: str | None, asked: Sequence[Asked]
    ) -> Turn:
        is_sure = False
        for _ in range(CONFLICTS_MAX):
            said, drafted = _said(asked, state)
            others, refusal = len(said), None
            try:
                said += [(self.actor, event.checked()) for event in decide(drafted)]
            except MerlinError as error:
                refusal = error
            if not is_sure and (refusal or not said):  # Else the append sees whether this is where the log ends.
                is_sure, decided = True, head
                state, head = self._at_head()
                if head != decided:
                    continue
            if refusal:
                if said:
                    self._append(_nothing, state, head, None, asked)
                raise refusal
            if not said:
                return Turn(state, head, (), before=head)
            events = tuple(event for _, event in said)
            recorded = [event.recorded_by(actor, self._door) for actor, event in said]
            reach("lease.append.before")
            try:
                appended = self._log.append(RESOURCES, recorded, expected=head, key=key)
            except eventlog.KeyReused:
                raise
            except eventlog.Conflict:
                state, head = self._at_head()
                continue
            reach("lease.append.after")
            if appended.repeated:
                state, head = self._at_head()
                return Turn(state, head, ())
            bells = tuple(_bells(state, events[:others], events[others:]))
            touched, before = {}, head
            for state, head in LEASE_PROJECTION.fold_own(appended.news, events, state):  # noqa: B020  the last pair goes on
                if state.touched is not None:
                    touched[state.touched.lease_id] = state.touched, head
            self._checkpoint.store(state, head)
            return Turn(state, head, events[others:], bells, before, touched, events[:others])
        raise MerlinError(f"{RESOURCES} moved {CONFLICTS_MAX} times while one decision was taken: repeat the call")

    def _at_head(self) -> tuple[Resources, eventlog.Head]:
        """Give the state at the end of the log, all of it durable."""
        kept = self._checkpoint.load()
        if kept is not None and surely_ends_at(self._path, kept[1]):
            return kept
        self._checkpoint.reopen()
        with eventlog.quiet(self._path, LOCK_LIMIT_S) as fd:
            if fd is not None:
                self._disk.sync(fd)  # Whoever appended last may have died before its sync.
            state, head = self._folded(kept)
        if head.seq:
            self._checkpoint.store(state, head)
        return state, head

    def _folded(self, kept: tuple[Resources, eventlog.Head] | None) -> tuple[Resources, eventlog.Head]:
        """Fold what came after a checkpoint, or all, where there is none that the log goes on from."""
        if kept is not None:
            events = self._log.read(RESOURCES, kept[1].seq)
            first = next(events, None)
            if first is not None and first.head == kept[1]:
                return LEASE_PROJECTION.fold(events, *kept)
        return LEASE_PROJECTION.fold(self._log.read(RESOURCES), NOTHING, origin(RESOURCES).head)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._mutex:
            if self._fd is None:
                make_directories(self._disk, self._lock_path.parent)
                self._fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _take(self._fd, LOCK_LIMIT_S):
                raise eventlog.Locked(self._lock_path, LOCK_LIMIT_S, holder(self._lock_path))
            try:
                yield
            finally:
                unlock(self._fd)

    def abandon(self) -> None:
        """In a forked child: drop the descriptor that came along, and with it the child's part in a held turn."""
        self._mutex = threading.Lock()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _take(fd: int, limit_s: float) -> bool:
    """Lock `fd`, within so many seconds."""
    begun_s = time.monotonic()
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        waited_s = time.monotonic() - begun_s
        if waited_s >= limit_s:
            return False
        time.sleep(TRY_S if waited_s < PATIENT_S else waited_s / 20)


def _nothing(_state: Resources) -> Sequence[LeaseEvent]:
    return ()


def _said(asked: Sequence[Asked], state: Resources) -> tuple[list[tuple[str, LeaseEvent]], Resources]:
    """Decide what others have asked, and give the state after it; who is refused is told so in a turn of its own."""
    said: list[tuple[str, LeaseEvent]] = []
    for each in asked:
        with suppress(Refused):
            for event in each.decide(state):
                said.append((each.actor, event.checked()))
                state = LEASE_PROJECTION.evolve(state, Recorded(DRAFTED + len(said), _NOW, each.actor, "", event))
    return said, state


def _bells(before: Resources, others: Sequence[LeaseEvent], own: Sequence[LeaseEvent]) -> Iterator[str]:
    """Give the bells of the claims that wait no longer, those that others have just asked for among them."""
    asked = {event.claim_id: event.waiter for event in others if isinstance(event, ClaimQueued)}
    for event in (*others, *own):
        if isinstance(event, LeaseGranted | ClaimCancelled | ClaimAbandoned | ClaimTimedOut):
            claim = before.claims.get(event.claim_id)
            waiter = claim.waiter if claim else asked.get(event.claim_id)
            if waiter is not None and waiter.bell and getattr(event, "place", 1) == 1:
                yield waiter.bell


_all: weakref.WeakSet[Turns] = weakref.WeakSet()


def _abandon_all() -> None:
    for turns in list(_all):
        turns.abandon()


os.register_at_fork(after_in_child=_abandon_all)
