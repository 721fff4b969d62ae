"""What does Merlin know of the host that it runs on: its clocks, and how a process of it is named for good?"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class ProcessId(Struct, frozen=True):
    """A process for good: its pid alone may be another one's tomorrow. `started` is in clock ticks since that boot."""

    pid: int
    started: int
    boot_id: str


class Host(Struct, frozen=True):
    """The clocks of this host: `now` in ISO 8601, `monotonic` in seconds, and the boot with its clock (s)."""

    now: Callable[[], str]
    monotonic: Callable[[], float]
    boot_id: str
    boottime: Callable[[], float]
