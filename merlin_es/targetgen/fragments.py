"""What does one file of the prompt library say, to which tasks, and in which section?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from merlin_es.errors import PromptInvalid, SpecInvalid
from merlin_es.targetgen.yaml_text import parse

HEADINGS: Final = {
    "system": "System",
    "goal": "Goal",
    "target_facts": "Target Facts",
    "implementation_focus": "Implementation Focus",
    "evidence": "Evidence",
    "write_scope": "Write Scope",
    "acceptance": "Acceptance",
    "response_contract": "Response Contract",
}
"""The sections of a prompt in their order."""

MERGES: Final = ("append", "prepend", "replace")
SELECTORS: Final = (
    "families",
    "phases",
    "task_ids",
    "targets",
    "deployment_profiles",
    "prompt_backends",
    "tool_profiles",
    "integration_styles",
)
_FENCE = "---"


@dataclass(frozen=True)
class Fragment:
    """A template with the section that it belongs to and the tasks that it is for; no selector, every task."""

    source: str
    scope: str
    section: str
    merge: str
    selectors: Mapping[str, tuple[str, ...]]
    body: str

    def is_for(self, facts: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether every selector names one of what is the case."""
        return all(set(wanted) & set(facts[name]) for name, wanted in self.selectors.items())


def fragment(text: str, source: str, scope: str) -> Fragment:
    """Return the fragment that a file holds; raises PromptInvalid, which begins with `source`."""
    matter, body = _split(text, source)
    try:
        found = parse(matter, source)
    except SpecInvalid as error:
        raise PromptInvalid(f"{error}") from None
    if not isinstance(found, dict):
        raise PromptInvalid(f"{source}: prompt frontmatter is not a mapping: write `section: …` between the lines")
    unknown = [str(key) for key in found if key not in ("section", "merge", *SELECTORS)]
    if unknown:
        raise PromptInvalid(f"{source}: unknown prompt frontmatter keys: {', '.join(unknown)}")
    merge = found.get("merge", "append")
    section = found.get("section")
    if not isinstance(section, str) or section not in HEADINGS:
        raise PromptInvalid(f"{source}: section {section!r} is none of {', '.join(HEADINGS)}")
    if merge not in MERGES:
        raise PromptInvalid(f"{source}: merge {merge!r} is none of {', '.join(MERGES)}")
    selectors = {name: wanted for name in SELECTORS if (wanted := _selector(found.get(name), name, source))}
    return Fragment(source, scope, section, merge, selectors, body)


def _split(text: str, source: str) -> tuple[str, str]:
    first, *lines = text.lstrip("\ufeff").splitlines() or [""]
    if first.rstrip() != _FENCE or not any(line.rstrip() == _FENCE for line in lines):
        raise PromptInvalid(f"{source}: no prompt frontmatter: begin the file with `---`, `section: …`, `---`")
    end = next(index for index, line in enumerate(lines) if line.rstrip() == _FENCE)
    return "\n".join(lines[:end]), "\n".join(lines[end + 1 :])


def _selector(value: object, name: str, source: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise PromptInvalid(f"{source}: {name} is neither a text nor a list of texts")
