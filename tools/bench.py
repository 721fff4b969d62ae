"""How fast are we, as ratios to the plainest thing that does the same, measured in one run?

    python3 tools/bench.py {leases,log,runs} [--json] [--quick] [--dir DIR]

Each family of benchmarks is a module in `tools/benches` that yields rows. The exit code is 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches import leases, log, runs
from benches.machine import machine
from benches.race import Row
from benches.table import as_json, as_text

FAMILIES: dict[str, Callable[[Path, bool], Iterator[Row]]] = {"leases": leases.rows, "log": log.rows, "runs": runs.rows}
"""What can be measured; each gives its rows, with its files in the directory, and in short when asked to be quick."""


def main() -> int:
    """Measure one family and print it."""
    options = _options()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as name:
        here = machine(Path(name))
        if here.only_in_memory:
            print(
                f"{name} is on {here.file_system}, where a sync costs nothing: give a real disk as --dir",
                file=sys.stderr,
            )
        rows = []
        for row in FAMILIES[options.family](Path(name), options.quick):
            print(f"{time.monotonic() - begin:5.0f} s  {row.what}", file=sys.stderr)
            rows.append(row)
    missed = [row.what for row in rows if row.missed]
    if options.json:
        report = {"family": options.family, "quick": options.quick, "machine": asdict(here), "missed": missed}
        print(json.dumps({**report, "rows": [as_json(row) for row in rows]}, ensure_ascii=False, indent=2))
    else:
        print(as_text(rows))
        print(f"\n{here}; {time.monotonic() - begin:.0f} s{', quick' if options.quick else ''}")
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure how fast one part is, beside the plainest thing that does the same."
    )
    parser.add_argument("family", choices=sorted(FAMILIES), help="what to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where to make the directory of files that is removed at the end (a real disk)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
