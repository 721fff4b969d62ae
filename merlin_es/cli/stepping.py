"""`merlin ray replay --step`: is there what it needs, and somebody to look at it?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from merlin_es.errors import Usage

if TYPE_CHECKING:
    from merlin_es.past import Past


def play(past: Past, stream: str, seq: int) -> None:
    """Step through a stream in the terminal, from event `seq` on; raises Usage where that cannot be."""
    try:
        from merlin_es.cli.stepper import Stepper
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise Usage(
            "--step needs textual, which is not installed: `pip install 'merlin-es[tui]'`, or leave out --step"
        ) from None
    if not (sys.stdin and sys.stdout and sys.stdin.isatty() and sys.stdout.isatty()):
        raise Usage("--step needs a terminal to be seen in and typed into: leave it out in a pipe")
    from merlin_es.walk import Walk

    Stepper(Walk(past, stream), seq).run()
