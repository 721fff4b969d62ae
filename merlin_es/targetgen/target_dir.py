"""How is one target directory read and written: its log, its blobs, its files, and the one who executes in it?"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import eventlog
from merlin_es.errors import MerlinError, NotFound, Refused, Sick
from merlin_es.failpoints import reach
from merlin_es.targetgen.bundle import ExecutionBundle, bundle_from_json
from projections.events.execution import ExecutionEvent, ExecutionPrepared
from projections.execution_files import execution_projection
from projections.execution_state import ExecutionState
from projections.files import NotPublished, Publisher
from projections.fresh import read_document, stamp_of
from projections.layout import EXECUTION_STATE, TargetLayout, execution_stream
from projections.rebuilding import rebuild_execution
from projections.verdict import Verdict

CONFLICTS_MAX: Final = 20
"""How often a decision is taken again because the stream moved; each time somebody else got on."""
LOCK: Final = ".executor.lock"
LOCK_POLL_S: Final = 0.1
LOCK_WAIT_S_MAX: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Who:
    """Who writes, through which door, and within which run (None: in none)."""

    actor: str
    door: str
    run_id: str | None = None


class TargetDirectory:
    """The directory of one execution. Anybody may read, and answer; one at a time executes."""

    def __init__(self, path: Path, who: Who, disk: eventlog.Disk | None = None) -> None:
        self.path = path
        self._who = who
        self._disk = disk or eventlog.Disk()
        self._layout = TargetLayout(path)
        self.blobs = eventlog.BlobStore(path / "blobs", disk=self._disk)
        self.log = eventlog.FileLog(self._layout, disk=self._disk, acknowledged=self._acknowledged)
        self._bundles: dict[str, Mapping[str, Any]] = {}
        projection = execution_projection(self.bundle_document)
        self._publisher = Publisher(
            self.log, path, disk=self._disk, layout=self._layout, projections=lambda _stream: projection
        )

    @property
    def disk(self) -> eventlog.Disk:
        """What its files are written with."""
        return self._disk

    @property
    def who(self) -> Who:
        """Who writes here."""
        return self._who

    @property
    def stream(self) -> str | None:
        """The stream of the execution; None where nothing was recorded yet."""
        try:
            return self._layout.stream()
        except eventlog.Invalid as error:
            raise Sick(f"{self.path} holds no log of an execution ({error}): move the file away") from None

    def at_head(self) -> tuple[ExecutionState, eventlog.Head]:
        """Give the execution as its log has it; one without a plan when nothing was recorded."""
        stream = self.stream
        if stream is None:
            return ExecutionState(), eventlog.Head(0, "")
        state, head = self._publisher.fold(stream)
        return state, head

    def state(self) -> ExecutionState:
        """Give the execution as its log has it."""
        return self.at_head()[0]

    def prepared(self) -> ExecutionState:
        """Give the execution as its log has it; raises NotFound when no plan was made ready here."""
        state = self.state()
        if not state.is_prepared:
            raise NotFound(
                f"{self.path} holds no execution: `merlin targetgen orchestrate CAPABILITY` makes one ready, and "
                "prints where"
            )
        return state

    def bundle(self, state: ExecutionState) -> ExecutionBundle:
        """Give the plan of the execution."""
        return bundle_from_json(self.bundle_document(state.bundle_sha256))

    def bundle_document(self, digest: str) -> Mapping[str, Any]:
        """Give a bundle as JSON has it."""
        if digest not in self._bundles:
            self._bundles[digest] = json.loads(self.blobs.get(digest))
        return self._bundles[digest]

    def append(self, events: Sequence[ExecutionEvent], head: eventlog.Head) -> bool:
        """Record what was decided at `head`, and publish; False when somebody was faster."""
        stream = self.stream or self._new_stream(events)
        recorded = [event.recorded_by(self._who.actor, self._who.door, corr=self._who.run_id) for event in events]
        reach("execution.append.before")
        try:
            self.log.append(stream, recorded, expected=head if head.seq else 0)
        except eventlog.Conflict:
            return False
        reach("execution.append.after")
        self.publish()
        reach("execution.publish.after")
        return True

    def change(self, decide: Callable[[ExecutionState], Sequence[ExecutionEvent]]) -> ExecutionState:
        """Append what `decide` makes of the execution, and give it as it is then; published when this returns."""
        for _ in range(CONFLICTS_MAX):
            state, head = self.at_head()
            events = decide(state)
            if not events:
                return state
            if self.append(events, head):
                return self.state()
        raise MerlinError(f"{self.path} moved {CONFLICTS_MAX} times while one decision was taken: repeat the call")

    def publish(self) -> None:
        """Write the files that say something else than the log."""
        stream = self.stream
        if stream is None:
            return
        try:
            self._publisher.publish(stream)
        except NotPublished as error:
            raise MerlinError(str(error)) from None

    def rebuild(self, *, check: bool) -> list[Verdict]:
        """Compare every state file with the log and, unless only to `check`, write those that differ."""
        stream = self.stream
        if stream is None:
            return []
        return rebuild_execution(self.log, self._publisher, self.path, stream, check=check)

    @contextmanager
    def executing(self, *, wait: bool = False) -> Iterator[None]:
        """Be the one who executes here; raises Refused, with the holder's name, when somebody else is.

        The kernel frees the lock when its holder dies. The file is never removed: who waits has it open.
        """
        eventlog.disk.make_directories(self._disk, self.path)
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(fd, wait=wait)
            name = f"{self._who.actor}, process {os.getpid()} on {os.uname().nodename}"
            os.ftruncate(fd, 0)
            os.pwrite(fd, name.encode(), 0)
            yield
        finally:
            os.close(fd)

    def _lock(self, fd: int, *, wait: bool) -> None:
        limit = time.monotonic() + (LOCK_WAIT_S_MAX if wait else 0)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= limit:
                    holder = os.pread(fd, 4096, 0).decode(errors="replace") or "another process"
                    raise Refused(
                        f"{self.path} is being executed by {holder}: wait for it with --wait, or answer its questions"
                    ) from None
            time.sleep(LOCK_POLL_S)

    def _new_stream(self, events: Sequence[ExecutionEvent]) -> str:
        """Name the stream of an execution that begins; refuse to begin over the work of a tool that kept no log."""
        if _has_begun(read_document(self.path / EXECUTION_STATE)):
            raise Refused(
                f"{self.path / EXECUTION_STATE} is of an execution that has begun, and there is no log beside it: "
                "move the directory away, or bring the log back"
            )
        first = events[0]
        assert isinstance(first, ExecutionPrepared)  # noqa: S101  an execution begins with a plan
        return execution_stream(f"{first.target}-{secrets.token_hex(4)}")

    def _acknowledged(self, _stream: str) -> eventlog.Head | None:
        stamp = stamp_of(read_document(self.path / EXECUTION_STATE) or {})
        return stamp.head if stamp else None


def _has_begun(state: Mapping[str, Any] | None) -> bool:
    """Whether any task of a state that was found is not as an execution begins."""
    tasks = (state or {}).get("tasks")
    states = tasks.values() if isinstance(tasks, dict) else ()
    return any(not isinstance(each, dict) or each.get("status") != "planned" for each in states)
