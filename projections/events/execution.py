"""What can happen while a plan is executed?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from projections.events.base import Codec, DomainEvent, Repaired

Step = Literal[
    "produce_outputs",
    "emit_prompt",
    "run_agent",
    "read_response",
    "prepare_worktree",
    "apply_changes",
    "run_validation",
]
Effect = Literal["passed", "refused", "blocked", "apply", "record", "switch"]


class PlannedTask(BaseModel):
    """A task as the plan has it; `contract` is the digest of all that is asked of it, the prompt apart."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    depends_on: tuple[str, ...]
    contract: str


class ExecutionPrepared(DomainEvent):
    """A plan was made ready. `bundle_sha256` is the whole of it, without any state.

    `files` are the briefs (`briefs/…`), packets (`prompts/…`) and documents of the plan, by their paths, each a blob.
    `prompts_dir` is None for the directory of that name beside the log.
    """

    type: Literal["execution.prepared"] = "execution.prepared"
    target: str
    workflow: str
    prompt_backend: str
    agent: str | None
    prompts_dir: str | None
    bundle_sha256: str
    tasks: tuple[PlannedTask, ...]
    files: dict[str, str]
    capability: str | None = None
    overlay: str | None = None


class ExecutionForked(DomainEvent):
    """This execution goes on from a past point of another one, which stays as it is; its events up to there follow.

    `parent` is the stream of that one, and `parent_head` (`seq:h`) its head at that point. `name` tells the branches of
    the two apart.
    """

    type: Literal["execution.forked"] = "execution.forked"
    parent: str
    parent_head: str
    name: str


class ExecutionReset(DomainEvent):
    """Somebody wants all tasks to be done anew. What was refused stays refused."""

    type: Literal["execution.reset"] = "execution.reset"


class FilesDelivered(DomainEvent):
    """Briefs and packets lie where people look for them; `kept` has the digests of those that somebody had edited."""

    type: Literal["execution.files_delivered"] = "execution.files_delivered"
    kept: dict[str, str] = Field(default_factory=dict)


class BackendSwitched(DomainEvent):
    """Prompts are answered in another way from here on."""

    type: Literal["execution.backend_switched"] = "execution.backend_switched"
    prompt_backend: str


class StepStarted(DomainEvent):
    """Something outside is about to be done for a task; a crash from here on means that it is done again."""

    type: Literal["task.step_started"] = "task.step_started"
    task_id: str
    step: Step
    detail: str = ""


class TaskPreflighted(DomainEvent):
    """What the task needs to begin was looked for; `results` has one line for each thing."""

    type: Literal["task.preflighted"] = "task.preflighted"
    task_id: str
    passed: bool
    results: tuple[str, ...]


class OutputsProduced(DomainEvent):
    """What a planning task declares was written and read back; `outputs` are paths in the target directory."""

    type: Literal["task.outputs_produced"] = "task.outputs_produced"
    task_id: str
    outputs: dict[str, str]
    deferred: tuple[str, ...] = ()


class TaskBlocked(DomainEvent):
    """The task cannot go on before somebody has done what `reason` says, and wants it retried."""

    type: Literal["task.blocked"] = "task.blocked"
    task_id: str
    stage: str
    reason: str


class TaskRetried(DomainEvent):
    """Somebody wants the task to be tried again from where it stopped; with `reconsider` from its branch gate."""

    type: Literal["task.retried"] = "task.retried"
    task_id: str
    reconsider: bool = False


class TaskCompleted(DomainEvent):
    """The task is done; `how` says why: outputs are there, validations passed, there are none, a proposal is kept."""

    type: Literal["task.completed"] = "task.completed"
    task_id: str
    how: Literal["produced", "validated", "applied", "proposal_recorded"]


class Option(BaseModel):
    """One thing that can be answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    label: str
    description: str


class QuestionAsked(DomainEvent):
    """A task needs somebody's word. `lease_key` is the resource whose lease would answer it, too."""

    type: Literal["question.asked"] = "question.asked"
    request_id: str
    task_id: str
    stage: str
    question: str
    options: tuple[Option, ...]
    recommended_option: str
    credential: str | None = None
    lease_key: str | None = None


class QuestionShared(DomainEvent):
    """Another task waits for the answer to the same question."""

    type: Literal["question.shared"] = "question.shared"
    request_id: str
    task_id: str


class QuestionAnswered(DomainEvent):
    """Somebody chose; the envelope says who. It is applied by whoever executes next."""

    type: Literal["question.answered"] = "question.answered"
    request_id: str
    choice: str


