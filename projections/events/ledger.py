"""What is recorded for a whole state root: which one it is, how its runs ended, and what was asked under which key?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from projections.events.base import Codec, DomainEvent, Repaired


class LedgerCreated(DomainEvent):
    """A state root was used for the first time; the id of this event tells its jobs from those of others."""

    type: Literal["ledger.created"] = "ledger.created"


class HeadNoted(DomainEvent):
    """A run has ended, and its log ended at `seq`, `h` then: from here on it is not cut or replaced unseen."""

    type: Literal["run.head_noted"] = "run.head_noted"
    run_id: str
    seq: int
    h: str
    status: str


class LedgerLogRepaired(Repaired):
    """See Repaired."""

    type: Literal["log.repaired"] = "log.repaired"


LedgerEvent = Annotated[LedgerCreated | HeadNoted | LedgerLogRepaired, Field(discriminator="type")]

LEDGER_EVENTS: Codec[LedgerEvent] = Codec(LedgerEvent)


class SubmissionKeyed(DomainEvent):
    """Somebody submitted under an idempotency key, for the first time; the id of the run is drawn from this event.

    `spec` is the digest (SHA-256) of everything that was asked for.
    """

    type: Literal["submission.keyed"] = "submission.keyed"
    idempotency_key: str
    target: str
    spec: str
