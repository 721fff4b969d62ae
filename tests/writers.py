"""What do the processes do that the tests start, kill and compare?

Each is a function for multiprocessing's fork server: it starts in a few milliseconds and inherits no threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from eventlog import Conflict, Disk, FileLog
from tests.examples import happened

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.writers"])


def append_until_killed(top: Path, name: str, first: int, acknowledged: Connection) -> None:
    """Append events with keys `<name>-<number>` for ever, telling each one's number and seq once it is recorded."""
    log = FileLog(top)
    number = first
    while True:
        batch = [happened(f"{name}-{number}", part=part) for part in range(1 + number % 3)]
        appended = log.append("s", batch, key=f"{name}-{number}")
        acknowledged.send((number, appended.first))
        number += 1


def append_on_head(top: Path, name: str, count: int, ready: threading.Barrier) -> None:
    """Append `count` events, each only on the head that it was decided on."""
    log = FileLog(top)
    ready.wait()
    for number in range(count):
        while True:
            try:
                log.append("s", [happened(f"{name}-{number}")], expected=log.head("s"))
                break
            except Conflict:
                continue


def append_same_key(top: Path, ready: threading.Barrier, answer: Connection) -> None:
    """Append the same event under the same key as everybody else, and tell the answer."""
    log = FileLog(top)
    ready.wait()
    appended = log.append("s", [happened("once")], key="same")
    answer.send((appended.first, appended.repeated))


class GatedDisk(Disk):
    """A disk whose sync of a log says that it has begun, and waits until it is told to go on."""

    def __init__(self, begun: Connection) -> None:
        self._begun = begun

    def sync(self, fd: int) -> None:  # noqa: ARG002  the signature of a disk
        """Say so and wait."""
        self._begun.send(os.getpid())
        self._begun.recv()


def hold_the_lock(top: Path, control: Connection) -> None:
    """Append on a gated disk: the lock is held from the first message until the answer."""
    FileLog(top, disk=GatedDisk(control)).append("s", [happened("held")])
    control.send("appended")


def hold_the_lock_with_children(top: Path, control: Connection) -> None:
    """Like hold_the_lock, but with a forked and an executed child that live on when this process is killed."""
    inside, outside = context.Pipe()
    log = FileLog(top, disk=GatedDisk(inside))
    threading.Thread(target=lambda: log.append("s", [happened("held")]), daemon=True).start()
    outside.recv()
    forked = os.fork()
    if forked == 0:
        signal.pause()
    executed = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    control.send((forked, executed))
    signal.pause()


def append_and_fork(top: Path, control: Connection) -> None:
    """Append, fork in the middle of another thread's append, and append in both processes."""
    inside, outside = context.Pipe()
    log = FileLog(top, disk=GatedDisk(inside))
    thread = threading.Thread(target=lambda: log.append("s", [happened("parent")]), daemon=True)
    thread.start()
    outside.recv()
    child = os.fork()
    if child == 0:
        control.send("forked")
        # The parent's thread holds the mutex of this log object and the file's lock for as long as it likes.
        quick = FileLog(top)
        quick.append("other", [happened("child")])
        log._setup.disk.__class__ = Disk
        log.append("s", [happened("child")])
        os._exit(0)
    outside.send("go on")
    thread.join()
    os.waitpid(child, 0)
    control.send("done")


def append_under_size_limit(top: Path, limit_bytes: int, answer: Connection) -> None:
    """Append until the process's file size limit is met, then raise the limit and append once more."""
    import resource

    from eventlog import NotWritten

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    log = FileLog(top)
    count, error = 0, None
    while error is None:
        try:
            log.append("s", [happened(count, text="x" * (count % 700))])
            count += 1
        except NotWritten as refused:
            error = refused
    size = log.path("s").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    last = log.append("s", [happened("after")]).first
    answer.send((count, str(error), error.errno, size, last))


def append_as_nobody(top: Path, answer: Connection) -> None:
    """Give up root and try to append where nothing may be written, to a new stream and to one that is there."""
    from eventlog import NotWritten

    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    log = FileLog(top)
    refusals = []
    for stream in ("new", "s"):
        try:
            log.append(stream, [happened()])
        except NotWritten as refused:
            refusals.append((str(refused), refused.errno))
    answer.send((refusals, [event.seq for event in log.read("s")]))
