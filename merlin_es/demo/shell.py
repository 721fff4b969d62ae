"""How are commands typed in the workspace, as a user would, and seen to end as they should?"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress

from merlin_es.demo.interruption import Interruption
from merlin_es.demo.screen import Screen, as_typed
from merlin_es.demo.workspace import Workspace

ENDS_WITHIN_S = 30.0
"""For a command that was interrupted; a head that was being started is ended in that time."""


ROWS_MAX = 6
"""How much of a line that is very long is shown, in rows of the terminal."""


class Failed(Exception):
    """A command did not do what it should; the text says which, and what to do next."""


class Shell:
    """Types commands; what they print is shown, with the paths below the workspace as they are seen from there."""

    def __init__(
        self, workspace: Workspace, screen: Screen, environment: Mapping[str, str], interruption: Interruption
    ) -> None:
        self._top = workspace.top
        self._screen = screen
        self._environment = environment
        self._interruption = interruption

    def type(self, *words: str, code: int = 0, lines: int = 40, waits_for: str = "", mend: str = "") -> str:
        """Type a command and give what it printed; raises Failed, with `mend`, and Interrupted.

        `-3` shows the last three lines.
        """
        text = as_typed(words, self._screen.width)
        self._screen.typed(text)
        with self._screen.waiting(waits_for or " ".join(words[:3])):
            printed, ended = self._run(words, lines)
        self._screen.line()
        if ended != code:
            said = f"that ended with exit code {ended}" + (f" instead of {code}" if code else "")
            raise Failed(f"{said}. {mend or 'Look at what it printed'}, then run the demo again")
        return printed

    def succeeds(self, *words: str) -> bool:
        """Run a command that nobody sees, and tell whether it ended with 0."""
        done = subprocess.run(  # noqa: S603  the words are ours
            words,
            cwd=self._top,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            start_new_session=True,
        )
        return done.returncode == 0

    def _run(self, words: Iterable[str], lines: int) -> tuple[str, int]:
        try:
            child = subprocess.Popen(  # noqa: S603  the words are ours
                list(words),
                cwd=self._top,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches whoever plays, who then ends it in order.
            )
        except PermissionError as error:
            raise Failed(f"{error.filename} may not be executed there: give --dir a directory where it may") from error
        with child:
            try:
                with self._interruption.heard():
                    return self._shown(child, lines), child.wait()
            except BaseException:
                _end(child)
                raise

    def _shown(self, child: subprocess.Popen[str], lines: int) -> str:
        """Show what a command prints, as soon as it is there; of a long text the beginning, or the end."""
        printed = []
        assert child.stdout  # noqa: S101  asked for
        for line in child.stdout:
            printed.append(line)
            if len(printed) <= lines:
                self._show(line)
        left = max(0, len(printed) - abs(lines))
        if left:
            self._screen.line(f"({left} lines {'more' if lines > 0 else 'before these'})")
        for line in printed[left:] if lines < 0 else ():
            self._show(line)
        return "".join(printed)

    def _show(self, line: str) -> None:
        text, most = line.rstrip("\n").replace(f"{self._top}/", ""), ROWS_MAX * self._screen.width
        self._screen.line(text if len(text) <= most else f"{text[: most - 4]} ...")


def _end(child: subprocess.Popen[str]) -> None:
    """Interrupt a command and all that it runs in its session, and see it end."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    try:
        child.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
