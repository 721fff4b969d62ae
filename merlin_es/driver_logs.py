"""Where is the output of a run, while it runs and when all that ran it is gone?"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import eventlog
from merlin_es.cluster_link import ClusterLink
from merlin_es.errors import NotFound, Unauthorized, Unreachable
from merlin_es.keeper import driver_log_path
from projections.run_record import Attempt, RunRecord

STEP_S = 0.3
CHUNK_BYTES = 64 * 1024
PROLOGUE_BYTES = 4 * 1024
_SETTING_UP = re.compile(
    rb"^\d{4}-\d\d-\d\d [\d:,]+\tINFO job_manager\.py:\d+ -- Runtime env is setting up\.\n", re.MULTILINE
)


@dataclass(frozen=True)
class DriverLogs:
    """Reads the driver's output: captured, from the file of a head on this host, or from Ray."""

    cluster: ClusterLink
    blobs: eventlog.BlobStore

    def read(self, record: RunRecord, *, tail: int | None = None) -> Iterator[bytes]:
        """Yield the output so far, or its last `tail` lines; raises NotFound where nobody has any."""
        attempt = _attempt(record)
        if tail is not None:
            yield from _last_lines(self.read(record), tail)
            return
        chunks = self.blobs.chunks(attempt.logs_sha256) if attempt.logs_sha256 else iter([self._now(record, attempt)])
        yield from without_prologue(chunks, attempt)

    def follow(self, run_id: str, look: Callable[[str], RunRecord], *, tail: int | None = None) -> Iterator[bytes]:
        """Yield the output as it is written, until the run rests; `look` gives the run after a look at Ray.

        Raises NotFound where the run rests and was never submitted.
        """
        pause = threading.Event()
        record = look(run_id)
        done, number, prologue = 0, 0, None
        if tail is not None and record.attempt:
            so_far = b"".join(self._safely(record.attempt))
            done, number = len(so_far), record.attempt.number
            yield from _last_lines(without_prologue(iter([so_far]), record.attempt), tail)
        while True:
            if (attempt := record.attempt) and (attempt.number != number or prologue is None):
                done = done if attempt.number == number else 0
                number, prologue = attempt.number, Prologue(attempt, done)
            if attempt and prologue:
                for chunk in self._safely(attempt, done):
                    done += len(chunk)
                    yield prologue.pass_on(chunk, last=not record.is_active)
            if not record.is_active:
                _attempt(record)
                yield prologue.pass_on(b"", last=True) if prologue else b""
                return
            pause.wait(STEP_S)
            record = look(run_id)

    def _safely(self, attempt: Attempt, done: int = 0) -> Iterator[bytes]:
        """Yield what is there from byte `done` on; nothing where nobody can be asked now."""
        if attempt.logs_sha256:
            content = self.blobs.get(attempt.logs_sha256)
            yield content[done:]
            return
        path = driver_log_path(attempt, self.cluster.peek())
        if path and path.is_file():
            yield from _from(path, done)
            return
        try:
            content = self._asked(attempt) or b""
        except (Unreachable, Unauthorized):
            return
        yield content[done:]

    def _now(self, record: RunRecord, attempt: Attempt) -> bytes:
        path = driver_log_path(attempt, self.cluster.peek())
        if path and path.is_file():
            return path.read_bytes()
        try:
            content = self._asked(attempt)
        except Unreachable as error:
            raise NotFound(f"the output of {record.run_id} was not captured, and {error}") from None
        if content is None:
            raise NotFound(
                f"{record.run_id} has left no output that anybody still has: `merlin ray events` shows its end"
            )
        return content

    def _asked(self, attempt: Attempt) -> bytes | None:
        return self.cluster.link().server.logs(attempt.submission_id)


class Prologue:
    """Leaves out what Ray itself writes into the output of every job: that it sets up, and the whole entrypoint.

    It is over when `done` bytes of the output were read before.
    """

    def __init__(self, attempt: Attempt, done: int = 0) -> None:
        text = f"Running entrypoint for job {attempt.submission_id}: {attempt.entrypoint}\n"
        self._announcement = text.encode()
        self._held: bytes | None = None if done else b""

    def pass_on(self, chunk: bytes, *, last: bool = False) -> bytes:
        """Give what of `chunk`, and of what was held back before, is the command's."""
        if self._held is None:
            return chunk
        self._held += chunk
        found = self._announcement in self._held
        if not (found or last or len(self._held) > len(self._announcement) + PROLOGUE_BYTES):
            return b""
        mine, self._held = self._held, None
        return _SETTING_UP.sub(b"", mine.replace(self._announcement, b"", 1), count=1)


def without_prologue(chunks: Iterator[bytes], attempt: Attempt) -> Iterator[bytes]:
    """Yield a whole output without what Ray writes before it."""
    prologue = Prologue(attempt)
    for chunk in chunks:
        yield prologue.pass_on(chunk)
    yield prologue.pass_on(b"", last=True)


def _attempt(record: RunRecord) -> Attempt:
    if record.attempt is None:
        raise NotFound(
            f"{record.run_id} is {record.status} and was never submitted, so it has no output: "
            f"`merlin ray jobs status {record.run_id}` says why"
        )
    return record.attempt


def _from(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _last_lines(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield the last `count` lines, holding no more than those."""
    kept = b""
    for chunk in chunks:
        lines = (kept + chunk).splitlines(keepends=True)
        kept = b"".join(lines[-count - 1 :]) if count else b""
    yield b"".join(kept.splitlines(keepends=True)[-count:]) if count else b""
