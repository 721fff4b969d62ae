"""What is there to hold, who holds it, and who waits for it?

The state of the stream `resources`, without the leases that have ended: it is as large as what goes on, however long
the past. Nothing here needs the vocabulary of events, so that a list of what is held does not either. What each turn
reads, changes and stores is a struct, which does that ten times as fast as a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from eventlog.errors import Invalid
from eventlog.names import is_stream

OVERTAKEN_MAX: Final = 8
"""How often somebody who waits can be overtaken by those who came later."""
RECENT_MAX: Final = 16
"""Of how many ended leases a key remembers the lengths: enough to say when it may be free again."""

KeyStatus = Literal["ENABLED", "DRAINING", "RETIRED"]
Ending = Literal["released", "expired", "revoked"]


class Tick(msgspec.Struct, frozen=True):
    """A moment by a clock that nobody can set: seconds since a boot, which is named."""

    boot_id: str
    boottime_s: float


class Process(msgspec.Struct, frozen=True):
    """A process for good; `started` is in clock ticks since that boot."""

    pid: int
    started: int
    boot_id: str


class Pool(msgspec.Struct, frozen=True):
    """Any `count` keys whose `label` is `value`."""

    label: str
    value: str
    count: int = 1


class Liveness(msgspec.Struct, frozen=True):
    """What shows that a holder is alive: renewals, a run that goes on, a process; nothing of it is `manual`."""

    ttl_s: float | None = None
    run_id: str | None = None
    process: Process | None = None

    @property
    def ends_by_itself(self) -> bool:
        """Whether a lease ends although nobody releases it."""
        return self != _MANUAL

    def __str__(self) -> str:
        if self.process is not None:
            return f"process:{self.process.boot_id},{self.process.pid},{self.process.started}"
        if self.run_id is not None:
            return f"run:{self.run_id}"
        return "manual" if self.ttl_s is None else f"ttl:{self.ttl_s:g}"


_MANUAL: Final = Liveness()


class Waiter(msgspec.Struct, frozen=True):
    """What shows that somebody still waits: renewals at least every `ttl_s` seconds, and a process.

    It is to be told at the `bell`, where there is one.
    """

    ttl_s: float
    process: Process | None = None
    bell: str = ""


class Claim(msgspec.Struct, frozen=True):
    """Somebody wants all of `keys`, or any of a `pool`. `seq` is the place in the log: who came first."""

    claim_id: str
    owner: str
    seq: int
    queued_at: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    on_behalf_of: str | None = None
    actor: str = ""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    priority: int = 0
    liveness: Liveness = msgspec.field(default_factory=Liveness)
    waiter: Waiter | None = None
    beat: Tick | None = None
    overtaken: int = 0
    idempotency_key: str | None = None

    @property
    def is_next(self) -> bool:
        """Whether it has been overtaken as often as anybody can be."""
        return self.overtaken >= OVERTAKEN_MAX


class Lease(msgspec.Struct, frozen=True):
    """Somebody holds a key, or has held it. The first fields are those that readers have always found in its file.

    `granted` and `renewed` are by the clock of who recorded them. `guard` is there while a lease was handed to somebody
    who waits, and has not said yet that it came.
    """

    lease_id: str
    resource_type: str
    owner: str
    status: Literal["active", "released"]
    metadata: Mapping[str, str]
    created_at: str
    updated_at: str
    fence: int = 0
    liveness: str = "manual"
    on_behalf_of: str | None = None
    actor: str = ""
    claim_id: str = ""
    queued_at: str = ""
    priority: int = 0
    until: str | None = None
    alive: Liveness = msgspec.field(default_factory=Liveness)
    granted: Tick | None = None
    renewed: Tick | None = None
    guard: Waiter | None = None
    idempotency_key: str | None = None
    ended: Ending | None = None
    ended_by: str | None = None
    end_reason: str | None = None

    @property
    def key(self) -> str:
        """The key that is held."""
        return self.resource_type

    @property
    def run_id(self) -> str | None:
        """The run that it ends with."""
        return self.alive.run_id


class Spent(msgspec.Struct, frozen=True):
    """How long a key was what, in microseconds of the time that people see, up to its last change."""

    free_us: int = 0
    active_us: int = 0
    drained_us: int = 0


class Key(msgspec.Struct, frozen=True):
    """One schedulable unit: at most one lease at a time. `fence` grows whenever somebody else may touch it."""

    key: str
    status: KeyStatus
    declared_at: str
    since: str
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    description: str = ""
    max_duration_s: float | None = None
    reason: str | None = None
    fence: int = 0
    lease_id: str | None = None
    grants: int = 0
    spent: Spent = msgspec.field(default_factory=Spent)
    recent_s: tuple[float, ...] = ()

    @property
    def use(self) -> Literal["free", "active", "drained"]:
        """What its time counts as."""
        if self.lease_id is not None:
            return "active"
        return "free" if self.status == "ENABLED" else "drained"

    @property
    def is_free(self) -> bool:
        """Whether it could be granted at this moment."""
        return self.lease_id is None and self.status == "ENABLED"


class Resources(msgspec.Struct, frozen=True):
    """All that goes on. `touched` is the lease that the last event was of, as it is after it, ended or not."""

    keys: Mapping[str, Key] = msgspec.field(default_factory=dict)
    leases: Mapping[str, Lease] = msgspec.field(default_factory=dict)
    claims: Mapping[str, Claim] = msgspec.field(default_factory=dict)
    granted: int = 0
    salt: int = 0
    touched: Lease | None = None

    @property
    def is_watched(self) -> bool:
        """Whether somebody waits, who looks every now and then."""
        return any(claim.waiter for claim in self.claims.values())

    def holder(self, key: str) -> Lease | None:
        """Give who holds a key."""
        known = self.keys.get(key)
        return self.leases.get(known.lease_id or "") if known else None

    def lease_id(self, number: int) -> str:
        """Give the id of the lease that is granted as the `number`th of all: never twice the same in a ledger."""
        return f"lease-{(number * _ODD + self.salt) % _IDS:010x}"


_IDS: Final = 1 << 40
_ODD: Final = 0x9E3779B97F & (_IDS - 1) | 1
"""Multiplying by it goes through all ids before one comes again."""
NOTHING: Final = Resources()


def check_key(key: str) -> str:
    """Return `key` when it can be one, which is also safe as a path; raises Invalid otherwise."""
    if "/" in key or not is_stream(key):
        raise Invalid(
            f"{key!r} cannot be the key of a resource: use 1 to 128 letters, digits, `.`, `_` and `-`, "
            "starting with a letter or digit and without `..`"
        )
    return key


def is_lease_id(text: str) -> bool:
    """Tell whether `text` can be the id of a lease, and so a file."""
    return _is_id(text, "lease-")


def is_claim_id(text: str) -> bool:
    """Tell whether `text` can be the id of a claim, and so a file."""
    return _is_id(text, "claim-")


def _is_id(text: str, prefix: str) -> bool:
    digits = text.removeprefix(prefix)
    return digits != text and len(digits) == 10 and not digits.strip("0123456789abcdef")
