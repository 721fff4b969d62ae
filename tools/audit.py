"""Do the logs of a state root, by themselves, hold all that was promised of them?

    python3 tools/audit.py DIRECTORY… [--told FILE…] [--executed FILE…] [--ended] [--json]

Every `events.jsonl` below the directories is read. It takes Python 3.11 and nothing else: none of Merlin's code is
used, so that a mistake there is not made a second time here. The exit code is 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audits import chain, executions, leases, runs, told
from audits.chain import Log, Violation


@dataclass(frozen=True)
class Evidence:
    """Where everything lies that is looked at; `ended` says that nothing is to go on any more."""

    tops: Sequence[Path]
    told: Sequence[Path] = ()
    executed: Sequence[Path] = ()
    ended: bool = False


@dataclass(frozen=True)
class Report:
    """What was looked at, and what does not hold."""

    figures: dict[str, int]
    violations: tuple[Violation, ...]


def examine(evidence: Evidence) -> Report:
    """Look at everything."""
    logs = [chain.read(path) for path in chain.find(evidence.tops)]
    violations = [*(wrong for log in logs for wrong in log.wrong), *_of_streams(logs, evidence)]
    return Report(_figures(logs, evidence), tuple(violations))


def _of_streams(logs: Sequence[Log], evidence: Evidence) -> Iterator[Violation]:
    by_stream = {log.stream: log for log in logs if log.events}
    of_runs = {stream: log for stream, log in by_stream.items() if stream.startswith("run/")}
    walk = leases.Walk()
    yield from chain.across(by_stream.values())
    for stream, log in by_stream.items():
        if stream in of_runs:
            yield from runs.of_run(log)
        elif stream.startswith("execution/"):
            yield from executions.of_execution(log)
        elif stream.startswith("cluster/"):
            yield from runs.of_cluster(log)
        elif stream == "resources":
            yield from leases.of_resources(log, walk)
    yield from runs.across(of_runs.values())
    yield from runs.noted(by_stream.get("ledger"), of_runs)
    for log in of_runs.values():
        yield from runs.outputs([log], log.path.parents[2] / "blobs")
    yield from leases.bound(of_runs.values(), walk)
    yield from told.unrecorded(told.entries(evidence.told), by_stream)
    yield from told.twice(told.entries(evidence.executed))
    if evidence.ended:
        yield from runs.unended(of_runs.values())
        yield from leases.unended(walk)


def _figures(logs: Sequence[Log], evidence: Evidence) -> dict[str, int]:
    kinds = Counter(event.type for log in logs for event in log.events)
    return {
        "logs": len(logs),
        "torn": sum(log.torn for log in logs),
        "events": kinds.total(),
        "runs": sum(log.stream.startswith("run/") for log in logs),
        "leases": kinds["lease.granted"],
        "answers": kinds["question.answered"],
        "told": sum(1 for _ in told.entries(evidence.told)),
        "executed": sum(1 for _ in told.entries(evidence.executed)),
    }


def main() -> int:
    """Look, and print what was found."""
    options = _options()
    journals = {name: [Path(each) for each in getattr(options, name)] for name in ("told", "executed")}
    report = examine(Evidence(options.tops, **journals, ended=options.ended))
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        for violation in report.violations:
            print(violation)
        print(", ".join(f"{number} {name}" for name, number in report.figures.items()))
        print(f"{len(report.violations)} violations")
    return 1 if report.violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check what was promised of the logs of a state root, by them alone.")
    parser.add_argument("tops", nargs="+", type=Path, metavar="DIRECTORY", help="where logs lie, at any depth")
    parser.add_argument("--told", nargs="*", default=(), metavar="FILE", help="journals of what was acknowledged")
    parser.add_argument("--executed", nargs="*", default=(), metavar="FILE", help="journals of what was executed")
    parser.add_argument("--ended", action="store_true", help="all runs are to have ended, and all leases")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
