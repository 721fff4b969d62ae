"""What does somebody see at a terminal of some width? A real one, as far as a program can tell."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

LINES = 24


def shown_on(columns: int, argv: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> list[str]:
    """Run a program at a terminal without colours; gives the lines that it shows, and what it says beside them."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    mine = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    mine |= {"TERM": "dumb", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(argv, env=mine, cwd=cwd, stdout=follower)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # The end, as Linux has it for terminals.
        pass
    os.close(leader)
    process.wait()
    return shown.decode().split("\r\n")[:-1]
