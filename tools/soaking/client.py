"""What does one person of the lab do all day? Types verbs, keeps a journal of what Merlin told, and may be killed.

    python3 -m soaking.client TOP NUMBER GENERATION SEED PAUSE

The verbs are those of the command line, called in this process: a start of Python for each would be most of the work.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merlin_es import cli
from soaking.place import EXAMPLES, KEYS, LABEL, TTL, Place

PROMPT_WAITS, TASK_BLOCKED = 18, 5
HELPFUL = ("credential_ready", "device_available", "continue_without_mutation", "switch_to_manualllm")
"""Answers by which an execution goes on, whatever this machine has."""
JOURNAL_LIMIT_S = 300.0
BUSY_SHARE = 0.25
"""At most so much of its time a client keeps the machine busy, however slow that is."""


@dataclass(frozen=True)
class Said:
    """What a verb printed, and its exit code."""

    code: int
    out: str

    def all(self, name: str) -> list[str]:
        """Give the values of all lines `name: value`."""
        return [line.partition(": ")[2] for line in self.out.splitlines() if line.startswith(f"{name}: ")]

    def one(self, name: str) -> str:
        """Give the value of the first line `name: value`, empty without one."""
        return (self.all(name) or [""])[0]


@dataclass
class Client:
    """One person, with dice of its own, and the memory of what it has submitted and held."""

    place: Place
    number: int
    generation: int
    dice: random.Random
    runs: list[str] = field(default_factory=list)
    stale: list[tuple[str, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Who this is, in this life."""
        return f"c{self.number:02}"

    @property
    def target(self) -> str | None:
        """The spec that this client carries out, for the first few of them."""
        return EXAMPLES[self.number] if self.number < len(EXAMPLES) else None

    def work(self, pause_s: float) -> None:
        """Do one thing after the other, with pauses, until it is time to go home."""
        while not self.place.stopping.exists():
            begun = time.monotonic()
            self.dice.choices(*zip(*self.deeds().items(), strict=True))[0]()
            busy_s = time.monotonic() - begun
            time.sleep(max(self.dice.uniform(0.5, 1.5) * pause_s, busy_s * (1 / BUSY_SHARE - 1) if busy_s < 5 else 0))

    def deeds(self) -> Mapping[Callable[[], None], float]:
        """Give what this client does, and how often."""
        everybody = {
            self.submit: 4.0,
            self.look: 3.0,
            self.cancel: 1.5,
            self.retry: 1.0,
            self.lease: 5.0,
            self.hold: 2.0,
            self.be_late: 1.0,
            self.maintain: 0.3,
            self.answer: 2.0,
        }
        return {**everybody, self.execute: 12.0} if self.target else everybody

    def submit(self) -> None:
        """Have a run that says that it was executed, takes a moment, and ends in one of several ways."""
        note = f'printf \'{{"run":"%s","attempt":"%s"}}\\n\' "$MERLIN_RUN" "$MERLIN_ATTEMPT" >> {self.place.executed}'
        script = f"{note}; sleep {self.dice.choice((0, 0, 1, 3))}; exit {self.dice.choice((0, 0, 0, 3))}"
        options = ["--cpus", "0.1", "--target-dir", str(self.place.work / "out"), "--retries", "1"]
        if self.dice.random() < 0.3:
            options += ["--lease", self.dice.choice(KEYS)]
        said = self.say(
            "ray", "jobs", "submit", "--target", "soak", "--workflow", "w", *options, "--", "sh", "-c", script
        )
        if run := said.one("Run ID"):
            self.tell(told="submitted", run=run)
            self.runs = [*self.runs, run][-5:]

    def look(self) -> None:
        """Look at what is there."""
        words = self.dice.choice(
            (("jobs", "list"), ("resources", "list"), ("resources", "queue"), ("cluster", "status"))
        )
        self.say("ray", *(("jobs", "status", self.dice.choice(self.runs)) if self.runs else words))
        self.say("ray", *words)

    def cancel(self) -> None:
        """Have a run of one's own end."""
        if self.runs:
            run = self.dice.choice(self.runs)
            if self.say("ray", "jobs", "cancel", run).code == 0:
                self.tell(told="cancelled", run=run)

    def retry(self) -> None:
        """Have a run of one's own submitted after all, where that is possible."""
        if self.runs:
            self.say("ray", "jobs", "retry", self.dice.choice(self.runs))

    def lease(self) -> None:
        """Have one to three keys for a moment, or one of the slots."""
        keys = self.dice.sample(KEYS, self.dice.choice((1, 1, 2, 3)))
        what = keys if self.dice.random() < 0.8 else ["--any", LABEL]
        waits = ["--wait", "--timeout", "15s"] if self.dice.random() < 0.8 else []
        more = ["--ttl", TTL, "--priority", str(self.dice.choice((0, 0, 5)))]
        said = self.say("ray", "resources", "reserve", *what, "--owner", self.name, *waits, *more)
        held = list(zip(said.all("Lease ID"), said.all("Resource"), map(int, said.all("Fence")), strict=True))
        for lease, key, fence in held if said.code == 0 else ():
            self.tell(told="leased", lease=lease, key=key, fence=fence)
        time.sleep(self.dice.uniform(0, 1))
        for lease, _, fence in held:
            if self.say("ray", "resources", "release", lease, "--fence", str(fence)).code == 0:
                self.tell(told="released", lease=lease)
                self.stale = [*self.stale, (lease, fence)][-5:]

    def hold(self) -> None:
        """Run a command that holds a key."""
        words = (self.dice.choice(KEYS), "--owner", self.name, "--wait", "--timeout", "15s", "--ttl", "6s")
        self.say("ray", "resources", "hold", *words, "--", "sleep", f"{self.dice.uniform(0, 1):.2f}")

    def be_late(self) -> None:
        """Come with a fence that is worth nothing any more."""
        if self.stale:
            lease, fence = self.dice.choice(self.stale)
            said = self.say("ray", "resources", "renew", lease, "--fence", str(fence))
            if said.code == 0:
                self.complain(f"{lease} was released, and could be renewed with its fence {fence}")

    def maintain(self) -> None:
        """Take a key out of service for a moment."""
        key = self.dice.choice(KEYS)
        self.say("ray", "resources", "drain", key, "--reason", "a new cable")
        time.sleep(1)
        self.say("ray", "resources", "enable", key, "--reason", "it is in")

    def execute(self) -> None:
        """Carry a plan out as far as it goes, here or as a run, and begin anew where it is done."""
        assert self.target
        directory = self.directory(self.target)
        if not (directory / "execution_bundle.json").exists():
            self.say("targetgen", "orchestrate", "--example", self.target)
            return
        engine = ("--engine", "ray", "--ray-state-root", str(self.place.state)) if self.dice.random() < 0.15 else ()
        said = self.say("targetgen", "execute", "--from-dir", str(directory), "--resume", *engine)
        if run := said.one("Run ID"):
            self.tell(told="submitted", run=run)
        elif said.code == PROMPT_WAITS:
            self.respond(directory)
        elif said.code == TASK_BLOCKED and self.dice.random() < 0.7:
            self.say("targetgen", "execute", "--from-dir", str(directory), "--retry", "--reconsider")
        elif said.code in (0, TASK_BLOCKED):
            self.say("targetgen", "orchestrate", "--example", self.target, "--reset")

    def respond(self, directory: Path) -> None:
        """Write what the packets ask for, somewhere where their tasks may write; what is refused is written again."""
        bundle = json.loads((directory / "execution_bundle.json").read_bytes())
        for task in bundle["tasks"]:
            scopes = [each.replace("<target>", directory.name) for each in task["write_scope"] if each.endswith("/")]
            scopes = [each for each in scopes if "<" not in each]
            if scopes and task.get("response_packet"):
                text = f"Done.\n\n```markdown path={self.dice.choice(scopes)}NOTES.md\n# {task['id']}\n```\n"
                with contextlib.suppress(OSError):  # The disk may be full.
                    (directory / "prompts" / task["response_packet"]).write_text(text)

    def answer(self) -> None:
        """Answer any question that is open anywhere; somebody else may do so at the same moment."""
        asked = [
            (path.parents[1], request)
            for name in EXAMPLES
            for path in self.directory(name).glob("operator_requests/*.json")
            if (request := json.loads(path.read_bytes())).get("status") == "open"
        ]
        if not asked:
            return
        directory, request = self.dice.choice(asked)
        offered = [option["id"] for option in request["options"]]
        helpful = [choice for choice in offered if choice in HELPFUL]
        choice = self.dice.choice(helpful if helpful and self.dice.random() < 0.8 else offered[:1] + offered[2:])
        question = ("--question-id", request["id"], "--choice", choice)
        if self.say("targetgen", "answer", "--target-dir", str(directory), *question).code == 0:
            first = json.loads((directory / "events.jsonl").open("rb").readline())
            self.tell(told="answered", execution=first["stream"], question=request["id"], choice=choice)

    def directory(self, example: str) -> Path:
        """Give where the execution of an example lies."""
        return self.place.work / "build/generated/targetgen" / example

    def say(self, *words: str) -> Said:
        """Type a verb; what would be a traceback for a user goes into the journal of complaints."""
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        sys.argv = ["merlin", *words]
        code: object = None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as done:
                code = done.code
            except Exception:  # noqa: BLE001  whatever it is: a user would have seen it
                self.complain(traceback.format_exc())
                code = 70
        printed, said = (_text(stream) for stream in (out, err))
        self.note("verbs", {"verb": " ".join(words[1:3]), "code": code, "err": said[-300:] if code else ""})
        return Said(code if isinstance(code, int) else 0, printed)

    def tell(self, **facts: object) -> None:
        """Note what was acknowledged."""
        self.note("told", facts)

    def complain(self, text: str) -> None:
        """Note what must not be."""
        self.note("complaints", {"who": self.name, "generation": self.generation, "what": text})

    def note(self, journal: str, facts: Mapping[str, object]) -> None:
        """Append a line, whatever it takes: a file may not grow while the disk of the lab is full."""
        path = self.place.journals / f"{journal}-{self.name}-{self.generation}.jsonl"
        line = json.dumps(facts).encode() + b"\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        end = time.monotonic() + JOURNAL_LIMIT_S
        size = os.fstat(descriptor).st_size
        try:
            while time.monotonic() < end:
                with contextlib.suppress(OSError):
                    if os.write(descriptor, line) == len(line):
                        return
                os.ftruncate(descriptor, size)
                time.sleep(0.2)
        finally:
            os.close(descriptor)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(errors="replace")


def main() -> None:
    """Live one life."""
    top, number, generation, seed, pause_s = sys.argv[1:6]
    place = Place(Path(top))
    os.chdir(place.work)
    os.environ["MERLIN_ACTOR"] = f"c{int(number):02}@lab"
    dice = random.Random(f"{seed}/{number}/{generation}")
    Client(place, int(number), int(generation), dice).work(float(pause_s))


if __name__ == "__main__":
    main()
