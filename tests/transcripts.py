"""Which lines did the tool before this one print, and does a verb still print them, in that order?

`LINES` is `targetgen-contract.md` §2 and §21, line for line: what stands in angle brackets there is a pattern here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

MAYBE, MANY = "?", "*"
"""Before a pattern: the line is printed where there is something to say; any number of such lines."""

_CLUSTER: Final = (
    "Cluster: merlin-local",
    "Status: {cluster_status}",
    "?Address: .+",
    "?Dashboard: http://.+",
    "?Message: .+",
)
_RUN: Final = r"[A-Za-z0-9_.-]+-\d{14}-[0-9a-f]{8}"
LINES: Final[Mapping[str, tuple[str, ...]]] = {
    "ray cluster start-local": _CLUSTER,
    "ray cluster status": _CLUSTER,
    "ray cluster stop": ("Cluster: merlin-local", "Status: {cluster_status}", "?Message: .+"),
    "ray jobs submit": (
        "Run ID: {run}",
        "Status: {run_status}",
        "Workflow: .+",
        "?Submission ID: {run}",
        "?Cluster address: .+",
        "?Message: .+",
    ),
    "ray jobs status": (
        "Run ID: {run}",
        "Status: {run_status}",
        "Workflow: .+",
        "Target: .+",
        "Target dir: /.+",
        "?Submission ID: {run}",
        "?Message: .+",
    ),
    "ray jobs logs": ("*.*",),
    "ray jobs cancel": ("Run ID: {run}", "Status: {run_status}", "?Message: .+"),
    "ray resources list": (r"*lease-[0-9a-f]{10} \S+ (active|released) owner=\S+", "?No resource leases\\."),
    "ray resources reserve": ("Lease ID: lease-[0-9a-f]{10}", "Resource: .+", "Status: active"),
    "ray resources release": ("Lease ID: lease-[0-9a-f]{10}", "Status: released"),
    "ray artifacts list": (r"*\S+ \S+ \d+B", "?No artifacts\\."),
    "ray artifacts fetch": ("Artifact: .+", "Path: .+", r"Size: \d+"),
    "targetgen validate": ("Validated capability spec: .+", "?Validated deployment overlay: .+"),
    "targetgen plan": ("Planned target: .+", "Primary integration: .+", r"Task count: \d+", "Output directory: /.+"),
    "targetgen generate": (
        "Generated target scaffold: .+",
        "Primary integration: .+",
        r"?Generated scaffold files: \d+",
        "?Generated root: /.+",
        "?Generation summary: /.+",
        "Output directory: /.+",
    ),
    "targetgen orchestrate": (
        "Prepared execution bundle for: .+",
        "Workflow: .+",
        "Prompt backend: (none|manualllm|provider)",
        r"Brief count: \d+",
        "Execution state file: /.+",
        r"?Prompt packet count: \d+",
        "?Prompts directory: .+",
        "Output directory: /.+",
    ),
    "targetgen execute": (
        "Executed target: .+",
        "Engine: local",
        "Outcome: (completed|blocked|awaiting_operator|awaiting_response)",
        "Current task: .+",
        "Current stage: .+",
        "?Open question: .+",
        "Target directory: /.+",
    ),
    "targetgen execute --engine ray": (
        "Submitted target: .+",
        "Engine: ray",
        "Run ID: {run}",
        "Run status: {run_status}",
        "?Submission ID: {run}",
        "?Message: .+",
        "Target directory: /.+",
        "Ray state root: /.+",
    ),
    "targetgen stage-mutation": (
        "Staged mutation bundle for: .+",
        "Mode: non-live",
        r"?Mutation candidates: \d+",
        "?Proposed branch: targetgen/.+-staged",
        "?Proposed tree: /.+",
        "?Proposal brief: /.+",
        "Target directory: /.+",
    ),
    "targetgen answer": ("Answered request: .+", "Selected option: .+", "Target directory: /.+"),
    "targetgen status": (
        "Target: .+",
        "Workflow: .+",
        "Prompt backend: .+",
        "Current task: .+",
        "Current stage: .+",
        "Open question: .+",
        "",
        "Tasks:",
        r"*- \S+: \S+ \(stage=\S+, adapter=\S+\)",
        "?",
        "?Operator requests:",
        r"*- \S+: \S+ \(task=\S+, recommended=\S+, selected=\S+\)",
    ),
    "targetgen explain": (
        r"Target: .+ \(.+\)",
        "Vendor: .+",
        "Maturity: .+",
        "Access model: .+",
        "SDK requirements: .+",
        "Credential requirements: .+",
        "Families: .+",
        "Integrations: .+",
        "Primary integration: .+",
        "Required layers: .+",
        "Deployment overlay: .+",
        "",
        "Derived artifacts:",
        "*- .+",
        "",
        "Planned task order:",
        r"*- .+ \[.+\]",
    ),
}
NEW: Final[Mapping[str, tuple[str, ...]]] = {
    "ray cluster start-local": ("Session: .+",),
    "ray cluster status": ("Session: .+", "Unreachable since: .+"),
    "ray jobs status": (
        *(r"Exit code: \d+", "Cancel requested: .+", "Stale since: .+"),
        *("Execution: .+", "Current task: .+", "Open question: .+"),
    ),
    "ray resources reserve": (r"Fence: \d+", "Until: .+"),
    "targetgen status": ("", r"[a-z_]+-[a-z_]+: .+", "  [a-z_]+: .+"),
}
"""Lines that the tool before had none of: they come after those, or between them, and none takes the name of one."""
_STATUSES: Final = {
    "cluster_status": "(unavailable|not_started|active|stopped|error|dry_run)",
    "run_status": "(blocked|dry_run|submitted|error|running|completed|failed|cancelled|requested|waiting|lost)",
    "run": _RUN,
}


def departures(verb: str, printed: str) -> list[str]:
    """Say where what a verb has printed departs from the contract: a line that is not in it, or not there."""
    wrong, ahead = [], list(LINES[verb])
    for line in printed.splitlines():
        rest = list(_after(ahead, line))
        if rest:
            ahead = rest[0]
        elif not any(re.fullmatch(pattern, line) for pattern in NEW.get(verb, ())):
            wrong.append(f"printed, and not in the contract here: {line!r}")
    return wrong + [f"in the contract, and not printed: {each!r}" for each in ahead if each[:1] not in (MAYBE, MANY)]


def _after(ahead: list[str], line: str) -> Iterable[list[str]]:
    """Yield what may come after a line, for each pattern that it fits and that may be reached."""
    for at, each in enumerate(ahead):
        kind, pattern = (each[:1], each[1:]) if each[:1] in (MAYBE, MANY) else ("", each)
        if re.fullmatch(_filled(pattern), line):
            yield ahead[at:] if kind == MANY else ahead[at + 1 :]
        if not kind:
            return


def _filled(pattern: str) -> str:
    for name, text in _STATUSES.items():
        pattern = pattern.replace(f"{{{name}}}", text)
    return pattern


OPTIONS: Final[Mapping[str, str]] = {
    "targetgen validate": "CAPABILITY --overlay",
    "targetgen plan": "CAPABILITY --overlay --out-dir",
    "targetgen generate": "CAPABILITY --overlay --out-dir",
    "targetgen explain": "CAPABILITY --overlay",
    "targetgen orchestrate": "CAPABILITY --overlay --out-dir --prompt-backend --agent --prompts-dir",
    "targetgen execute": "CAPABILITY --overlay --from-dir --out-dir --prompt-backend --agent --prompts-dir --resume "
    "--engine --ray-state-root",
    "targetgen stage-mutation": "CAPABILITY --overlay --from-dir --out-dir",
    "targetgen answer": "--target-dir --question-id --choice",
    "targetgen status": "--target-dir",
    "ray cluster start-local": "--host --port --dashboard-port --namespace",
    "ray cluster status": "",
    "ray cluster stop": "",
    "ray jobs submit": "--target --workflow --target-dir --command --source",
    "ray jobs status": "RUN",
    "ray jobs logs": "RUN",
    "ray jobs cancel": "RUN",
    "ray resources list": "",
    "ray resources reserve": "KEY --owner --metadata",
    "ray resources release": "LEASE",
    "ray artifacts list": "RUN",
    "ray artifacts fetch": "RUN NAME",
}
"""What each verb took; --dry-run stood before the verb, after `ray` with --state-root."""
