"""What does the fold of an execution know: its tasks, its questions, its proposals, and where each of them stands?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

TaskStatus = Literal[
    "planned",
    "preflight_ready",
    "preflight_failed",
    "validating",
    "validation_failed",
    "awaiting_operator",
    "prompt_emitted",
    "awaiting_response",
    "proposal_ready",
    "completed",
    "blocked",
]
RequestStatus = Literal["open", "answered", "resolved"]
STUCK: Final = frozenset({"blocked", "preflight_failed", "validation_failed"})
"""What only a retry leaves."""
WAITING: Final = frozenset({"awaiting_operator", "awaiting_response"})
"""What people leave by answering."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody chose, when, and who it was. The time is that of the event (ISO 8601, UTC)."""

    choice: str
    actor: str
    at: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be answered."""

    id: str
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class RequestState:
    """A question of the execution; `answers` are all that it ever got, pauses among them."""

    id: str
    task_id: str
    stage: str
    question: str
    options: tuple[Choice, ...]
    recommended_option: str
    created_at: str
    updated_at: str
    status: RequestStatus = "open"
    selected_option: str | None = None
    answers: tuple[Answer, ...] = ()
    credential: str | None = None
    lease_key: str | None = None
    withdrawn: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """How one validation command ended."""

    number: int
    command: str
    passed: bool
    exit_code: int
    duration_s: float
    timed_out: bool
    output_sha256: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A response that was accepted: which bytes, and what they want changed."""

    sha256: str
    path: str
    summary: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkout:
    """The worktree of a task."""

    path: str
    branch: str
    base: str


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where one task stands. What is asked of it is not here: the bundle has that, and `contract` is its digest.

    `attempt_count` is how often it was begun, `passed` the gates that are behind it, `decision` what was said at the
    branch gate, `applied_sha256` the response that is in the worktree, `refused_sha256` the one that cannot be used,
    `step` what was about to be done when the log ends, `validated_with` the commands that somebody chose instead of the
    plan's. `asks_again` after a retry: what was refused is asked for anew.
    """

    id: str
    contract: str
    depends_on: tuple[str, ...] = ()
    status: TaskStatus = "planned"
    current_stage: str | None = None
    attempt_count: int = 0
    opened_at: str | None = None
    updated_at: str | None = None
    open_question_id: str | None = None
    passed: frozenset[str] = frozenset()
    preflight: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    deferred: tuple[str, ...] = ()
    prompt_path: str | None = None
    response_path: str | None = None
    prompt_sha256: str | None = None
    prompt_edited: bool = False
    agent_ran: bool = False
    asks_again: bool = False
    proposal: Proposal | None = None
    refused_sha256: str | None = None
    response_errors: tuple[str, ...] = ()
    decision: Literal["apply", "record"] | None = None
    checkout: Checkout | None = None
    applied_sha256: str | None = None
    diff_summary: tuple[str, ...] = ()
    diff_sha256: str | None = None
    checks: tuple[Check, ...] = ()
    validated_with: tuple[str, ...] | None = None
    recorded: bool = False
    message: str | None = None
    completed_how: str | None = None
    step: str | None = None
    logs: tuple[str, ...] = ()
    seq: int = 0

    @property
    def worktree(self) -> str | None:
        """The directory in which the proposal was applied; None when there is none."""
        return self.checkout.path if self.checkout else None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A task that the plan has no longer, with the bundle that had it last."""

    task: TaskState
    bundle_sha256: str


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """Where an execution stands; `bundle_sha256` is empty before a plan was made ready.

    `credentials` says of each variable that somebody was asked for whether it was `granted` or `refused`; `devices` are
    the tasks whose device was refused. `written` has, for each file that was delivered, the digests of all that we ever
    wrote there: anything else is somebody's own. `fork` is the name of an execution that goes on from another one.
    """

    target: str = ""
    workflow: str = ""
    prompt_backend: str = ""
    agent: str | None = None
    prompts_dir: str | None = None
    bundle_sha256: str = ""
    capability: str | None = None
    overlay: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    delivered: bool = False
    tasks: Mapping[str, TaskState] = field(default_factory=dict)
    dropped: Mapping[str, Dropped] = field(default_factory=dict)
    requests: Mapping[str, RequestState] = field(default_factory=dict)
    credentials: Mapping[str, Literal["granted", "refused"]] = field(default_factory=dict)
    devices_refused: frozenset[str] = frozenset()
    resets: int = 0
    fork: str = ""
    seq: int = 0

    @property
    def is_prepared(self) -> bool:
        """Whether there is a plan to execute."""
        return bool(self.bundle_sha256)

    @property
    def has_progress(self) -> bool:
        """Whether anything was done, asked or answered since the plan was made ready, or made ready anew."""
        return any(task.attempt_count for task in self.tasks.values()) or self.open_question is not None

    @property
    def is_completed(self) -> bool:
        """Whether every task is done."""
        return self.is_prepared and all(task.status == "completed" for task in self.tasks.values())

    @property
    def open_question(self) -> RequestState | None:
        """The first question, in the order of tasks, that waits for an answer or for its effect."""
        waited_for = (task.open_question_id for task in self.tasks.values())
        return next((self.requests[id_] for id_ in waited_for if id_ is not None), None)

    @property
    def current_task(self) -> TaskState | None:
        """The task that the execution stands at: the first that people can move, else the first that is stuck.

        None when nothing was begun, and when all is done.
        """
        tasks = self.tasks.values()
        begun = [task for task in tasks if task.status not in ("planned", "completed")]
        waiting = [task for task in begun if task.status not in STUCK]
        return next(iter(waiting or begun), None)

    @property
    def outcome(self) -> Literal["completed", "blocked", "awaiting_operator", "awaiting_response"]:
        """What an `execute` that ends here has come to."""
        if self.is_completed:
            return "completed"
        match self.current_task:
            case TaskState(status="awaiting_response" | "awaiting_operator" as status):
                return status
        return "blocked"
