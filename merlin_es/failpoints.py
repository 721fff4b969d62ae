"""Where can a test kill this process? At named points around every call to the world; elsewhere they cost nothing.

`MERLIN_FAILPOINT=NAME` ends the process with SIGKILL when it first gets to NAME, `NAME:3` when it gets there the third
time.
"""

from __future__ import annotations

import os
import signal

_wanted, _, _count = os.environ.get("MERLIN_FAILPOINT", "").partition(":")
_left = int(_count) if _count.isdecimal() else 1


def reach(name: str) -> None:
    """Die here, when a test wants that."""
    global _left
    if name == _wanted:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
