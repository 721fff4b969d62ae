"""What led to an event, where its log does not say so itself?

The rules know: nothing is submitted that was not about to be, and nothing ends that did not begin. So the cause of an
event is the last one before it of the types that can lead to its own. What begins a story has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eventlog import Event

_BEGINNINGS: Final = ("run.requested", "run.forked", "run.adopted", "run.imported")
_UNDER_WAY: Final = ("run.started", "run.recovered", "run.submitted", "run.submission_started", "run.adopted")
_WANTED: Final = ("claim.queued", "claim.renewed")
_HELD: Final = ("lease.transferred", "lease.renewed", "lease.accepted", "lease.granted")
_STEP: Final = ("task.step_started",)
_TOLD: Final = ("question.resolved", "task.device_leased", "task.credential_found")
_DONE: Final = (
    "prompt.emitted",
    "agent.ended",
    "response.accepted",
    "response.refused",
    "mutation.recorded",
    "mutation.worktree_prepared",
    "mutation.applied",
    "validation.ended",
)
_CLUSTER: Final = (
    "cluster.reachable",
    "cluster.session_changed",
    "cluster.attached",
    "cluster.started",
    "cluster.imported",
)

LED_TO_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "run.waiting": (*_BEGINNINGS, "run.unblocked", "run.lease_unbound"),
    "run.lease_bound": ("run.waiting",),
    "run.lease_unbound": ("run.completed", "run.failed", "run.cancelled", "run.submission_failed", "run.lease_bound"),
    "run.blocked": (*_BEGINNINGS, "run.unblocked", "run.waiting"),
    "run.unblocked": ("run.blocked", "run.lost", "run.imported"),
    "run.dry_run_recorded": (*_BEGINNINGS, "run.waiting"),
    "run.submission_started": (*_BEGINNINGS, "run.lease_bound", "run.unblocked", "run.attempt_failed", "run.lost"),
    "run.submitted": ("run.submission_started",),
    "run.submission_failed": ("run.submission_started",),
    "run.pending_explained": ("run.submitted", "run.recovered"),
    "run.started": ("run.submitted", "run.recovered", "run.submission_started", "run.adopted"),
    "run.completed": _UNDER_WAY,
    "run.failed": (*_UNDER_WAY, "run.cancel_requested"),
    "run.attempt_failed": _UNDER_WAY,
    "run.cancel_escalated": ("run.cancel_requested", "run.cancel_escalated"),
    "run.cancelled": ("run.cancel_requested", "run.cancel_escalated", *_UNDER_WAY),
    "run.lost": _UNDER_WAY,
    "run.recovered": ("run.lost", "run.imported"),
    "run.anomaly_seen": (*_BEGINNINGS, *_UNDER_WAY),
    "run.logs_captured": (*_UNDER_WAY, "run.imported"),
    "run.artifacts_indexed": (*_UNDER_WAY, "run.imported"),
    "run.artifacts_imported": ("run.imported",),
    "execution.files_delivered": ("execution.prepared", "execution.forked"),
    "task.preflighted": ("execution.prepared", "execution.reset", "task.retried"),
    "task.step_started": (*_TOLD, *_DONE, "task.preflighted", "task.retried"),
    "task.outputs_produced": _STEP,
    "task.blocked": (*_STEP, *_TOLD, *_DONE, "task.preflighted"),
    "task.completed": (*_DONE, *_TOLD, "task.outputs_produced"),
    "question.asked": (*_DONE, "task.preflighted", "task.retried"),
    "question.shared": ("question.asked",),
    "question.answered": ("question.asked", "question.paused"),
    "question.paused": ("question.answered",),
    "question.resolved": ("question.answered", "question.asked"),
    "task.device_leased": ("task.preflighted",),
    "task.credential_found": ("task.preflighted",),
    "prompt.emitted": _STEP,
    "agent.ended": _STEP,
    "response.accepted": _STEP,
    "response.refused": _STEP,
    "mutation.recorded": (*_TOLD, *_STEP),
    "mutation.worktree_prepared": _STEP,
    "mutation.applied": _STEP,
    "validation.ended": _STEP,
    "claim.renewed": _WANTED,
    "claim.cancelled": _WANTED,
    "claim.abandoned": _WANTED,
    "claim.timed_out": _WANTED,
    "lease.granted": _WANTED,
    "lease.accepted": ("lease.granted",),
    "lease.renewed": _HELD,
    "lease.released": _HELD,
    "lease.expired": _HELD,
    "lease.revoked": _HELD,
    "lease.transferred": _HELD,
    "cluster.started": ("cluster.start_requested",),
    "cluster.start_failed": ("cluster.start_requested",),
    "cluster.stopped": ("cluster.stop_requested",),
    "cluster.unreachable": _CLUSTER,
    "cluster.reachable": ("cluster.unreachable",),
    "cluster.session_changed": (*_CLUSTER, "cluster.unreachable"),
}
"""The types that can lead to an event of a type."""

SUBJECTS: Final = ("lease_id", "claim_id", "request_id", "task_id")
"""What names the one thing that an event is about, where there are many in one stream."""


def is_of_the_same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Tell whether two events, by their data, may be about the same thing."""
    return all(one[name] == other[name] for name in SUBJECTS if name in one and name in other)


class Trail:
    """What was passed on the way through a stream, as far as it may still lead to something: no look back is needed."""

    def __init__(self, last: Mapping[tuple[str, object, object], Event] | None = None) -> None:
        self._last = dict(last or {})

    def copy(self) -> Trail:
        """Give a trail that goes on from here by itself."""
        return Trail(self._last)

    def note(self, event: Event) -> None:
        """Pass an event."""
        subjects: list[tuple[str | None, object]] = [*_subjects(event)] or [(None, None)]
        for name, value in subjects:
            self._last[event.type, name, value] = event
        self._last[event.type, "", ""] = event

    def before(self, event: Event) -> Event | None:
        """Give the last event that was passed of those that the rules let lead to `event`."""
        subjects, data = _subjects(event), event.data
        places: list[tuple[str | None, object]] = [*subjects, (None, None)] if subjects else [("", "")]
        found = [
            passed
            for kind in LED_TO_BY.get(event.type, ())
            for name, value in places
            if (passed := self._last.get((kind, name, value))) and is_of_the_same(data, passed.data)
        ]
        return max(found, key=lambda passed: passed.seq, default=None)


def _subjects(event: Event) -> list[tuple[str, object]]:
    if event.type.partition(".")[0] in ("run", "cluster"):
        return []  # There is one such thing in the stream; nothing has to be looked for.
    data = event.data
    return [(name, data[name]) for name in SUBJECTS if name in data]
