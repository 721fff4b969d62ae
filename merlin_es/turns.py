"""How do many processes decide about the resources one at a time, each from where the one before has left off?

Whoever decides takes a turn: a lock beside that of the log, held from reading the state to storing the next one. So
nobody decides in vain, and nobody folds what others did: a checkpoint goes from turn to turn. And whoever has a turn
decides what others ask it to; after it has handed a key on, it stays for a moment to take that back. All of it is only
speed. What is appended is checked against the head that it was decided on, whoever else appends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

import eventlog
from eventlog.frame import origin
from eventlog.tip import surely_ends_at
from merlin_es.drafts import Asked, Decide, Draft, Outcome, nothing
from merlin_es.errors import MerlinError
from merlin_es.failpoints import reach
from merlin_es.turn_lock import LOCK_LIMIT_S, TurnLock
from projections.checkpoint import Checkpoint
from projections.events.lease import LeaseEvent
from projections.layout import RESOURCES
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import NOTHING, Lease, Resources

STAY_S: Final = 0.005
"""How long whoever has handed a key on stays to have it given back, and after each time again."""
STAY_MAX_S: Final = 0.1
"""How long in all it stays: it has a verb of its own to come back from."""
CONFLICTS_MAX: Final = 20
"""How often a decision is taken again because somebody appended without a turn."""


class Others(Protocol):
    """Those who ask whoever has a turn, and are told what came of it."""

    def asked(self) -> Sequence[Asked]:
        """Take all that they have asked for."""
        ...

    def wishes(self) -> Sequence[Asked]:
        """Take only what has time: who wants to stand in line."""
        ...

    def returns(self) -> Sequence[Asked]:
        """Take only what has none: who gives something back."""
        ...

    def is_asked(self) -> bool:
        """Tell whether they have asked for anything."""
        ...

    def is_given_back(self, limit_s: float) -> bool:
        """Wait until one gives something back; False when none does within so many seconds."""
        ...

    def tell(self, outcome: Outcome) -> bool:
        """Tell those whom it concerns; True when one of them has been granted something."""
        ...


class Turn(Struct, frozen=True):
    """What a turn came to: the state after it, its head, and what was appended.

    `before` is the head that it began on, and `touched` has the leases that it was about, each with its last head.
    `others` is what was appended for those who had asked, `hands_over` whether one of them has been granted something.
    """

    state: Resources
    head: eventlog.Head
    events: tuple[LeaseEvent, ...] = ()
    before: eventlog.Head | None = None
    touched: Mapping[str, tuple[Lease, eventlog.Head]] = field(default_factory=dict)
    others: tuple[LeaseEvent, ...] = ()
    hands_over: bool = False

    def then(self, turn: Turn) -> Turn:
        """Give what this one and the next one came to together."""
        return Turn(
            turn.state,
            turn.head,
            self.events + turn.events,
            self.before if turn.before == self.head else None,  # Else somebody has appended without a turn.
            {**self.touched, **turn.touched},
            self.others + turn.others,
            turn.hands_over,
        )


class Turns:
    """Takes turns at the stream of the resources. Safe to use from threads, and after a fork."""

    def __init__(
        self, log: eventlog.FileLog, root: Path, disk: eventlog.Disk, actor: str, door: str, others: Others
    ) -> None:
        self.actor = actor
        self.door = door
        self.stay_s, self.stay_max_s = STAY_S, STAY_MAX_S
        self._others = others
        self._log = log
        self._disk = disk
        self._path = log.path(RESOURCES)
        self._checkpoint = Checkpoint(root)
        self.lock = TurnLock(root, disk)

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

    def kept_seq(self) -> int:
        """Give how far the last turn came, or a little less."""
        return self._checkpoint.seq()

    def last(self) -> Resources:
        """Give the state after the last turn, all of it durable."""
        kept = self.kept()
        return kept[0] if kept is not None else NOTHING

    def take(self, *decisions: Decide, key: str | None = None) -> Turn:
        """Append what each of the decisions makes of the state, each at once; `key` is that of the last one.

        What others have asked by then is in the append of the first of them. What this returns is durable, also where
        nothing was appended.
        """
        turn = self._taken(decisions, key, LOCK_LIMIT_S)
        if turn is None:
            raise self.lock.refusal()
        return turn

    def take_at_once(self, *decisions: Decide) -> Turn | None:
        """The same, but nothing where somebody else has a turn: that one will see what it is asked before it goes."""
        return self._taken(decisions, None, 0)

    def serve(self) -> Turn | None:
        """Decide what was asked, one's own among it, unless somebody has a turn: whoever has one does so after it."""
        if not self.lock.begin(0):
            return None
        try:
            turn = self._stay(self._served())
        finally:
            self.lock.end()
        return self._with_late(turn)

    def _taken(self, decisions: Sequence[Decide], key: str | None, limit_s: float) -> Turn | None:
        if not self.lock.begin(limit_s):
            return None
        try:
            turn = self._stay(self._decided(decisions, key))
        except MerlinError:
            self.lock.end()
            self._late()  # They have not been refused, and they wait.
            raise
        except BaseException:
            self.lock.end()
            raise
        self.lock.end()
        return self._with_late(turn)

    def _with_late(self, turn: Turn) -> Turn:
        late = self._late()
        return turn.then(late) if late else turn

    def _late(self) -> Turn | None:
        """Decide for those who have asked when a turn was about to end, and could not know that."""
        late: Turn | None = None
        with suppress(MerlinError, eventlog.EventLogError, OSError):  # Who has asked meets it in a turn of its own.
            while self._others.is_asked() and self.lock.begin(0):
                try:
                    turn = self._served()
                finally:
                    self.lock.end()
                late = late.then(turn) if late else turn
        return late

    def _served(self) -> Turn:
        state, head = self._checkpoint.load() or self._at_head()
        return self._append(nothing, Draft(state, self._others.asked()), head)

    def _stay(self, turn: Turn) -> Turn:
        """After a key was handed on, decide for those who give back something while this process is warm.

        Who comes to stand in line meanwhile is decided on before, while somebody holds the key.
        """
        end_s, stored = time.monotonic() + self.stay_max_s, turn.head
        try:
            while turn.hands_over and time.monotonic() < end_s and not self.lock.is_waited_for():
                draft = Draft(turn.state, self._others.wishes())
                if self._others.is_given_back(self.stay_s):
                    draft.ask(self._others.returns())
                elif not draft.asked:
                    break
                turn = turn.then(self._append(nothing, draft, turn.head, stores=False))
        except (MerlinError, eventlog.EventLogError, OSError):
            pass  # Who has asked meets it in a turn of its own.
        finally:
            if turn.head != stored:
                self._checkpoint.store(turn.state, turn.head)
        return turn

    def _decided(self, decisions: Sequence[Decide], key: str | None) -> Turn:
        state, head = (self._checkpoint.load() if decisions else None) or self._at_head()
        done = Turn(state, head, before=head)
        asked = self._others.asked()
        if asked and (key is not None or not decisions):
            decisions = (*decisions[:-1], nothing, *decisions[-1:])
        for place, decide in enumerate(decisions, 1 - len(decisions)):
            with_asked = asked and place == (0 if key is None else -1)
            draft = Draft(done.state, asked if with_asked else ())
            turn = self._append(decide, draft, done.head, None if place else key)
            done = replace(done.then(turn), hands_over=done.hands_over or turn.hands_over)
        return done

    def _append(
        self, decide: Decide, draft: Draft, head: eventlog.Head, key: str | None = None, *, stores: bool = True
    ) -> Turn:
        is_sure = False
        for _ in range(CONFLICTS_MAX):
            others, refusal = len(draft.said), None
            try:
                draft.add(self.actor, self.door, decide)
            except MerlinError as error:
                refusal = error
            if not is_sure and (refusal or not draft.said):  # Else the append sees whether this is where the log ends.
                is_sure, decided = True, head
                state, head = self._at_head()
                if head != decided:
                    draft = Draft(state, draft.asked)
                    continue
            if refusal:
                if draft.asked:
                    self._append(nothing, Draft(draft.before, draft.asked), head)
                raise refusal
            if not draft.said:
                self._others.tell(Outcome(draft.before, draft.before, draft.asked))
                return Turn(draft.before, head, before=head)
            events = tuple(event for _, _, event in draft.said)
            recorded = [event.recorded_by(actor, door) for actor, door, event in draft.said]
            reach("lease.append.before")
            try:
                appended = self._log.append(RESOURCES, recorded, expected=head, key=key)
            except eventlog.KeyReused:
                raise
            except eventlog.Conflict:
                state, head = self._at_head()
                draft = Draft(state, draft.asked)
                continue
            reach("lease.append.after")
            if appended.repeated:
                return Turn(*self._at_head())
            touched, state, before = {}, draft.before, head
            for state, head in LEASE_PROJECTION.fold_own(appended.news, events, state):  # noqa: B020  the last pair goes on
                if state.touched is not None:
                    touched[state.touched.lease_id] = state.touched, head
            outcome = Outcome(draft.before, state, draft.asked, events[:others], events[others:], touched)
            hands_over = self._others.tell(outcome)
            if stores:
                self._checkpoint.store(state, head)
            return Turn(state, head, outcome.own, before, touched, outcome.others, hands_over)
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
