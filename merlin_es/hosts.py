"""What does Merlin know of the host that it runs on: its clocks, and how a process of it is named for good?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: its pid alone may be another one's tomorrow. `started` is in clock ticks since that boot."""

    pid: int
    started: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Host:
    """The clocks of this host: `now` in ISO 8601, `monotonic` in seconds, and the boot with its clock (s)."""

    now: Callable[[], str]
    monotonic: Callable[[], float]
    boot_id: str
    boottime: Callable[[], float]
