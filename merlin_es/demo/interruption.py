"""Who wants the demo to end now, and when is it heard? While a command runs; all else is short, and done to its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAID = b"merlin: ending what runs; it takes a few seconds\n"


class Interrupted(Exception):
    """Somebody wants an end."""


class Interruption:
    """Hears the first signal that wants an end, and has it raised in one place; more of them change nothing.

    An exception anywhere else could strike between the start of a child and the line that knows of it, or while what
    runs is being ended: then something would be left running.
    """

    def __init__(self) -> None:
        self._is_heard = False
        self._number = 0

    @property
    def has_come(self) -> bool:
        """Whether somebody wants an end."""
        return self._number > 0

    @property
    def exit_code(self) -> int:
        """What a shell gives for a process that this signal has ended."""
        return 128 + self._number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals, but for those that whoever started us wants ignored, as nohup does.

        Who has been interrupted has them ignored to the end of the process, so that its exit code stays what it is.
        """
        before = {number: signal.getsignal(number) for number in NUMBERS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._take)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.has_come else handler)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Raise Interrupted here, at once, also for what came before."""
        self._is_heard = True
        try:
            if self.has_come:
                raise Interrupted
            yield
        finally:
            self._is_heard = False

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if not self.has_come:
            self._number = number
            _say()
        if self._is_heard:
            self._is_heard = False
            raise Interrupted


def _say() -> None:
    """Tell it past every buffer: whoever is interrupted may just be writing."""
    with suppress(OSError):  # As when the terminal is gone.
        os.write(2, (b"\r\x1b[K" if sys.stderr.isatty() else b"") + _SAID)
