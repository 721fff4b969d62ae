"""Where does a soak happen: what lies where, and in which environment is Merlin called?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KEYS = ("board-a", "board-b", "board-c", "slot-0", "slot-1", "slot-2")
LABEL, LABELLED = "kind=slot", KEYS[3:]
EXAMPLES = ("gemmini", "nvidia_ada", "saturn_opu", "spacemit_x60")
REPOSITORY = ("README", "third_party/iree_bar/third_party/llvm-project/README", "tests/targetgen/test_targetgen.py")
"""What the plans of the examples look for in a repository."""
TTL = "20s"
"""Of the leases that clients hold: they are killed, and others go on after that time."""
VERB_LIMIT_S = 600.0


@dataclass(frozen=True)
class Place:
    """The directory of a soak. What may run out of room lies below `disk`, what must not beside it."""

    top: Path

    @property
    def disk(self) -> Path:
        """Where the file system is that is filled."""
        return self.top / "d"

    @property
    def state(self) -> Path:
        """The state root."""
        return self.disk / "state"

    @property
    def work(self) -> Path:
        """The workspace, a git repository."""
        return self.disk / "work"

    @property
    def journals(self) -> Path:
        """What the clients and the commands of runs note for the audit."""
        return self.top / "journals"

    @property
    def stopping(self) -> Path:
        """There when the clients are to go home."""
        return self.top / "stopping"

    def told(self) -> list[Path]:
        """Give the journals of what clients were told."""
        return sorted(self.journals.glob("told-*.jsonl"))

    @property
    def executed(self) -> Path:
        """The journal of what was executed, and as which attempt."""
        return self.journals / "executed.jsonl"

    def make(self) -> None:
        """Make what a lab needs before anything is recorded."""
        for directory in (self.work, self.journals):
            directory.mkdir(parents=True, exist_ok=True)
        self.executed.touch()
        self._git("init", "-q")
        (self.work / ".gitignore").write_text("/build/\n")
        for name in REPOSITORY:
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text("A file of a lab.\n")
        self._git("add", "-A")
        self._git("-c", "user.name=ada", "-c", "user.email=ada@lab", "commit", "-qm", "first")

    def declare(self) -> None:
        """Say which keys are of one kind."""
        for key in LABELLED:
            self.merlin("ray", "resources", "declare", key, "--label", LABEL)

    def environment(self, who: str = "director@lab") -> dict[str, str]:
        """Give the environment in which Merlin is called: nothing of it is the caller's own state."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MERLIN_", "RAY_"))}
        mine = {
            "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tools'}",
            "MERLIN_STATE_ROOT": str(self.state),
            "MERLIN_ACTOR": who,
        }
        return {**kept, **mine}

    def merlin(self, *words: str, who: str = "director@lab") -> subprocess.CompletedProcess[str]:
        """Run `merlin …` as a process."""
        return subprocess.run(
            [sys.executable, "-m", "merlin_es", *words],
            cwd=self.work,
            env=self.environment(who),
            capture_output=True,
            text=True,
            timeout=VERB_LIMIT_S,
            check=False,
        )

    def statuses(self) -> dict[str, str]:
        """Give the status of every run, as its record says."""
        return {path.parent.name: _field(path, "status") for path in self.state.glob("runs/*/run_record.json")}

    def held(self) -> list[str]:
        """Give the leases that are held, as their files say."""
        paths = self.state.glob("resources/leases/lease-*.json")
        return [path.stem for path in paths if _field(path, "status") == "active"]

    def _git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.work, check=True, capture_output=True)


def _field(path: Path, name: str) -> str:
    return str(json.loads(path.read_bytes()).get(name, ""))
