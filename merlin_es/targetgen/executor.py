"""How is a plan executed? Look, decide, record what is wanted, do that one thing, record what came of it; and again."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from eventlog.disk import make_directories, replace_file
from eventlog.names import is_stream
from merlin_es.errors import MerlinError, Refused
from merlin_es.failpoints import reach
from merlin_es.redaction import NO_RULES, Rules
from merlin_es.targetgen import gates, walk
from merlin_es.targetgen.bundle import ExecutionBundle, ExecutionTask
from merlin_es.targetgen.ports import Agent, Credentials, Leases, Ran, Responses, Validation, Worktree, Worktrees
from merlin_es.targetgen.responses import RESPONSE_MAX
from merlin_es.targetgen.scopes import filled
from merlin_es.targetgen.target_dir import TargetDirectory
from projections.events.execution import (
    AgentEnded,
    ChangesApplied,
    ExecutionEvent,
    FilesDelivered,
    OutputsProduced,
    PromptEmitted,
    ResponseAccepted,
    ResponseRefused,
    TaskBlocked,
    TaskCompleted,
    ValidationEnded,
    WorktreePrepared,
)
from projections.events.recorded import Recorded
from projections.execution import evolve
from projections.execution_state import ExecutionState, TaskState
from projections.layout import OPERATOR_REQUESTS, TASK_STATES

MOVES_MAX: Final = 100_000
"""How many moves one call takes at most; a plan of 8 tasks takes about a hundred."""
PROMPTS: Final = "prompts"
BRIEFS: Final = "briefs"
PROVIDER: Final = "provider_backend.json"
_READS_RESPONSES: Final = frozenset(
    {"awaiting_response", "prompt_emitted", "awaiting_operator", "proposal_ready", "validating"}
)


@dataclass(frozen=True, slots=True)
class World:
    """The adapters that an execution needs; without an `agent` prompts wait for people."""

    responses: Responses
    worktrees: Worktrees
    validation: Validation
    credentials: Credentials
    leases: Leases
    agent: Agent | None = None
    secrets: Rules = NO_RULES


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one command may take, in seconds."""

    validation_s: float = 3600.0
    agent_s: float = 3600.0


