"""What does a new user see first? A log on the real disk that is written, cut, repaired, spoilt and verified."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

from eventlog import Appended, Corrupt, FileLog, NewEvent, verify

STREAM = "run/demo"
_WIDTH_MAX = 110
_WRITER = """
import sys
from pathlib import Path
from eventlog import FileLog, NewEvent
log, number = FileLog(Path(sys.argv[1])), 0
while True:
    number += 1
    event = NewEvent("step.finished", {"step": number}, actor=sys.argv[2], door="demo")
    print(log.append(sys.argv[3], [event], key=f"step-{number}").head, flush=True)
"""


def play(*, keep: bool) -> int:
    """Play all scenes in a new directory; gives the exit code."""
    top = Path(tempfile.mkdtemp(prefix="merlin-demo-"))
    try:
        Demo(top).play()
        if keep:
            print(f"\nThe files are in {top}. Look around:\n  {_python()} -m eventlog verify {top}")
            print(f"  {_python()} -m eventlog cat {FileLog(top).path(STREAM)}")
        else:
            print("\nNothing is left behind; `demo --keep` leaves the files to look at.")
    finally:
        if not keep:
            shutil.rmtree(top)
    return 0


class Demo:
    """The scenes, in order; each prints what it does in one line and shows what is on disk after it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.log = FileLog(top)
        self.path = self.log.path(STREAM)
        self.actor = f"{getpass.getuser()}@{socket.gethostname()}"

    def play(self) -> None:
        """Show what a log survives, and what it does not hide."""
        scenes: tuple[tuple[str, Callable[[], None]], ...] = (
            ("Write three events: each is on the disk before it is acknowledged", self._write),
            ("Repeat one under its idempotency key, as after a lost answer: it is not recorded twice", self._repeat),
            ("Kill -9 a writer in the middle of its work: what it acknowledged is there", self._kill),
            ("Cut the last line in half, as a power cut does: it is torn, and all before it is whole", self._cut),
            ("Go on: the torn bytes are set aside, and the log says so", self._go_on),
            ("Change one letter of the past: verify names the line, and nothing more is appended", self._spoil),
        )
        for number, (text, scene) in enumerate(scenes, 1):
            print(f"\n{number}. {text}.")
            scene()

    def _write(self) -> None:
        for target in ("saturn_opu_v128", "gemmini_mx", "spacemit_x60"):
            self._append("run.requested", target=target)
        self._show(self.path.read_text().splitlines()[-1])

    def _repeat(self) -> None:
        for _ in range(2):
            event = NewEvent("run.submitted", {"attempt": 1}, actor=self.actor, door="demo")
            appended = self.log.append(STREAM, [event], key="submit-1")
            self._show(f"seq {appended.first}{', as before' if appended.repeated else ''}")

    def _kill(self) -> None:
        command = [sys.executable, "-c", _WRITER, str(self.top), self.actor, STREAM]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:  # noqa: S603  our own Python
            heads = [writer.stdout.readline() for _ in range(20)] if writer.stdout else []
            writer.send_signal(signal.SIGKILL)
            heads += writer.stdout.readlines() if writer.stdout else []
        acknowledged = heads[-1].strip()
        self._show(f"the writer's last acknowledged head is {acknowledged}")
        seq = int(acknowledged.partition(":")[0])
        found = next(event.head for event in self.log.read(STREAM, seq))
        self._show(f"the log has at that place     {found}")

    def _cut(self) -> None:
        self.log = FileLog(self.top)  # A new process: this one would know that the line was acknowledged.
        with self.path.open("r+b") as file:
            file.truncate(self.path.stat().st_size - 100)
        self._verify()

    def _go_on(self) -> None:
        for event in self._append("run.completed", exit_code=0).news:
            self._show(f"{event.seq:>5}  {event.type}  {event.data}")
        self._verify()

    def _spoil(self) -> None:
        self.path.write_bytes(self.path.read_bytes().replace(b"gemmini_mx", b"gemmini_my"))
        self._verify()
        try:
            FileLog(self.top).append(STREAM, [NewEvent("run.noted", {}, actor=self.actor, door="demo")])
        except Corrupt as refusal:
            self._show(f"refused: {refusal}")

    def _append(self, type_: str, **data: str | int) -> Appended:
        return self.log.append(STREAM, [NewEvent(type_, data, actor=self.actor, door="demo")])

    def _verify(self) -> None:
        verdict = verify(self.path)
        where = "" if verdict.state == "whole" else f", line {verdict.line}: {verdict.why}"
        self._show(f"{verdict.state}, {verdict.head.seq} events{where}")

    def _show(self, text: str) -> None:
        width = min(shutil.get_terminal_size().columns, _WIDTH_MAX)
        print(textwrap.fill(text, width, initial_indent="     ", subsequent_indent="       ", break_on_hyphens=False))


def _python() -> str:
    return shlex.quote(sys.executable)
