"""What is recorded for a whole state root: which one it is, how its runs ended, and what was asked under which key?"""

from __future__ import annotations

from typing import ClassVar

from projections.events.fact import Fact, FactCodec, Repaired


class LedgerCreated(Fact, frozen=True, kw_only=True):
    """A state root was used for the first time; the id of this event tells its jobs from those of others."""

    type: ClassVar[str] = "ledger.created"


class HeadNoted(Fact, frozen=True, kw_only=True):
    """A run has ended, and its log ended at `seq`, `h` then: from here on it is not cut or replaced unseen."""

    type: ClassVar[str] = "run.head_noted"
    run_id: str
    seq: int
    h: str
    status: str


class LedgerLogRepaired(Repaired, frozen=True, kw_only=True):
    """See Repaired."""


LedgerEvent = LedgerCreated | HeadNoted | LedgerLogRepaired

LEDGER_EVENTS: FactCodec[LedgerEvent] = FactCodec(LedgerEvent, lax=True)


class SubmissionKeyed(Fact, frozen=True, kw_only=True):
    """Somebody submitted under an idempotency key, for the first time; the id of the run is drawn from this event.

    `spec` is the digest (SHA-256) of everything that was asked for.
    """

    type: ClassVar[str] = "submission.keyed"
    idempotency_key: str
    target: str
    spec: str