class Executor:
    """Executes the plan of a target directory. Whoever calls it holds the directory's lock."""

    def __init__(self, place: TargetDirectory, world: World, workspace: Path, limits: Limits) -> None:
        self._place = place
        self._world = world
        self._workspace = workspace
        self._limits = limits
        self._acts: dict[str, Callable[[walk.Act, ExecutionTask, ExecutionState], Sequence[ExecutionEvent]]] = {
            "produce_outputs": self._produce_outputs,
            "emit_prompt": self._emit_prompt,
            "run_agent": self._run_agent,
            "read_response": self._read_response,
            "prepare_worktree": self._prepare_worktree,
            "apply_changes": self._apply_changes,
            "run_validation": self._run_validation,
        }

    def preview(self, state: ExecutionState, bundle: ExecutionBundle, lease_key: str | None) -> walk.Act | None:
        """Give the first thing that `execute` would do outside, briefs and packets apart; None when it would wait."""
        for _ in range(MOVES_MAX):
            move = walk.decide(state, bundle, self.look(state, bundle, lease_key))
            if move.act and move.act.step != "deliver":
                return move.act
            if not move:
                return None
            for event in move.events or (FilesDelivered(),):
                state = evolve(state, Recorded(state.seq + 1, "", "", "", event))
        raise MerlinError(f"the execution would not come to an end after {MOVES_MAX} moves: report this")

    def deliver(self) -> ExecutionState:
        """Put briefs and packets where people look for them, and execute nothing."""
        state = self._place.prepared()
        if not state.delivered:
            self._take(walk.Act("deliver"), state, self._place.bundle(state))
        self._place.publish()
        return self._place.state()

    def execute(self, lease_key: str | None = None) -> ExecutionState:
        """Go on until everything is done, or waits for somebody; give the execution as it is then."""
        for _ in range(MOVES_MAX):
            state, head = self._place.at_head()
            bundle = self._place.bundle(state)
            move = walk.decide(state, bundle, self.look(state, bundle, lease_key))
            if move.events:
                self._place.append(move.events, head)  # If somebody was faster, the next round sees what he did.
            elif move.act:
                self._take(move.act, state, bundle)
            else:
                self._place.publish()  # Who died between log and files left that to us.
                return state
        raise MerlinError(f"the execution did not come to an end after {MOVES_MAX} moves: report this")

    def look(self, state: ExecutionState, bundle: ExecutionBundle, lease_key: str | None) -> walk.Seen:
        """See what the next decision depends on."""
        roots = {task.repo_root: self._workspace / task.repo_root for task in bundle.tasks}
        artifacts = {path for task in bundle.tasks for path in task.artifacts_in}
        names = {gates.credential_name(task.credential_requirements) for task in bundle.tasks} - {None}
        responses = {
            task.id: digest
            for task in bundle.tasks
            if state.tasks[task.id].status in _READS_RESPONSES
            and (digest := _digest(self._response_path(state, task))) is not None
        }
        return walk.Seen(
            roots={root: (os.path.normpath(path), path.exists()) for root, path in roots.items()},
            artifacts={path: (self._workspace / path).exists() for path in artifacts},
            credentials=frozenset(name for name in names if name and self._world.credentials.has(name)),
            responses=responses,
            lease_key=lease_key,
            lease=self._world.leases.held(lease_key),
            has_agent=self._world.agent is not None,
        )

    def _take(self, act: walk.Act, state: ExecutionState, bundle: ExecutionBundle) -> None:
        """Do one thing outside and record what came of it; it was recorded before that it is wanted."""
        reach(f"step.{act.step}.before")
        if act.step == "deliver":
            came_of_it: Sequence[ExecutionEvent] = (self._deliver(state),)
        else:
            [task] = [task for task in bundle.tasks if task.id == act.task_id]
            came_of_it = self._acts[act.step](act, task, state)
        reach(f"step.{act.step}.after")
        self._place.change(lambda now: came_of_it if _still_wants(act, now) else ())

    def _deliver(self, state: ExecutionState) -> FilesDelivered:
        """Put briefs and packets where people look; what somebody has edited is kept."""
        wanted = {path: digest for path, digest in state.files.items() if _is_delivered(path) and is_stream(path)}
        for name in (BRIEFS, TASK_STATES, OPERATOR_REQUESTS):
            make_directories(self._place.disk, self._place.path / name)
        kept = {}
        for path, digest in wanted.items():
            found = self._put(self._file(state, path), digest, state.written.get(path, frozenset()))
            if found != digest:
                kept[path] = found
        return FilesDelivered(kept=kept)

    def _put(self, path: Path, digest: str, ours: frozenset[str]) -> str:
        """Have a file say what the blob `digest` says, unless it says something that we never wrote; give what it says.

        What somebody else wrote is kept as a blob, too.
        """
        found = _digest(path)
        if found == digest:
            return digest
        content = self._place.blobs.get(digest)
        if found is None:
            make_directories(self._place.disk, path.parent)
            if self._create(path, content):
                return digest
        elif found in ours:
            replace_file(self._place.disk, path, content)
            return digest
        return self._place.blobs.put_file(path)

    def _create(self, path: Path, content: bytes) -> bool:
        """Make a new file, whole or not at all; False when somebody else has made one."""
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            replace_file(self._place.disk, beside, content)
            path.hardlink_to(beside)
        except FileExistsError:
            return False
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()
        return True

    def _produce_outputs(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        """Write what a planning task declares, and read it back."""
        outputs = {}
        for declared in task.write_scope:
            path, _, remark = declared.partition(" (")
            name = PurePosixPath(path).name
            digest = state.files.get(name)
            if digest is None and path.startswith(walk.GENERATED) and not remark:
                reason = f"the plan declares {path}, and nothing in it makes that: orchestrate again with this release"
                return (TaskBlocked(task_id=act.task_id, stage="outputs", reason=reason),)
            if digest is not None and path.startswith(walk.GENERATED):
                replace_file(self._place.disk, self._place.path / name, self._place.blobs.get(digest))
                if _digest(self._place.path / name) != digest:
                    reason = f"{name} was changed by somebody while it was written: `execute --retry {task.id}`"
                    return (TaskBlocked(task_id=act.task_id, stage="outputs", reason=reason),)
                outputs[name] = digest
        produced = OutputsProduced(task_id=task.id, outputs=outputs, deferred=gates.commands_of(task))
        return (produced, TaskCompleted(task_id=task.id, how="produced"))

    def _emit_prompt(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        """See that the packet lies there, whatever it says by now."""
        name = f"{PROMPTS}/{task.prompt_packet}"
        path = self._file(state, name)
        digest = state.files[name]
        found = self._put(path, digest, state.written.get(name, frozenset()))
        response = self._response_path(state, task)
        return (
            PromptEmitted(
                task_id=act.task_id,
                path=str(path),
                response_path=str(response),
                sha256=found,
                edited=found != digest,
            ),
        )

    def _run_agent(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        agent = self._world.agent
        assert agent  # noqa: S101  the decision saw that there is one
        response = self._response_path(state, task)
        assert response  # noqa: S101  a packet has its response
        name = f"{PROMPTS}/{task.prompt_packet}"
        self._put(self._file(state, name), state.files[name], state.written.get(name, frozenset()))
        ran = agent.run(self._file(state, name), response, self._limits.agent_s)
        answered = response.exists()
        ended = AgentEnded(
            task_id=act.task_id,
            argv=ran.argv,
            exit_code=ran.exit_code,
            duration_s=ran.duration_s,
            output_sha256=ran.output_sha256,
            timed_out=ran.timed_out,
            answered=answered,
        )
        if answered:
            return (ended,)
        reason = f"the agent {_how(ran)} and left no response (output: {ran.output_sha256}): "
        reason += f"`execute --retry {task.id}` runs it again, or write {response.name} yourself before that"
        return (ended, TaskBlocked(task_id=task.id, stage="agent", reason=reason))

    def _read_response(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        """Keep the response as a blob, and read that: what is read is what will be applied."""
        path = self._response_path(state, task)
        assert path  # noqa: S101  it was seen
        try:
            if refused := self._with_secrets(path, task):
                return (refused,)
            digest = self._place.blobs.put_file(path)
        except FileNotFoundError:
            return ()
        reading = self._world.responses.read(self._place.blobs.path(digest), filled(task.write_scope, state.target))
        if reading.errors:
            return (ResponseRefused(task_id=act.task_id, path=str(path), sha256=digest, errors=reading.errors),)
        paths = tuple(change.path for change in reading.changes)
        accepted = ResponseAccepted(
            task_id=act.task_id, path=str(path), sha256=digest, summary=reading.summary, paths=paths
        )
        return (accepted,)

    def _with_secrets(self, path: Path, task: ExecutionTask) -> ResponseRefused | None:
        """Refuse a response that has the value of a secret in it, and keep nothing of it."""
        if path.stat().st_size > RESPONSE_MAX:
            return None  # It is refused for that.
        content = path.read_bytes()
        errors = tuple(
            f"line 1: it has the value of {name} in it, which may not be recorded: take it out, and name the variable"
            for name in self._world.secrets.known_in(content)
        )
        if not errors:
            return None
        digest = hashlib.sha256(content).hexdigest()
        return ResponseRefused(task_id=task.id, path=str(path), sha256=digest, errors=errors)

    def _prepare_worktree(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        try:
            tree = self._worktree(task, state)
        except Refused as error:
            return (TaskBlocked(task_id=act.task_id, stage="branch_gate", reason=str(error)),)
        return (
            WorktreePrepared(
                task_id=act.task_id, path=str(tree.path), branch=tree.branch, base=tree.base, kept=tree.kept
            ),
        )

    def _apply_changes(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        reading = self._world.responses.read(self._place.blobs.path(act.detail), filled(task.write_scope, state.target))
        root = self._workspace / task.repo_root
        try:
            tree = self._worktree(task, state)
            applied = self._world.worktrees.apply(tree, root, self._workspace, reading.changes)
        except Refused as error:
            return (TaskBlocked(task_id=act.task_id, stage="branch_gate", reason=str(error)),)
        if applied.errors:
            path = str(self._response_path(state, task))
            return (ResponseRefused(task_id=task.id, path=path, sha256=act.detail, errors=applied.errors),)
        return (
            ChangesApplied(
                task_id=task.id,
                response_sha256=act.detail,
                diff_summary=applied.diff_summary,
                diff_sha256=applied.diff_sha256,
            ),
        )

    def _run_validation(self, act: walk.Act, task: ExecutionTask, state: ExecutionState) -> Sequence[ExecutionEvent]:
        number = int(act.detail)
        command = gates.commands_of(task, state.tasks[task.id].validated_with)[number - 1]
        checkout = state.tasks[task.id].checkout
        assert checkout  # noqa: S101  nothing is validated without one
        cwd = _workspace_in(Path(checkout.path), PurePosixPath(task.repo_root))
        ran = self._world.validation.run(command, cwd, self._limits.validation_s)
        return (
            ValidationEnded(
                task_id=task.id,
                number=number,
                command=command,
                argv=ran.argv,
                exit_code=ran.exit_code,
                duration_s=ran.duration_s,
                output_sha256=ran.output_sha256,
                timed_out=ran.timed_out,
                passed=ran.succeeded,
            ),
        )

    def _worktree(self, task: ExecutionTask, state: ExecutionState) -> Worktree:
        root = self._workspace / task.repo_root
        return self._world.worktrees.prepare(root, walk.branch_of(state), self._place.path)

    def _file(self, state: ExecutionState, path: str) -> Path:
        """Give where a file of the plan lies: packets may have a directory of their own. Raises Refused."""
        if not is_stream(path):  # Whatever a log says, it does not choose where is written.
            raise Refused(
                f"the plan names {path[:200]!r}, which cannot be a file of an execution: orchestrate it again"
            )
        directory, _, name = path.partition("/")
        if directory == PROMPTS and state.prompts_dir is not None:
            return Path(state.prompts_dir) / name
        return self._place.path / path

    def _response_path(self, state: ExecutionState, task: ExecutionTask) -> Path | None:
        return self._file(state, f"{PROMPTS}/{task.response_packet}") if task.response_packet else None


def _workspace_in(checkout: Path, repo_root: PurePosixPath) -> Path:
    """Give what stands for the workspace in a checkout, since that is where commands of a plan are meant to be run.

    Where the repository root of the task is a repository of its own, the checkout is of that, and that is all there is.
    """
    depth = len(repo_root.parts)
    return checkout.parents[depth - 1] if depth and checkout.parts[-depth:] == repo_root.parts else checkout


def _still_wants(act: walk.Act, state: ExecutionState) -> bool:
    if act.step == "deliver":
        return not state.delivered
    task: TaskState | None = state.tasks.get(act.task_id)
    return task is not None and task.step == f"{act.step} {act.detail}".rstrip()


def _is_delivered(path: str) -> bool:
    return path == PROVIDER or path.partition("/")[0] in (BRIEFS, PROMPTS)


def _how(ran: Ran) -> str:
    return "took too long" if ran.timed_out else f"ended with exit code {ran.exit_code}"


def _digest(path: Path | None) -> str | None:
    """Give the digest of a file; None when there is none."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
