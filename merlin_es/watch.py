"""How does the reconciler wait: woken by what happens here, and by time, at next to no cost?"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from merlin_es.errors import Usage
from merlin_es.reconciler import Pass, Reconciler

PAUSE_MIN_S = 0.1
"""Between two passes, however often it is woken."""
DOORBELL = "doorbell"
_STANDBY_S = 1.0


def watch(
    reconciler: Reconciler,
    state_root: Path,
    active: Callable[[], list[str]],
    stop: threading.Event,
    tell: Callable[[str], None],
    report: Callable[[Pass], None],
    *,
    unblock: bool = False,
) -> None:
    """Pass after pass until `stop`. One watcher a state root: another one waits until the first is gone."""
    with _lead(state_root, stop, tell):
        while not stop.is_set():
            with _doorbell(state_root, active(), stop) as wait:
                done = reconciler.tick(unblock=unblock)
                report(done)
                stop.wait(PAUSE_MIN_S)
                wait(done.next_s)


def ring(state_root: Path) -> None:
    """Wake the watcher: something was appended."""
    path = state_root / DOORBELL
    try:
        os.utime(path)
    except FileNotFoundError:
        path.touch()


@contextmanager
def _lead(state_root: Path, stop: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to reconcile, or wait for it; the kernel frees it when its holder dies."""
    state_root.mkdir(parents=True, exist_ok=True)
    with (state_root / "reconciler.lock").open("a+b") as lock:
        told = False
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    lock.seek(0)
                    holder = lock.read(20).decode(errors="replace").strip() or "unknown"
                    tell(f"process {holder} reconciles this state root already: waiting to take over")
                    told = True
                stop.wait(_STANDBY_S)
            except OSError as error:
                raise Usage(f"{lock.name} cannot be locked ({error.strerror}): use another state root") from error
        lock.truncate(0)
        lock.write(b"%d\n" % os.getpid())
        lock.flush()
        yield


@contextmanager
def _doorbell(state_root: Path, active: list[str], stop: threading.Event) -> Iterator[Callable[[float], None]]:
    """Give a wait that ends early when the doorbell rings or the wrapper of an active run leaves something."""
    from watchfiles import watch as changes

    witnesses = (state_root / "runs" / run_id / "witness" for run_id in active[:1000])
    paths = [state_root, *filter(Path.is_dir, witnesses)]

    def rings(_change: object, path: str) -> bool:
        return path.endswith((DOORBELL, ".json"))

    stream = changes(
        *paths,
        watch_filter=rings,
        stop_event=stop,
        recursive=False,
        step=50,
        debounce=100,
        rust_timeout=1_000,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    next(stream, None)  # It watches from its first step on.

    def wait(limit_s: float) -> None:
        for _ in range(max(1, round(limit_s))):
            if stop.is_set() or next(stream, None):
                return

    yield wait
