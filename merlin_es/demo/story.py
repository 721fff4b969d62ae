"""What does Merlin do, told by doing it: a plan carried out on Ray, a gate, a lease, a fork, a crash, a rebuild?"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from merlin_es.demo.interruption import Interruption
from merlin_es.demo.screen import Screen
from merlin_es.demo.shell import Failed, Shell
from merlin_es.demo.workspace import Workspace

MERLIN = "./merlin"
TARGET = "saturn_opu"
TARGET_DIR = f"build/generated/targetgen/{TARGET}"
TASK = "implement_llvm_ukernel"
QUESTION = f"{TASK}-branch_gate"
GIVEN, OTHER = "apply_in_worktree", "continue_without_mutation"
BRANCH = f"targetgen/{TARGET}-staged"
KEY = "opu_simulator"
WITH = (
    *("--engine", "ray", "--lease", KEY, "--prompt-backend", "provider"),
    *("--agent-command", "python3 stand_in.py {prompt_file} {response_file}"),
    *("--validate", f"{TASK}=python3 tests/same_results.py"),
)
"""How the plan is carried out, from the first call to the last."""
LIMIT_S = "300"
_RUN_ID = re.compile(r"^Run ID: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Scene:
    """A part of the story: what it means, in one line, and what is typed in it."""

    meaning: str
    play: Callable[[], None]


class Story:
    """The story, which takes place in a workspace; `runs` has what it has submitted, by what it is for."""

    def __init__(
        self, workspace: Workspace, screen: Screen, environment: Mapping[str, str], interruption: Interruption
    ) -> None:
        self._workspace = workspace
        self._screen = screen
        self._shell = Shell(workspace, screen, environment, interruption)
        self.runs: dict[str, str] = {}
        self.scene = 0
        """The number of the scene that is played."""
        self.has_begun = False
        """Whether a head may run."""

    def scenes(self) -> tuple[Scene, ...]:
        """Give its parts, in order."""
        return (
            Scene(
                "A workspace: a git repository, and a stand-in for whoever writes code.", self._look_at_the_workspace
            ),
            Scene("A Ray head of its own, with its own ports, token and processes.", self._start),
            Scene("A plan is carried out by a run on Ray, which holds a lease meanwhile.", self._execute),
            Scene("It waits at a gate: nobody changes a repository unasked. So: answer.", self._answer),
            Scene("It goes on: applied in a git worktree, and validated there.", self._go_on),
            Scene("What came of it: a commit, a proof, artifacts, a lease given back.", self._look_at_results),
            Scene("The record, and its replay: each event, and what it changed.", self._look_back),
            Scene("A fork: the same past, the other answer, a run of its own on Ray.", self._fork),
            Scene("A crash: the head is killed under a run, which is found to be lost.", self._crash),
            Scene("State files are folds of the logs: delete all, and they come back.", self._rebuild),
            Scene("Stop: this head and no other. Every line of every log is verified.", self._stop),
        )

    def play(self) -> None:
        """Play all scenes; raises Failed."""
        scenes = self.scenes()
        for self.scene, scene in enumerate(scenes, 1):
            self._screen.say(f"{self.scene}/{len(scenes)}  {scene.meaning}", loud=True)
            self._screen.line()
            scene.play()

    def stop(self) -> bool:
        """End the head, whatever happened; tells whether nothing runs any more."""
        if self.has_begun:
            self.has_begun = not self._shell.succeeds(*_ray("cluster", "stop"))
        return not self.has_begun

    def endings(self) -> tuple[tuple[str, str], ...]:
        """Give what one may want to see next, and what to type for it in the workspace."""
        main, told_otherwise = self.runs["main"], f"{TARGET_DIR}-fork-{self.runs['fork'][-8:]}"
        return (
            ("all runs, the newest first", f"{MERLIN} ray jobs list"),
            ("each event of a run, and what it changed", f"{MERLIN} ray replay {main}"),
            ("why it is as it is", f"{MERLIN} ray why {main} status"),
            ("where the plan stands, and what was answered", f"{MERLIN} targetgen status --target-dir {TARGET_DIR}"),
            ("the same of the fork", f"{MERLIN} targetgen status --target-dir {told_otherwise}"),
            ("what the other answer changed", f"{MERLIN} ray diff {TARGET_DIR} {told_otherwise}"),
            ("what was proposed, applied and validated", f"git show {BRANCH}"),
        )

    def _look_at_the_workspace(self) -> None:
        self._screen.typed(f"cd {self._workspace.top}")
        self._shell.type("git", "ls-files")

    def _start(self) -> None:
        self.has_begun = True
        self._shell.type(
            *_ray("cluster", "start-local"),
            waits_for="Ray starts its processes",
            mend=f"`{self._workspace.top}/merlin ray doctor` says what is wrong with this host",
        )

    def _execute(self) -> None:
        self.runs["first"] = self._submitted("targetgen", "execute", "--example", TARGET, *WITH)
        self._see_end(self.runs["first"], "the run goes through the tasks of the plan")

    def _answer(self) -> None:
        status = self._shell.type(*_ray("jobs", "status", self.runs["first"]))
        if f"Open question: {QUESTION}\n" not in status:
            raise Failed(f"{QUESTION} was not asked. `{MERLIN} ray jobs logs` says why, then run the demo again")
        words = ("--target-dir", TARGET_DIR, "--question-id", QUESTION, "--choice", GIVEN)
        self._shell.type(MERLIN, "targetgen", "answer", *words)

    def _go_on(self) -> None:
        self.runs["main"] = self._submitted("targetgen", "execute", "--from-dir", TARGET_DIR, *WITH)
        self._see_end(self.runs["main"], "the run applies, validates and goes on")
        status = self._shell.type(*_ray("jobs", "status", self.runs["main"]))
        if "Execution: completed\n" not in status:
            raise Failed(f"the plan is not completed. `{MERLIN} ray jobs logs` says why, then run the demo again")

    def _look_at_results(self) -> None:
        self._shell.type("git", "log", "--oneline", "--stat", "-1", BRANCH)
        self._shell.type(*_ray("events", TARGET_DIR, "--type", "validation.ended"), lines=6)
        self._shell.type(*_ray("artifacts", "list", self.runs["main"]), lines=-6)
        self._shell.type(*_ray("resources", "history", KEY), lines=12)

    def _look_back(self) -> None:
        self._shell.type("tail", "-n", "6", f"{self._workspace.run_directory(self.runs['main'])}/run_record.json")
        self._shell.type(*_ray("replay", self.runs["main"]), lines=-16)

    def _fork(self) -> None:
        words = ("--at", "question.asked#1", "--answer", f"{QUESTION}={OTHER}")
        self.runs["fork"] = self._submitted("ray", "fork", self.runs["first"], *words)
        self._see_end(self.runs["fork"], "the fork goes its own way")
        self._shell.type(*_ray("jobs", "status", self.runs["fork"]))

    def _crash(self) -> None:
        words = ("--target", TARGET, "--workflow", "soak", "--target-dir", "build/soak", "--", "sleep", "3600")
        self.runs["lost"] = self._submitted("ray", "jobs", "submit", *words)
        self._shell.type(
            *_ray("wait", self.runs["lost"], "running", "-t", LIMIT_S), lines=4, waits_for="Ray starts the command"
        )
        self._kill_the_head()
        self._shell.type(*_ray("cluster", "status"), code=6)
        self._shell.type(*_ray("cluster", "start-local"), waits_for="Ray starts its processes again")
        self._shell.type(*_ray("reconcile", "--once"))
        listed = self._shell.type(*_ray("jobs", "list"))
        if not re.search(rf"{self.runs['lost']} +lost ", listed):
            raise Failed(f"{self.runs['lost']} is not found to be lost: `{MERLIN} ray doctor` may say why")

    def _kill_the_head(self) -> None:
        record = self._workspace.state / "cluster" / "bootstrap.json"
        try:
            pid = json.loads(record.read_text(encoding="utf-8"))["pid"]
            self._screen.typed(f"kill -9 {pid}")
            os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError, KeyError) as error:  # It has died by itself, say of too little memory.
            raise Failed(f"there is no head to kill ({error}). `{MERLIN} ray doctor` says why") from error
        self._screen.line()

    def _rebuild(self) -> None:
        before = {path: path.read_bytes() for path in self._state_files()}
        for path in before:
            path.unlink()
        state = self._workspace.state.relative_to(self._workspace.top)
        self._screen.typed(f"find {state} -name '*.json' -not -path '*/witness/*' -delete")
        self._screen.line(f"{len(before)} files are gone.\n")
        self._shell.type(*_ray("rebuild"), lines=6)
        if changed := [path.name for path, content in before.items() if path.read_bytes() != content]:
            raise Failed(f"{', '.join(changed)}: not the bytes of before. `{MERLIN} ray rebuild --check` says why")
        self._screen.line(f"{len(before)} files are back, each with the same bytes as before.\n")

    def _state_files(self) -> list[Path]:
        """Give what is folded from logs; what the wrapper of a run has seen is no fold."""
        return [path for path in self._workspace.state.rglob("*.json") if "witness" not in path.parts]

    def _stop(self) -> None:
        self._shell.type(*_ray("cluster", "stop"), waits_for="the head ends, with all that it started")
        self.has_begun = False
        self._shell.type(*_ray("verify", "--all"), lines=16)

    def _submitted(self, *words: str) -> str:
        """Submit a run and give its id."""
        printed = self._shell.type(MERLIN, *words, waits_for="the run is recorded, then Ray is asked")
        found = _RUN_ID.search(printed)
        if found is None:
            raise Failed("that named no run: look at what it printed, then run the demo again")
        return found.group(1)

    def _see_end(self, run_id: str, meanwhile: str) -> None:
        logs = f"`cd {self._workspace.top} && {MERLIN} ray jobs logs {run_id}` shows what it wrote"
        self._shell.type(*_ray("jobs", "wait", run_id, "-t", LIMIT_S), waits_for=meanwhile, mend=logs)


def _ray(*words: str) -> tuple[str, ...]:
    return (MERLIN, "ray", *words)
