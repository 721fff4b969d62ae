"""Which processes of this host belong together, and how is one signalled that is surely the one that was meant?

A pid is only a number: it is given to another process as soon as its own is gone. So a process is named by its pid, the
tick at which it started and the boot of that tick, and it is signalled through a descriptor that cannot come to mean
another one. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from merlin_es.hosts import ProcessId

_PROC = Path("/proc")
_STEP_S = 0.02
_STAT_BYTES = 4096


class Entry(Struct, frozen=True):
    """What the kernel says of a process."""

    pid: int
    parent: int
    session: int
    started: int
    state: str

    @property
    def runs(self) -> bool:
        """Whether it still does anything: a zombie only waits to be asked for."""
        return self.state not in "ZXx"


@cache
def boot_id() -> str:
    """Give the name of this boot of this host, which no process outlives."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> ProcessId | None:
    """Name the process that has this pid now, a zombie too; None when there is none."""
    entry = _entry(pid)
    return None if entry is None else ProcessId(pid, entry.started, boot_id())


def is_alive(process: ProcessId) -> bool:
    """Tell whether that very process still runs, on this boot of this host."""
    entry = _entry(process.pid)
    return entry is not None and entry.runs and entry.started == process.started and process.boot_id == boot_id()


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal that very process; False when it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The descriptor means whoever had the pid when it was opened. That it was the right one is seen only now.
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(processes: Iterable[ProcessId], limit_s: float) -> list[ProcessId]:
    """Wait until none of them runs; gives those that still do after `limit_s` seconds."""
    until = time.monotonic() + limit_s
    while (left := [each for each in processes if is_alive(each)]) and time.monotonic() < until:
        time.sleep(_STEP_S)
    return left


def family(variable: str, leader: ProcessId | None = None) -> list[ProcessId]:
    """Give the running processes that belong to a mark, this process never among them.

    They are those with `variable` (as `NAME=value`) in the environment that they were started with, those in a
    session that one of these leads, those in the session of `leader` even when it is dead, and all their descendants.
    """
    boot, entries = boot_id(), {entry.pid: entry for entry in map(_entry, pids()) if entry and entry.runs}
    members = {pid for pid in entries if has_variable(pid, variable)}
    sessions = {pid for pid in members if entries[pid].session == pid}
    members |= {pid for pid, entry in entries.items() if entry.session in sessions}
    if leader is not None and leader.boot_id == boot and _is_session_of(leader, entries):
        members |= {pid for pid, entry in entries.items() if entry.session == leader.pid}
    members |= _descendants(members, entries)
    return [ProcessId(pid, entries[pid].started, boot) for pid in sorted(members - {os.getpid()})]


def session(process: ProcessId) -> int | None:
    """Give the session that a process is in; None when it is gone."""
    entry = _entry(process.pid)
    return entry.session if entry is not None and entry.started == process.started else None


def pids() -> list[int]:
    """Give the pids of this moment."""
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def command_line(pid: int) -> tuple[str, ...]:
    """Give the words of a process' command line, as it shows them; none when it is gone or not ours to see."""
    with suppress(OSError):
        return tuple(os.fsdecode(word) for word in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0") if word)
    return ()


def has_variable(pid: int, variable: str) -> bool:
    """Tell whether a process was started with `NAME=value`; False where it hides that, or has overwritten it."""
    with suppress(OSError):
        return os.fsencode(variable) in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False


def _is_session_of(leader: ProcessId, entries: dict[int, Entry]) -> bool:
    """Tell whether the session with the leader's number is still its own, and not one of a process after it.

    The kernel gives no pid away that still names a session, so a number whose process is gone is the old session's.
    """
    if leader.pid in entries:
        return entries[leader.pid].started == leader.started
    return all(entry.started >= leader.started for entry in entries.values() if entry.session == leader.pid)


def _descendants(roots: set[int], entries: dict[int, Entry]) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in entries.values():
        children.setdefault(entry.parent, []).append(entry.pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        new = [pid for pid in children.get(ahead.pop(), ()) if pid not in found]
        found.update(new)
        ahead.extend(new)
    return found


def _entry(pid: int) -> Entry | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)  # Not as a Path: a queue looks at all who wait, again and again.
    except OSError:
        return None
    try:
        text = os.read(fd, _STAT_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The second field is the name in brackets, and a name may hold brackets and spaces.
    fields = text[text.rindex(b")") + 2 :].split()
    return Entry(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0].decode("ascii"))
