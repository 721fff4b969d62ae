"""What does a log say of an event beside the event itself, and what if this release has no name for it?"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E")


class UnknownEvent(Exception):
    """A log holds a fact that this release has no name for: upgrade Merlin, then repeat the call."""


class Recorded(NamedTuple, Generic[E]):
    """An event with what the log says of it: number, time (ISO 8601, UTC, fixed width), who, and through which door."""

    seq: int
    time: str
    actor: str
    door: str
    event: E
