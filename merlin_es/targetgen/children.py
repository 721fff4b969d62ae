"""How is a command run so that it ends in time, nothing that it started is left, and what it wrote is kept?"""

from __future__ import annotations

import errno
import hashlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import eventlog
from merlin_es import processes
from merlin_es.ports import ProcessId
from merlin_es.redaction import NO_RULES, Rules
from merlin_es.targetgen.ports import Ran

OUTPUT_MAX = 1024 * 1024
"""Of what is kept of an output, in bytes: half of it from the beginning, half from the end."""
GRACE_S = 2.0
GONE_LIMIT_S = 30.0
"""What has not died of SIGKILL by then hangs in the kernel."""
NOT_EXECUTABLE, NOT_FOUND = 126, 127
MARK = "MERLIN_TARGETGEN_COMMAND"
_CHUNK = 65536
_PIPE_CHUNKS = 32
"""More than a pipe holds, which is 64 KiB, or 1 MiB where somebody asked for that."""


class Output:
    """What a command writes, as far as it is kept."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Take in what comes next."""
        self._size += len(chunk)
        room = OUTPUT_MAX // 2 - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[max(room, 0) :]
        if len(self._tail) > 2 * OUTPUT_MAX:
            del self._tail[: -OUTPUT_MAX // 2]

    def content(self) -> bytes:
        """Give what is kept, with a word on what is not."""
        tail = self._tail[-OUTPUT_MAX // 2 :]
        left_out = self._size - len(self._head) - len(tail)
        word = f"\n[merlin: {left_out} bytes are left out here]\n".encode() if left_out else b""
        return bytes(self._head) + word + bytes(tail)


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limit_s: float,
    place: str,
    blobs: eventlog.BlobStore,
    secrets: Rules = NO_RULES,
) -> Ran:
    """Run a command in a session of its own and wait for it; a program that is not there is exit code 127.

    `place` names what nobody else may do at the same time: what a call for it left running that was killed itself is
    ended first. What is kept of its words and its output has no `secrets` in it. Raises OSError when no process can be
    made, or `cwd` is not there.
    """
    mark = f"{MARK}={hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"
    end_all(mark, grace_s=0.0)
    if not cwd.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(cwd))
    output, begun = Output(), time.monotonic()
    child: subprocess.Popen[bytes] | None = None
    leader: ProcessId | None = None
    try:
        child = _started(argv, cwd, {**environment, MARK: mark.partition("=")[2]})
        leader = processes.identify(child.pid)
        with _Pipe(child, output) as pipe:
            timed_out = not pipe.until_ended(begun + limit_s)
            duration_s = time.monotonic() - begun
            end_all(mark, grace_s=GRACE_S if timed_out else 0.0, leader=leader, meanwhile=pipe.pour)
            pipe.pour()
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        if child is not None:
            raise
        code = NOT_EXECUTABLE if isinstance(error, PermissionError) else NOT_FOUND
        output.add(f"merlin: cannot execute {argv[0]}: {error.strerror}\n".encode())
        return Ran(secrets.clean_words(argv), code, time.monotonic() - begun, blobs.put(output.content()))
    finally:
        # Also when we are told to stop, be it while the command is being started: nothing goes on without us.
        end_all(mark, grace_s=0.0, leader=leader)
        if child is not None:
            child.wait()
    kept, _ = secrets.clean_output(output.content())
    return Ran(secrets.clean_words(argv), child.returncode, duration_s, blobs.put(kept), timed_out)


def end_all(
    mark: str, *, grace_s: float, leader: ProcessId | None = None, meanwhile: Callable[[], None] | None = None
) -> None:
    """End every process that bears a mark, or comes from one that does: TERM, and KILL after the grace."""
    until = time.monotonic() + grace_s
    told: set[ProcessId] = set()
    while left := processes.family(mark, leader):
        kills = time.monotonic() >= until
        for process in left:
            if kills or process not in told:
                processes.send(process, signal.SIGKILL if kills else signal.SIGTERM)
        told.update(left)
        if meanwhile is not None:
            meanwhile()
        if time.monotonic() > until + GONE_LIMIT_S:
            raise TimeoutError(
                errno.ETIMEDOUT, f"these processes do not end: {', '.join(str(each.pid) for each in left)}"
            )
        processes.wait_gone(left, 0.05)


def _started(argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  to run what was asked for is what this is for
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class _Pipe:
    """What comes from a child: its output, and its end."""

    def __init__(self, child: subprocess.Popen[bytes], output: Output) -> None:
        assert child.stdout  # noqa: S101  asked for
        self._child, self._output = child, output
        self._fd = child.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._end = os.pidfd_open(child.pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)
        self._selector.register(self._end, selectors.EVENT_READ)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_error: object) -> None:
        self._selector.close()
        os.close(self._end)
        if self._child.stdout:
            self._child.stdout.close()

    def until_ended(self, deadline: float) -> bool:
        """Take in the output until the child has ended; False when the time is over before."""
        while (left := deadline - time.monotonic()) > 0:
            ready = {key.fd for key, _events in self._selector.select(left)}
            if self._fd in ready and not self._pour_some():
                self._selector.unregister(self._fd)
            if self._end in ready:
                return True
        return False

    def pour(self) -> None:
        """Take in what is there now, and no more, as somebody may still be writing."""
        for _ in range(_PIPE_CHUNKS):
            if not self._pour_some():
                return

    def _pour_some(self) -> bool:
        """Take in a chunk; False when there is none now, or never again."""
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        self._output.add(chunk)
        return bool(chunk)
