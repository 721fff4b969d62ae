"""Do runs stand still that somebody could let go on, does anybody look after them, and is a secret kept too long?"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from merlin_es.counts import counted
from merlin_es.doctor.finding import Finding
from merlin_es.ledger import Ledger
from merlin_es.vault import Vault
from projections.layout import StateLayout
from projections.statuses import TERMINAL

NAMED_MAX: Final = 5
"""How many runs are named; a dead cluster may have left hundreds."""
LOCK: Final = "reconciler.lock"


def runs(ledger: Ledger, root: Path) -> Iterator[Finding]:
    """Name the runs that wait for somebody to say go on, and say whether the loop runs that follows the others."""
    layout = StateLayout(root)
    statuses = {run_id: found[0] for run_id in sorted(layout.run_ids()) if (found := ledger.status(run_id))}
    blocked = [run_id for run_id, status in statuses.items() if status == "blocked"]
    lost = [run_id for run_id, status in statuses.items() if status == "lost"]
    if blocked:
        what = f"{_counted(blocked)} blocked: recorded, and Ray never had them"
        yield Finding("runs", "note", what, "merlin ray reconcile --once --unblock, when a cluster answers")
    if lost:
        what = f"{_counted(lost)} lost: nobody knows how they ended"
        yield Finding("runs", "note", what, f"merlin ray jobs retry {lost[0]}, or jobs cancel, for each")
    going_on = sum(status not in TERMINAL for status in statuses.values()) - len(blocked) - len(lost)
    if going_on and not _is_followed(root):
        runs = counted(going_on, "run goes", "runs go")
        what = f"{runs} on, and nobody follows: what becomes of that is seen when somebody asks"
        yield Finding("runs", "note", what, "merlin ray reconcile")
    if not blocked and not lost:
        yield Finding("runs", "fine", f"{counted(going_on, 'goes', 'go')} on, and none waits for somebody")


def secrets(ledger: Ledger, root: Path, *, fix: bool) -> Iterator[Finding]:
    """Name the secrets that others can read, or that are kept for no run that goes on; with `fix`, mend that."""
    vault, fine = Vault(root), True
    for run_id in vault.run_ids():
        path = vault.path(run_id)
        status = ledger.status(run_id)
        if status is None or status[0] in TERMINAL:
            fine = False
            if fix:
                vault.forget(run_id)
            why = f"which is {status[0]}" if status else "which was never recorded"
            what = f"{path} holds what was to be hidden of {run_id}, {why}"
            yield Finding("secrets", "warning", what, f"rm {path}", fixed=fix)
        elif path.stat().st_mode & 0o077:
            fine = False
            if fix:
                path.chmod(0o600)
            what = f"{path} can be read by others"
            yield Finding("secrets", "error", what, f"chmod 600 {path}", fixed=fix)
    if fine:
        yield Finding("secrets", "fine", "none is kept that others can read, or that no run needs")


def _counted(run_ids: list[str]) -> str:
    named = ", ".join(run_ids[:NAMED_MAX])
    more = f" and {len(run_ids) - NAMED_MAX} more" if len(run_ids) > NAMED_MAX else ""
    return f"{named}{more} {'is' if len(run_ids) == 1 else 'are'}"


def _is_followed(root: Path) -> bool:
    """Tell whether a loop has this state root: the kernel frees its lock when it dies."""
    try:
        with (root / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # There never was one.
    return False
