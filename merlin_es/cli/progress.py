"""How far has something got that takes long? One line for people on a terminal, which is gone when it is done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")
EVERY_S: Final = 0.1
"""How often the line is written anew; what is done within that time shows none."""


def watched(what: str, items: Iterable[T], *, quiet: bool = False) -> Iterator[T]:
    """Give the items as they come, and say how many there were while somebody waits for the next."""
    shows, last = _is_watched(quiet=quiet), time.monotonic()
    for number, item in enumerate(items, 1):
        if shows:
            _erase()
        yield item
        if shows and (now := time.monotonic()) - last >= EVERY_S:
            last = now
            _write(f"{what}: {number} …")
    if shows:
        _erase()


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Say what is being done, while it is."""
    shows = _is_watched(quiet=quiet)
    if shows:
        _write(f"{what} …")
    try:
        yield
    finally:
        if shows:
            _erase()


def _is_watched(*, quiet: bool) -> bool:
    return not quiet and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    from merlin_es.cli.printing import printable

    sys.stderr.write(f"\r\x1b[2K{printable(text)[:79]}")
    sys.stderr.flush()


def _erase() -> None:
    sys.stderr.write("\r\x1b[2K")
    sys.stderr.flush()
