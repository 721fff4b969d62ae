"""What of the world can this process see that ends leases: this boot's clock, its processes, and how runs ended?

What was seen of a process or a run is believed for a moment, so that a busy queue does not ask all the time. What this
host has seen unchanged since when, of leases that another boot's clock measures, is kept in a file, so that also
calls which last a moment can say together that nothing was heard for a whole time to live.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from merlin_es.hosts import Host, ProcessId
from projections.layout import resources_path
from projections.lease_state import Process, Tick
from projections.statuses import TERMINAL

BELIEVED_S: Final = 1.0
"""For how long a process that was seen alive, or a run that was seen to go on, need not be looked at again."""
LOST_GRACE_S: Final = 600.0
"""For how long a lost run keeps its leases: it may show up again."""
SIGHTINGS_MAX: Final = 10_000


class World(Struct):
    """What this process knows of the world. `run_status` gives the status of a run, and the seq of its record."""

    root: Path
    host: Host
    is_alive: Callable[[ProcessId], bool]
    run_status: Callable[[str], tuple[str, int] | None]
    _alive: dict[Process, float] = field(default_factory=dict)
    _goes_on: dict[str, float] = field(default_factory=dict)
    _sightings: dict[str, tuple[str, float]] | None = None

    def look(self) -> Look:
        """Look now."""
        return Look(self, Tick(self.host.boot_id, self.host.boottime()))

    def forget(self, run_id: str) -> None:
        """Look at a run again, however lately it was looked at."""
        self._goes_on.pop(run_id, None)

    def is_gone(self, process: Process, now_s: float) -> bool:
        """Tell whether a process of this boot does not run any more."""
        if process.boot_id != self.host.boot_id:
            return False
        if now_s - self._alive.get(process, -BELIEVED_S) < BELIEVED_S:
            return False
        if not self.is_alive(ProcessId(process.pid, process.started, process.boot_id)):
            self._alive.pop(process, None)
            return True
        if len(self._alive) > SIGHTINGS_MAX:
            self._alive.clear()
        self._alive[process] = now_s
        return False

    def run_end(self, run_id: str, now_s: float) -> str | None:
        """Say how a run has ended."""
        if now_s - self._goes_on.get(run_id, -BELIEVED_S) < BELIEVED_S:
            return None
        status, seq = self.run_status(run_id) or ("", 0)
        if status in TERMINAL:
            return status
        if status == "lost" and self.unchanged_s(f"{run_id}.lost", str(seq), now_s) > LOST_GRACE_S:
            return f"lost for {LOST_GRACE_S:g} s"
        if len(self._goes_on) > SIGHTINGS_MAX:
            self._goes_on.clear()
        self._goes_on[run_id] = now_s
        return None

    def unchanged_s(self, name: str, mark: str, now_s: float) -> float:
        """Give for how long this boot has seen `name` with that mark."""
        seen = self._seen()
        known = seen.get(name)
        if known is None or known[0] != mark:
            self._sightings = seen = self._read()  # Another process may have seen it before.
            known = seen.get(name)
        if known is None or known[0] != mark:
            seen[name] = known = (mark, now_s)
            self._write(seen, now_s)
        return max(0.0, now_s - known[1])

    def _seen(self) -> dict[str, tuple[str, float]]:
        if self._sightings is None:
            self._sightings = self._read()
        return self._sightings

    def _read(self) -> dict[str, tuple[str, float]]:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(self._path.read_bytes())
            if kept["boot_id"] == self.host.boot_id:
                return {str(name): (str(mark), float(at_s)) for name, (mark, at_s) in kept["seen"].items()}
        return {}

    def _write(self, seen: dict[str, tuple[str, float]], now_s: float) -> None:
        """Keep what was seen; what is lost of it in a race is seen again."""
        if len(seen) > SIGHTINGS_MAX:
            for name, _ in sorted(seen.items(), key=lambda item: item[1][1])[: len(seen) // 2]:
                del seen[name]
        temporary = self._path.with_name(f".sightings.{os.getpid()}.new")
        with suppress(OSError):
            temporary.write_text(json.dumps({"boot_id": self.host.boot_id, "seen": seen, "at_s": now_s}))
            temporary.replace(self._path)

    @property
    def _path(self) -> Path:
        return resources_path(self.root) / "sightings.json"


class Look(Struct, frozen=True):
    """One look, at one moment; see merlin_es.deciders.sight.Observer."""

    world: World
    tick: Tick

    def is_gone(self, process: Process) -> bool:
        """Tell whether a process surely does not run any more."""
        return self.world.is_gone(process, self.tick.boottime_s)

    def unchanged_s(self, name: str, mark: str) -> float:
        """Give for how long this boot has seen `name` with that mark."""
        return self.world.unchanged_s(name, mark, self.tick.boottime_s)

    def run_end(self, run_id: str) -> str | None:
        """Say how a run has ended."""
        return self.world.run_end(run_id, self.tick.boottime_s)
