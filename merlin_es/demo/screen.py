"""How does somebody at a terminal follow what happens: what is typed, what is printed, and how long it takes?"""

from __future__ import annotations

import shlex
import shutil
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

WIDTH_MAX = 100
WIDTH_ELSE = 80
"""Where nobody can say how wide it is."""
PATIENCE_S = 0.7
"""What takes longer shows how long it has taken."""
_STEP_S = 0.2
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_INDENT = "    "


class Screen:
    """Prints a story; on a terminal also a line that says what is being waited for, and is written over."""

    def __init__(self, out: TextIO, variables: Mapping[str, str], *, live: bool | None = None) -> None:
        self._out = out
        self._live = out.isatty() if live is None else live
        self._colour = self._live and not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"
        self._lock = threading.Lock()
        self._is_waiting = False

    @property
    def width(self) -> int:
        """How many columns there are; of a very wide terminal not all are used."""
        return min(shutil.get_terminal_size((WIDTH_ELSE, 24)).columns, WIDTH_MAX)

    def say(self, text: str, *, loud: bool = False) -> None:
        """Print a paragraph to read."""
        for line in textwrap.wrap(text, self.width, break_on_hyphens=False):
            self.line(self._styled(line, _BOLD) if loud else line)

    def typed(self, text: str) -> None:
        """Print a command as somebody types it."""
        first, *more = text.splitlines()
        for line in (f"$ {first}", *more):
            self.line(self._styled(line, _BOLD))

    def line(self, text: str = "") -> None:
        """Print a line."""
        with self._lock:
            self._wipe()
            self._out.write(f"{text}\n")
            self._out.flush()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say on a terminal what is being waited for, and for how long, until it is there."""
        if not self._live:
            yield
            return
        over = threading.Event()
        ticking = threading.Thread(target=self._tick, args=(what, over), daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()
            with self._lock:
                self._wipe()
                self._out.flush()

    def _tick(self, what: str, over: threading.Event) -> None:
        begin = time.monotonic()
        if over.wait(PATIENCE_S):
            return
        while not over.wait(_STEP_S):
            text = f"{_INDENT}{time.monotonic() - begin:.0f} s: {what} ..."[: self.width - 1]
            with self._lock:
                self._wipe()
                self._out.write(self._styled(text, _DIM))
                self._out.flush()
                self._is_waiting = True

    def _wipe(self) -> None:
        if self._is_waiting:
            self._out.write("\r\x1b[K")
            self._is_waiting = False

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colour else text


def as_typed(words: Sequence[str], width: int) -> str:
    """Give a command as a shell takes it; one that is too long goes on in the next line with an option."""
    parts = [shlex.quote(word) for word in words]
    lines, room = [""], width - len("$ ") - len(" \\")
    for part, after in zip(parts, (*parts[1:], "--"), strict=True):
        unit = f"{part} {after}" if _is_option(part) and not _is_option(after) else part
        if _is_option(part) and lines[-1] and len(f"{lines[-1]} {unit}") > room:
            lines[-1] += " \\"
            lines.append(_INDENT + part)
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return "\n".join(lines)


def _is_option(part: str) -> bool:
    return part.startswith("--")
