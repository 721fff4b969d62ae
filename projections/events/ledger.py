"""What is recorded once for a whole state root, and once for each idempotency key?"""

from __future__ import annotations

from typing import Literal

from projections.events.base import DomainEvent


class LedgerCreated(DomainEvent):
    """A state root was used for the first time; the id of this event tells its jobs from those of others."""

    type: Literal["ledger.created"] = "ledger.created"


class SubmissionKeyed(DomainEvent):
    """Somebody submitted under an idempotency key, for the first time; the id of the run is drawn from this event.

    `spec` is the digest (SHA-256) of everything that was asked for.
    """

    type: Literal["submission.keyed"] = "submission.keyed"
    idempotency_key: str
    target: str
    spec: str
