"""How does somebody wait for an event of a run: until it is there, can no longer come, or the time is over?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eventlog import Event
from merlin_es.deciders.expectation import Expectation, can_come, is_met
from merlin_es.errors import NeverComes
from merlin_es.past import Past
from projections.layout import run_stream
from projections.projection import RUN_PROJECTION, RunState

STEP_S: Final = 0.5
"""How long to wait between two looks."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a wait has come to: the event that was waited for, None when the time was over first."""

    event: Event | None
    status: str


def wait_for(
    past: Past,
    run_id: str,
    wanted: Expectation,
    look: Callable[[], object],
    monotonic: Callable[[], float],
    limit_s: float | None = None,
) -> Arrival:
    """Wait for an event of a run and of all that concerns it, those included that are there already.

    `look` asks the world what became of the run. Raises NotFound, and NeverComes when it cannot happen any more.
    """
    timeline = past.timeline(run_id)
    stream, begun, pause = run_stream(run_id), monotonic(), threading.Event()
    state, count, status = RunState(), 0, ""
    while True:
        past.widen(timeline, run_id)
        for event in timeline.news():
            entered = None
            if event.stream == stream:
                for state, _ in RUN_PROJECTION.states([event], state):  # noqa: B020  it goes on from what it was
                    before, status = status, state.record.status if state.record else ""
                    entered = status if status != before else None
            if is_met(wanted, event.type, event.data, entered):
                count += 1
                if count == wanted.count:
                    return Arrival(event, status)
        if not can_come(wanted, status):
            raise NeverComes(
                f"{run_id} is {status}, so {wanted} can no longer come: `merlin ray events {run_id}` shows what did"
            )
        if limit_s is not None and monotonic() - begun >= limit_s:
            return Arrival(None, status)
        head = past.log.head(stream)
        look()
        if past.log.head(stream) == head:
            pause.wait(STEP_S)
