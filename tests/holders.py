"""What do the processes do that reserve, hold, stop and die in the tests?"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
import warnings
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from merlin_es import bootstrap
from merlin_es.commands import Reserve
from merlin_es.errors import LeaseLost
from merlin_es.resources import Leases, this_process
from merlin_es.settings import Settings
from projections.lease_state import Lease, Liveness, Waiter
from tests.writers import context

context.set_forkserver_preload(["tests.holders"])


def leases_of(root: Path, *, sync: bool = True) -> Leases:
    """Open the resources of a state root as Merlin does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return bootstrap.leases(Settings(root, root, "ada@lab", sync=sync))


def wish(owner: str, *keys: str, ttl_s: float = 60.0, waits: bool = True, mortal: bool = True) -> Reserve:
    """Want keys, and be seen to die."""
    process = this_process()
    return Reserve(
        claim_id=f"claim-{secrets.token_hex(5)}",
        owner=owner,
        at="",
        keys=keys,
        liveness=Liveness(ttl_s, process=process if mortal else None),
        waits=waits,
        waiter=Waiter(30.0, process) if waits else None,
    )


def give_back(leases: Leases, held: tuple[Lease, ...]) -> None:
    """Release all of them."""
    for lease in held:
        leases.release(lease.lease_id, fence=lease.fence)


def take_turns(root: Path, name: str, count: int, ready: Barrier, answer: Connection) -> None:
    """Reserve and release one key so many times; tells how often it did."""
    leases = leases_of(root)
    leases.state()
    ready.wait()
    for _ in range(count):
        give_back(leases, leases.reserve(wish(name, "slot0", mortal=False)))
    answer.send(count)


def take_sets(root: Path, name: str, count: int, ready: Barrier, answer: Connection) -> None:
    """Reserve and release sets of keys, `count` times; tells the longest wait in seconds."""
    leases, longest = leases_of(root, sync=False), 0.0
    dice = random.Random(name)
    ready.wait()
    for _ in range(count):
        keys = dice.sample([f"slot{number}" for number in range(8)], dice.randint(1, 4))
        begin = time.monotonic()
        held = leases.reserve(wish(name, *keys))
        longest = max(longest, time.monotonic() - begin)
        give_back(leases, held)
    answer.send(longest)


def hold_and_die(root: Path, keys: list[str], told: Connection) -> None:
    """For each key, have a child hold it and be killed; tells each lease and its fence."""
    leases = leases_of(root, sync=False)
    leases.take()  # Each child is a copy of this process, which has imported and probed whatever it takes.
    for key in keys:
        inside, outside = os.pipe()
        child = os.fork()
        if child == 0:
            [lease] = leases.reserve(wish("mortal", key, waits=False))
            os.write(outside, f"{lease.lease_id} {lease.fence}".encode())
            signal.pause()
        text = os.read(inside, 100).decode().split()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(inside)
        os.close(outside)
        told.send((key, text[0], int(text[1])))


def hold_and_renew(root: Path, told: Connection) -> None:
    """Hold a key with a short time to live, renew it when told to, and tell what came of it."""
    leases = leases_of(root)
    [lease] = leases.reserve(wish("stopped", "slot0", ttl_s=1.0, waits=False, mortal=False))
    told.send((lease.lease_id, lease.fence, os.getpid()))
    told.recv()
    try:
        leases.renew(lease.lease_id, fence=lease.fence)
        told.send("renewed")
    except LeaseLost as lost:
        told.send(f"lost: {lost}")


def wait_for_ever(root: Path, key: str, told: Connection) -> None:
    """Stand in line, until killed."""
    leases = leases_of(root, sync=False)
    told.send(os.getpid())
    leases.reserve(wish("waiter", key, ttl_s=3600.0, mortal=False))
    told.send("granted")
    signal.pause()


def fork_in_a_turn(root: Path, told: Connection) -> None:
    """Start children while a turn is held, and tell when it has been given back."""
    leases = leases_of(root, sync=False)
    leases.reserve(wish("first", "slot0", waits=False))
    assert leases.turns.lock.begin(1.0)
    try:
        child = os.fork()
        if child == 0:
            signal.pause()
        executed = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
        told.send((child, executed))
        told.recv()
    finally:
        leases.turns.lock.end()
    told.send("given back")
    signal.pause()
