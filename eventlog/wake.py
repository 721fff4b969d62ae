"""How does a follower learn that a file may have grown, without asking all the time?

inotify tells within a tenth of a millisecond, so it is used where there is one. watchfiles, for the other systems,
gathers changes over steps of its own and takes 50 to 100 ms. Either may miss what happens on a network file system:
whoever waits also looks by itself when the time is up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol


class Waker(Protocol):
    """Waits for changes in the directory of one file."""

    def arm(self) -> None:
        """From now on, remember that something changed: look at the file after this, then wait."""
        ...

    def wait(self, limit_s: float) -> None:
        """Return when something changed since `arm`, or after `limit_s` seconds."""
        ...


@contextmanager
def waker(path: Path) -> Iterator[Waker]:
    """Give the best waker that this system has for `path`, which need not exist."""
    with inotify_waker(path) if sys.platform == "linux" else watchfiles_waker(path) as wake:
        yield wake


@contextmanager
def inotify_waker(path: Path) -> Iterator[Waker]:
    """Give a waker that waits in the kernel; it sleeps where the kernel has no watches left to give."""
    from inotify_simple import INotify, flags

    mask = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF

    class Inotify:
        armed = False

        def arm(self) -> None:
            if not self.armed:
                with suppress(OSError):
                    inotify.add_watch(_nearest_directory(path), mask)
                    self.armed = True

        def wait(self, limit_s: float) -> None:
            if self.armed:
                changes = inotify.read(timeout=max(1, int(limit_s * 1000)))
                # Unless it was an append, the directory may be new or made anew, so watch it again.
                self.armed = bool(changes) and all(change.mask == flags.MODIFY for change in changes)
            else:
                time.sleep(limit_s)

    try:
        inotify = INotify()
    except OSError:
        yield Sleeper()
        return
    with inotify:
        yield Inotify()


@contextmanager
def watchfiles_waker(path: Path) -> Iterator[Waker]:
    """Give a waker for systems without inotify."""
    from watchfiles import watch

    class Watchfiles:
        def __init__(self) -> None:
            self.directory: Path | None = None
            self.changes: Iterator[object] = iter(())

        def arm(self) -> None:
            if (directory := _nearest_directory(path)) != self.directory:
                self.directory = directory
                self.changes = watch(
                    directory, recursive=False, watch_filter=None, step=10, rust_timeout=50, yield_on_timeout=True
                )
                next(self.changes)  # It watches from its first step on.

        def wait(self, limit_s: float) -> None:
            until = time.monotonic() + limit_s
            while not next(self.changes, True) and time.monotonic() < until:
                pass

    yield Watchfiles()


class Sleeper:
    """A waker that only looks at the clock."""

    def arm(self) -> None:
        """Nothing to do."""

    def wait(self, limit_s: float) -> None:
        """Sleep."""
        time.sleep(limit_s)


def _nearest_directory(path: Path) -> Path:
    directory = path.parent
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    return directory
