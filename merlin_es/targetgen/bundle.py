"""What does an execution need to know of a plan? Everything is in the bundle; it is never asked for elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from merlin_es.errors import BundleInvalid

WORKFLOW: Final = "evidence_first_target_enablement"
MODE: Final = "agentic_contextual_edit"


@dataclass(frozen=True)
class Evidence:
    """Something to read before the task is begun, and why."""

    kind: str
    value: str
    reason: str


@dataclass(frozen=True)
class PromptFragment:
    """One file that said something to this prompt, also when another one replaced it later."""

    source: str
    scope: str
    section: str
    merge_mode: str


@dataclass(frozen=True)
class PromptSection:
    """One section of a prompt as it is read, and the files that it was made from."""

    name: str
    heading: str
    content: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class PromptBundle:
    """The prompt of one task, in sections and as one text."""

    backend: str
    tool_profile: str
    agent: str | None
    sections: tuple[PromptSection, ...]
    fragments: tuple[PromptFragment, ...]
    flattened_prompt: str


@dataclass(frozen=True)
class ExecutionTask:
    """One task as it is executed; `execution_state` belongs to the executor, and begins as `planned`.

    `prompt_packet` and `response_packet` are file names below the prompts directory; no backend, no packets.
    """

    id: str
    title: str
    phase: str
    family: str
    depends_on: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    write_scope: tuple[str, ...]
    acceptance_checks: tuple[str, ...]
    repo_root: str
    execution_adapter: str
    mutation_policy: str
    artifacts_in: tuple[str, ...]
    artifacts_out: tuple[str, ...]
    validation_commands: tuple[str, ...]
    credential_requirements: str
    handoff_contract: tuple[str, ...]
    tool_profile: str
    prompt: str
    prompt_bundle: PromptBundle
    execution_state: Mapping[str, Any]
    prompt_packet: str | None
    response_packet: str | None


@dataclass(frozen=True)
class ExecutionBundle:
    """A plan made ready to be executed: its tasks in order, each with its prompt."""

    target: str
    workflow: str
    mode: str
    prompt_backend: str
    agent: str | None
    prompts_dir: str | None
    provider_config: Mapping[str, Any]
    tasks: tuple[ExecutionTask, ...]


def bundle_json(bundle: ExecutionBundle) -> dict[str, Any]:
    """Return what `execution_bundle.json` holds; `documents.dumps` makes its text."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(bundle))
    return document


def bundle_from_json(document: object) -> ExecutionBundle:
    """Return the bundle that was written as `document`; fields of a later release are passed over."""
    try:
        return msgspec.convert(document, ExecutionBundle)
    except msgspec.ValidationError as error:
        raise BundleInvalid(f"this is no execution bundle: {error}; run `merlin targetgen orchestrate` again") from None
