"""Which TCP ports of this host are free, and who listens on the others?"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from merlin_es import processes
from merlin_es.errors import HeadFailed

# Below the ports that kernels lend to outgoing connections, above those that Ray gives to its workers by default.
ANY_PORT = range(20_000, 32_000)
ALL_PORTS = range(1, 65_536)
TRIES_MAX = 200
_LISTENING = "0A"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port at this moment, on all addresses of this host."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port(avoid: Collection[int]) -> int:
    """Give a port that is free at this moment and not in `avoid`."""
    for port in random.choices(ANY_PORT, k=TRIES_MAX):  # noqa: S311  no secret: two who ask should not meet
        if port not in avoid and is_free(port):
            return port
    raise HeadFailed(f"no free port found in {TRIES_MAX} tries between {ANY_PORT.start} and {ANY_PORT.stop - 1}")


def listener(port: int) -> str:
    """Say which process listens on a port, as far as this user may see."""
    if inodes := _listening_inodes(port):
        for pid in processes.pids():
            if inodes & _socket_inodes(pid):
                return f"process {pid} ({' '.join(processes.command_line(pid))[:120]})"
    return "a process that this user cannot see"


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes
