"""What does each verb print for programs? One type for each, from which `merlin schema` draws its JSON Schema.

What has a type of its own, as an artifact or a lease has, is named by that; the rest is written down here, and the
verbs say with these types what they print. A field may be added; where one is renamed, dropped or means something else,
the version grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict

from eventlog import Event
from merlin_es.doctor.finding import Finding
from merlin_es.old_root import Item
from merlin_es.plane import Plane
from merlin_es.resource_history import Happened, Use
from merlin_es.settings import Source
from merlin_es.targetgen.support_plan import SupportPlan
from merlin_es.targetgen.tasks import TaskNode
from projections.artifacts import Artifact
from projections.cluster import ClusterRecord
from projections.index import RunRow
from projections.lease_state import Claim, Key, Lease
from projections.projection import ELSEWHERE, RARE
from projections.run_record import Request, RunRecord

Json: TypeAlias = Any
"""Whatever JSON can say."""


@dataclass(frozen=True, slots=True)
class Together:
    """All fields of several types in one object; those that are `left_out` are not in it, those `at_times` not always.

    Where two have a field, that of the later one counts.
    """

    name: str
    parts: tuple[type, ...]
    left_out: frozenset[str] = frozenset()
    at_times: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ListOf:
    """Any number of what is the same; with `-o jsonl` each stands on a line of its own."""

    of: Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """One or the other, by what was asked for."""

    shapes: tuple[Any, ...]


class SettingRow(TypedDict):
    """A setting, its value as it is written, and where that comes from."""

    name: str
    value: str
    source: Source
    where: str
    variable: str
    in_file: bool
    what: str


class AllSettings(TypedDict):
    """All settings; `unknown` is what stands in `[tool.merlin]` and means nothing."""

    settings: list[SettingRow]
    unknown: list[str]


class SchemaRow(TypedDict):
    """A verb that prints for programs, with the id of the schema of that."""

    verb: str
    version: int
    id: str


class ClusterSeen(TypedDict):
    """What was seen of the cluster just now, beside what is recorded of it."""

    status: str
    recorded_status: str
    message: str | None


class Submission(TypedDict):
    """Where a run is, as the tool before this has called it."""

    engine: str
    cluster_address: str | None
    submission_id: str | None


class AsOf(TypedDict):
    """The event that a document was folded from last, and the version of the fold."""

    seq: int
    h: str
    fold: int


class ExecutionStanding(TypedDict):
    """Where the execution of a plan stands."""

    outcome: str | None
    current_task: str | None
    current_stage: str | None
    open_question_id: str | None
    open_questions: list[str] | None
    message: str | None


class RunStanding(TypedDict):
    """What is known of a run beside its record: since when its cluster is silent, and where its plan stands."""

    as_of: NotRequired[AsOf]
    stale_since: NotRequired[str]
    execution: NotRequired[ExecutionStanding]


class FetchedFile(TypedDict):
    """Where an artifact lies now; `message` says that it came from the blob store."""

    name: str
    path: str
    size_bytes: int
    message: str | None


class Waiting(TypedDict):
    """A claim, and its place in line."""

    position: int


class LeaseWithLine(TypedDict):
    """Who waits for the key of a lease, the next one first."""

    waiting: list[Any]


class LeftClaim(TypedDict):
    """A claim that is not in line any more."""

    claim_id: str
    status: Literal["left"]


class Holding(TypedDict):
    """Who had a key, and who waited for it."""

    lease: Lease | None
    waiting: list[Claim]


class PassDone(TypedDict):
    """What a pass over the runs has found; `sick` are logs that cannot be read, with the reason."""

    looked_at: int
    changed: list[str]
    unreachable: str | None
    sick: dict[str, str]


class PatchStep(TypedDict):
    """One step of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace"]
    path: str
    value: NotRequired[Json]


class FileVerdict(TypedDict):
    """How a projected file compares with its log; `patch` leads from the file to what the log says."""

    path: str
    state: str
    why: str
    patch: list[PatchStep] | None


class StreamProof(TypedDict):
    """Whether a log is what was written; heads are `SEQ:H`."""

    stream: str
    state: str
    head: str | None
    size_bytes: int
    noted: str | None
    checkpoints: int | None
    why: str


class StreamHead(TypedDict):
    """Where a log ends."""

    stream: str
    seq: int
    h: str


class SealedRun(TypedDict):
    """A run of which nothing more is recorded."""

    run_id: str
    sealed_at: str | None
    head: str


class ExportedRun(TypedDict):
    """A run that was written to a file; blobs that are missing in the store are missing in it."""

    run_id: str
    path: str
    size_bytes: int
    head: str
    events: int
    blobs: int
    missing_blobs: list[str]


class TakenRun(TypedDict):
    """A run that was taken in; `was_here` when it had been before, and nothing changed."""

    run_id: str
    status: str
    head: str
    blobs: int
    was_here: bool
    missing_blobs: list[str]


class StoredLog(TypedDict):
    """Where the log of a run lies, and how many bytes it takes there."""

    run_id: str
    head: str
    path: str
    size_bytes: int
    stored_bytes: int


class FieldChange(TypedDict):
    """A value that changed in a projected file; a side that is not there was not there."""

    file: str
    pointer: str
    before: NotRequired[Json]
    after: NotRequired[Json]


class Because(TypedDict):
    """The event that led to another, as STREAM#SEQ; `recorded` when the log says so, else by the rules."""

    of: str
    recorded: bool


class ReplayStep(TypedDict):
    """An event, and what it changed."""

    event: Event
    because: Because | None
    changes: list[FieldChange]


class ValueSet(TypedDict):
    """A value that was set, by which event; `absent` when it was taken away."""

    value: NotRequired[Json]
    absent: NotRequired[bool]
    event: Event


class Cause(TypedDict):
    """An event that led to another; `recorded` when the log says so, else by the rules."""

    recorded: bool
    event: Event


class ExplainedValue(TypedDict):
    """Every value that a place had, the last one at the end, and what led to that."""

    file: str
    pointer: str
    settings: list[ValueSet]
    causes: list[Cause]


class DiffEnd(TypedDict):
    """One side of a comparison."""

    stream: str
    seq: int
    h: str


class ToldEvent(TypedDict):
    """An event, in short."""

    seq: int
    type: str
    time: str


class EventPair(TypedDict):
    """Two events beside each other, of which one may be absent."""

    kind: str
    one: ToldEvent | None
    two: ToldEvent | None


class ComparedMoments(TypedDict):
    """Two moments of one run: the events between them, and what they changed."""

    one: DiffEnd
    two: DiffEnd
    events: list[ToldEvent]
    first_divergence: None
    changes: list[FieldChange]


class ComparedRuns(TypedDict):
    """Two runs: their events beside each other, where they first part, and what is different in the end."""

    one: DiffEnd
    two: DiffEnd
    events: list[EventPair]
    first_divergence: EventPair | None
    changes: list[FieldChange]


class ValidSpec(TypedDict):
    """A spec that can be planned; `notes` should be looked at."""

    target: str
    overlay: str | None
    notes: list[str]
    missing_paths: list[str]


class PlannedTarget(TypedDict):
    """A plan, and the files that say it."""

    target: str
    primary_integration: str
    task_count: int
    output_directory: str
    files: list[str]
    notes: list[str]


class Scaffold(TypedDict):
    """The files that a target begins with."""

    target: str
    primary_integration: str
    scaffold_files: int
    files: list[str]
    notes: list[str]


class GeneratedScaffold(Scaffold):
    """The files that a target begins with, and where they lie."""

    output_directory: str


class StagedMutation(Scaffold):
    """What would be proposed as a change, and where it lies."""

    mutation_candidates: int
    branch_name: str
    target_directory: str


class PlanTasks(TypedDict):
    """The tasks of a plan, and what should be looked at."""

    tasks: list[TaskNode]
    notes: list[str]


class PreparedExecution(TypedDict):
    """An execution that can begin."""

    target: str
    workflow: str
    prompt_backend: str
    brief_count: int
    execution_state_file: str
    prompt_packet_count: int
    prompts_directory: str | None
    output_directory: str


class NextStep(TypedDict):
    """What would be done next."""

    step: str
    task: str


class ExecutionSummary(TypedDict):
    """Where an execution stands: the status of each task, and what those that say something say."""

    target: str | None
    workflow: str | None
    prompt_backend: str | None
    engine: Literal["local"]
    outcome: str
    current_task: str | None
    current_stage: str | None
    open_question: str | None
    open_questions: list[str]
    tasks: dict[str, str]
    messages: dict[str, str]
    target_directory: str
    next_step: NotRequired[NextStep | None]


class QuestionOption(TypedDict):
    """One of the answers that a question takes."""

    id: str
    label: str
    description: str


class GivenAnswer(TypedDict):
    """An answer that was given, by whom and when."""

    choice: str
    actor: str
    at: str


class Question(TypedDict):
    """A question of an execution, as its file has it."""

    schema_version: int
    id: str
    target: str
    task_id: str
    stage: str
    question: str
    options: list[QuestionOption]
    recommended_option: str | None
    status: str
    selected_option: str | None
    created_at: str
    updated_at: str
    answers: list[GivenAnswer]
    credential: str | None
    lease_key: str | None
    withdrawn: Json


class AnsweredQuestion(Question):
    """A question that was answered just now."""

    target_directory: str


class ExecutionStatus(ExecutionSummary):
    """Where an execution stands, and all its questions."""

    requests: list[Question]


class SubmittedExecution(TypedDict):
    """An execution that Ray carries out: the record of its run, and where that lies."""

    engine: Literal["ray"]
    ray_state_root: str


CLUSTER: Final = Together("Cluster", (ClusterRecord, ClusterSeen))
RUN: Final = Together("Run", (Request, RunRecord, Submission), ELSEWHERE, RARE)
LEASE: Final = Together("LeaseInLine", (Lease, LeaseWithLine))
CLAIM: Final = Together("ClaimInLine", (Claim, Waiting))

SHAPES: Final[dict[str, tuple[int, Any]]] = {
    "settings": (1, AllSettings),
    "schema": (1, ListOf(SchemaRow)),
    "ray cluster start-local": (1, CLUSTER),
    "ray cluster attach": (1, CLUSTER),
    "ray cluster status": (1, CLUSTER),
    "ray cluster stop": (1, CLUSTER),
    "ray jobs submit": (1, RUN),
    "ray jobs status": (1, Together("RunNow", (*RUN.parts, RunStanding), RUN.left_out, RUN.at_times)),
    "ray jobs list": (1, ListOf(RunRow)),
    "ray jobs cancel": (1, RUN),
    "ray jobs retry": (1, RUN),
    "ray jobs wait": (1, RUN),
    "ray artifacts list": (1, ListOf(Artifact)),
    "ray artifacts index": (1, ListOf(Artifact)),
    "ray artifacts fetch": (1, FetchedFile),
    "ray resources list": (1, ListOf(LEASE)),
    "ray resources reserve": (1, OneOf((LEASE, ListOf(LEASE)))),
    "ray resources release": (1, LEASE),
    "ray resources renew": (1, LEASE),
    "ray resources transfer": (1, LEASE),
    "ray resources check": (1, LEASE),
    "ray resources queue": (1, ListOf(CLAIM)),
    "ray resources leave": (1, LeftClaim),
    "ray resources declare": (1, Key),
    "ray resources drain": (1, Key),
    "ray resources enable": (1, Key),
    "ray resources retire": (1, Key),
    "ray resources history": (1, ListOf(Happened)),
    "ray resources who": (1, Holding),
    "ray resources report": (1, ListOf(Use)),
    "ray reconcile": (1, PassDone),
    "ray rebuild": (1, ListOf(FileVerdict)),
    "ray verify": (1, ListOf(StreamProof)),
    "ray head": (1, StreamHead),
    "ray seal": (1, SealedRun),
    "ray export": (1, ExportedRun),
    "ray import": (1, OneOf((TakenRun, ListOf(Item)))),
    "ray archive": (1, StoredLog),
    "ray unarchive": (1, StoredLog),
    "ray events": (1, ListOf(Event)),
    "ray replay": (1, ListOf(ReplayStep)),
    "ray why": (1, ExplainedValue),
    "ray diff": (1, OneOf((ComparedMoments, ComparedRuns, ListOf(PatchStep)))),
    "ray state": (1, OneOf((Plane, dict[str, Json]))),
    "ray wait": (1, Event),
    "ray fork": (1, RUN),
    "ray doctor": (1, ListOf(Finding)),
    "targetgen validate": (1, ValidSpec),
    "targetgen plan": (1, PlannedTarget),
    "targetgen generate": (1, GeneratedScaffold),
    "targetgen stage-mutation": (1, StagedMutation),
    "targetgen explain": (1, Together("ExplainedPlan", (SupportPlan, PlanTasks))),
    "targetgen orchestrate": (1, PreparedExecution),
    "targetgen execute": (
        1,
        OneOf((ExecutionSummary, Together("RunOfPlan", (*RUN.parts, SubmittedExecution), RUN.left_out, RUN.at_times))),
    ),
    "targetgen answer": (1, AnsweredQuestion),
    "targetgen status": (1, ExecutionStatus),
    "targetgen rebuild": (1, ListOf(FileVerdict)),
}
"""The version and the shape of what each verb prints with `-o json`, by the words that name it."""
