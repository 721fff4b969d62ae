"""What does one look at the world give to a decider, and what does the decider give back?"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from merlin_es.ports import RayJob, Witness
from projections.events.run import RunEvent

Act = Literal["nothing", "intend", "submit", "stop", "reap", "kick"]


class Seen(Struct, frozen=True):
    """One look at the world, for one run.

    `job` counts when `asked`: None then says that the session `session_name`, which is healthy, does not know the
    attempt. `session_name` is empty when no cluster answered. Times are ISO 8601, UTC; `previous` is that of the last
    look before for which Ray was asked. `boot_id` and `boottime_s` are this host's. `seq` is that of the record which
    was looked for: when it is given, the look says nothing of any other.
    """

    at: str
    asked: bool
    job: RayJob | None
    session_name: str
    witness: Witness
    previous: str | None = None
    dead_nodes: frozenset[str] = frozenset()
    pending_reason: tuple[str, str] | None = None
    kicked_for_s: float = 0.0
    boot_id: str = ""
    boottime_s: float = 0.0
    seq: int | None = None


class Decision(Struct, frozen=True):
    """What has happened, in order, and what to do next."""

    events: tuple[RunEvent, ...] = ()
    act: Act = "nothing"


def seconds(since: str | None, until: str) -> float:
    """Give the seconds between two times of events; 0 where there is no first one."""
    return 0.0 if since is None else (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
