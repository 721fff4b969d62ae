"""How is a command run that holds leases: it has them while it runs, and not a moment longer?

The lease is renewed while the command runs, and given back whatever its end is. When the lease is lost, the command is
ended. When this process is killed, the kernel kills the command, and the lease ends with this process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from merlin_es.errors import LeaseLost, Usage
from merlin_es.lease_variables import variables
from merlin_es.resources import Leases
from projections.lease_state import Lease

RENEWALS: Final = 3
"""How often a lease is renewed within its time to live."""
GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL, when the lease is lost."""
_PASSED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG: Final = 1


def run(
    command: Sequence[str], held: Sequence[Lease], resources: Leases, ttl_s: float, environment: Mapping[str, str]
) -> int:
    """Run a command while `held` are renewed, then release them; gives its exit status as a shell would.

    Raises LeaseLost when one was lost: the command has been ended then.
    """
    child: subprocess.Popen[bytes] | None = None
    try:
        child = _started(command, {**environment, **variables(held)})
        with _passing_signals_to(child):
            _renewed_until_ended(child, held, resources, ttl_s)
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
    finally:
        if child is not None:
            _end(child)
        for lease in held:
            with suppress(LeaseLost):
                resources.release(lease.lease_id, fence=lease.fence, reason="the command has ended")


def _started(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    parent, prctl = os.getpid(), ctypes.CDLL(None, use_errno=True).prctl

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)  # noqa: S603  no other thread runs here, and it is the caller's command
    except OSError as error:
        raise Usage(f"{command[0]} cannot be run ({error.strerror}): name a program") from None


def _renewed_until_ended(
    child: subprocess.Popen[bytes], held: Sequence[Lease], resources: Leases, ttl_s: float
) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(ttl_s / RENEWALS)
            return
        for lease in held:
            resources.renew(lease.lease_id, fence=lease.fence)


@contextmanager
def _passing_signals_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def give(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(number)

    before = {number: signal.signal(number, give) for number in _PASSED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
