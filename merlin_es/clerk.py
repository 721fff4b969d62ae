"""What comes before and after a turn of a verb: are locks locks here, who has died, and who writes the files?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

import eventlog
from eventlog.disk import make_directories
from merlin_es.deciders import lease as rules
from merlin_es.drafts import Decide
from merlin_es.errors import Busy
from merlin_es.lease_commands import Caller
from merlin_es.lock_probe import require_locks
from merlin_es.observer import World
from merlin_es.turns import Turn, Turns
from projections.layout import resources_path
from projections.lease_files import LeaseFiles
from projections.lease_state import Resources

PUBLISH_EVERY_S: Final = 5.0
"""How often the files of leases are written while they go from hand to hand: a sync waits for names that are new."""
CROWDED_S: Final = 0.05
"""For how long who was answered by somebody else's turn asks first, and does not look whether it could have one."""
REAP_EVERY_S: Final = 2.0
"""How soon after it has put away the dead a process does so again."""


class Clerk(msgspec.Struct):
    """Takes turns at the resources of one state root for whoever has something to decide."""

    root: Path
    turns: Turns
    files: LeaseFiles
    world: World
    disk: eventlog.Disk
    probe: Callable[[Path], None] = require_locks
    _probed: bool = False
    _reaped_s: float = -REAP_EVERY_S
    _answered_s: float = -CROWDED_S

    @property
    def actor(self) -> str:
        """Who asks."""
        return self.turns.actor

    @property
    def is_crowded(self) -> bool:
        """Whether somebody else's turn has just answered, so that one of its own is hardly to be had."""
        return self.world.host.monotonic() - self._answered_s < CROWDED_S

    def caller(self, **how: object) -> Caller:
        """Give who asks, now."""
        return Caller(by=self.actor, at=self.world.host.now(), **how)  # type: ignore[arg-type]  # the callers name its fields

    def state(self) -> Resources:
        """Give what goes on, after what has visibly died was put away."""
        state, _ = self.turns.look()
        return self.take().state if self.reap(state) else state

    def take(self, *decisions: Decide, key: str | None = None, publishes: bool = True) -> Turn:
        """Put away who has visibly died, then decide; publish what came of it."""
        now_s = self._now_s()
        reaps = not decisions or self._is_to_reap(now_s)
        first = [self.reap] if reaps else []
        try:
            turn = self.turns.take(*first, *decisions, key=key)
        except Busy:
            if reaps:
                raise
            reaps = True  # Whoever is in the way may have died since.
            turn = self.turns.take(self.reap, *decisions, key=key)
        self._reaped_s = now_s if reaps else self._reaped_s
        return self.published(turn) if publishes else turn

    def take_at_once(self, decide: Decide, *, publishes: bool = True) -> Turn | None:
        """The same, but nothing where somebody else has a turn just now."""
        now_s = self._now_s()
        first = [self.reap] if (reaps := self._is_to_reap(now_s)) else []
        if turn := self.turns.take_at_once(*first, decide):
            self._reaped_s = now_s if reaps else self._reaped_s
            return self.published(turn) if publishes else turn
        return None

    def serve(self) -> None:
        """Decide what was asked, one's own among it, unless somebody has a turn: who has one will before it goes."""
        if served := self.turns.serve():
            self.published(served)

    def answered(self) -> None:
        """Note that somebody else's turn has answered."""
        self._answered_s = self.world.host.monotonic()

    def reap(self, state: Resources) -> rules.Events:
        """Put away who has visibly died."""
        return rules.reap(self.world.host.now(), self.actor, state, self.world.look())

    def published(self, turn: Turn) -> Turn:
        """Write what a turn has changed; gives the turn."""
        if turn.events or turn.others:
            self._publish(turn.state, turn.head, turn)
        return turn

    def publish_late(self, state: Resources) -> None:
        """Write what was left to be written, if it was."""
        kept = self.turns.kept()
        if kept is not None and not self.files.are_at(kept[1]):
            self._publish(state, kept[1])

    def _now_s(self) -> float:
        """Give the time, before a turn: in the first one it is seen that locks are locks here."""
        if not self._probed:
            make_directories(self.disk, resources_path(self.root))
            self.probe(resources_path(self.root))
            self._probed = True
        return self.world.host.boottime()

    def _is_to_reap(self, now_s: float) -> bool:
        return not 0 <= now_s - self._reaped_s < REAP_EVERY_S

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