class QuestionPaused(DomainEvent):
    """The choice was to wait: the question is open again."""

    type: Literal["question.paused"] = "question.paused"
    request_id: str
    choice: str


class QuestionResolved(DomainEvent):
    """The choice was applied, with `effect`."""

    type: Literal["question.resolved"] = "question.resolved"
    request_id: str
    choice: str
    effect: Effect


class DeviceLeased(DomainEvent):
    """A lease that this run holds says that the device is there; nobody has to be asked."""

    type: Literal["task.device_leased"] = "task.device_leased"
    task_id: str
    lease_key: str | None
    lease_id: str
    fence: str


class CredentialFound(DomainEvent):
    """The variable `name` is set here; its value is not looked at."""

    type: Literal["task.credential_found"] = "task.credential_found"
    task_id: str
    name: str


class PromptEmitted(DomainEvent):
    """The packet lies at `path` and waits for a response; `edited` when somebody had changed it, and that was kept."""

    type: Literal["prompt.emitted"] = "prompt.emitted"
    task_id: str
    path: str
    response_path: str
    sha256: str
    edited: bool = False


class AgentEnded(DomainEvent):
    """A command was to answer the packet. `answered` tells whether a response was there afterwards."""

    type: Literal["agent.ended"] = "agent.ended"
    task_id: str
    argv: tuple[str, ...]
    exit_code: int
    duration_s: float
    output_sha256: str
    timed_out: bool
    answered: bool


class ResponseAccepted(DomainEvent):
    """A response was read, and can be applied; `paths` are what it wants changed."""

    type: Literal["response.accepted"] = "response.accepted"
    task_id: str
    path: str
    sha256: str
    summary: str
    paths: tuple[str, ...]


class ResponseRefused(DomainEvent):
    """A response was read, or applied, and cannot be used: `errors` has one sentence for each thing to mend."""

    type: Literal["response.refused"] = "response.refused"
    task_id: str
    path: str
    sha256: str
    errors: tuple[str, ...]


class ProposalRecorded(DomainEvent):
    """What the response proposes is kept, and nothing was changed."""

    type: Literal["mutation.recorded"] = "mutation.recorded"
    task_id: str
    response_sha256: str
    deferred: tuple[str, ...] = ()


class WorktreePrepared(DomainEvent):
    """There is a checkout of our own for the task; `kept` when an earlier attempt had left it."""

    type: Literal["mutation.worktree_prepared"] = "mutation.worktree_prepared"
    task_id: str
    path: str
    branch: str
    base: str
    kept: bool


class ChangesApplied(DomainEvent):
    """What the response proposes is in the worktree; `diff_sha256` is the whole difference to the base."""

    type: Literal["mutation.applied"] = "mutation.applied"
    task_id: str
    response_sha256: str
    diff_summary: tuple[str, ...]
    diff_sha256: str | None


class ValidationChosen(DomainEvent):
    """Somebody wants the task to be validated by these commands, in place of the plan's."""

    type: Literal["validation.chosen"] = "validation.chosen"
    task_id: str
    commands: tuple[str, ...]


class ValidationEnded(DomainEvent):
    """A validation command of the task ended."""

    type: Literal["validation.ended"] = "validation.ended"
    task_id: str
    number: int
    command: str
    argv: tuple[str, ...]
    exit_code: int
    duration_s: float
    output_sha256: str
    timed_out: bool
    passed: bool


class ExecutionLogRepaired(Repaired):
    """See Repaired."""

    type: Literal["log.repaired"] = "log.repaired"


ExecutionEvent = Annotated[
    ExecutionPrepared
    | ExecutionForked
    | ExecutionReset
    | FilesDelivered
    | BackendSwitched
    | StepStarted
    | TaskPreflighted
    | OutputsProduced
    | TaskBlocked
    | TaskRetried
    | TaskCompleted
    | QuestionAsked
    | QuestionShared
    | QuestionAnswered
    | QuestionPaused
    | QuestionResolved
    | DeviceLeased
    | CredentialFound
    | PromptEmitted
    | AgentEnded
    | ResponseAccepted
    | ResponseRefused
    | ProposalRecorded
    | WorktreePrepared
    | ChangesApplied
    | ValidationChosen
    | ValidationEnded
    | ExecutionLogRepaired,
    Field(discriminator="type"),
]

EXECUTION_EVENTS: Codec[ExecutionEvent] = Codec(ExecutionEvent)
