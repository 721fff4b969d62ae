"""In which order is everything looked at, and what is mended on the way?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eventlog import EventLogError
from merlin_es.custody import Custody
from merlin_es.doctor import held, host, records, waiting, world
from merlin_es.doctor.finding import Finding
from merlin_es.errors import MerlinError
from merlin_es.ledger import Ledger
from merlin_es.ports import Heads
from merlin_es.resources import Leases
from projections.events.recorded import UnknownEvent


@dataclass(frozen=True)
class Doctor:
    """Looks at one state root; `left` counts the processes of a head here that may be nobody's."""

    ledger: Ledger
    leases: Leases
    root: Path
    heads: Heads
    connect: world.Connect
    find_ray: Callable[[], Path]
    left: Callable[[], int]
    now: Callable[[], str]

    def examine(self, *, fix: bool = False) -> Iterator[Finding]:
        """Yield what is found, check by check; changes nothing that is there, unless told to `fix` what is safe to."""
        checks: dict[str, Iterator[Finding]] = {
            "versions": host.versions(),
            "state root": host.state_root(self.root),
            "file system": host.file_system(self.root),
            "disk space": host.disk_space(self.root),
        }
        if self.root.is_dir():
            checks |= {
                "permissions": host.permissions(self.root),
                "streams": records.streams(self.ledger.log, self.root),
                "registry": records.registry(Custody(self.ledger, self.root)),
                "clocks": records.clocks(self.ledger.log, self.now()),
                "state files": records.state_files(self.ledger, self.root, fix=fix),
                "index": records.index(self.ledger, self.root, fix=fix),
                "runs": waiting.runs(self.ledger, self.root),
                "secrets": waiting.secrets(self.ledger, self.root, fix=fix),
                "leases": held.leases(self.ledger, self.leases, self.now(), fix=fix),
            }
        checks["ray"] = world.ray(self.find_ray)
        checks["cluster"] = world.cluster(self.ledger, self.heads, self.connect, self.left)
        for name, findings in checks.items():
            yield from _guarded(name, findings)


def _guarded(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Go on with the next check where one meets what it cannot get over: a sick log, a disk that refuses."""
    try:
        yield from findings
    except (EventLogError, MerlinError, UnknownEvent) as error:
        yield Finding(name, "error", str(error))
    except OSError as error:
        yield Finding(name, "error", f"{error.filename or name}: {error.strerror}", "give access there, then ask again")
