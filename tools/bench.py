"""How fast are we, as ratios to the plainest thing that does the same, measured in one run?

    python3 tools/bench.py [custody|imports|leases|log|runs|targetgen|travel …] [--json] [--quick] [--write] [--dir DIR]

Each family of benchmarks is a module in `tools/benches` that yields rows; without a name all are measured. The exit
code is 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches import custody, imports, leases, log, runs, targetgen, travel
from benches.budgets import BUDGETS, of_budgets
from benches.machine import machine
from benches.race import Row
from benches.table import as_json, as_markdown, as_text

FAMILIES: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "custody": custody.rows,
    "imports": imports.rows,
    "leases": leases.rows,
    "log": log.rows,
    "runs": runs.rows,
    "targetgen": targetgen.rows,
    "travel": travel.rows,
}
"""What can be measured; each gives its rows, with its files in the directory, and in short when asked to be quick."""
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- budgets: written by tools/bench.py --write -->", "<!-- end of budgets -->"


def main() -> int:
    """Measure some families, or all, and print what came of it."""
    options = _options()
    begin = time.monotonic()
    if options.dir is not None:
        Path(options.dir).mkdir(parents=True, exist_ok=True)
    promised = {budget.family for budget in BUDGETS}
    families = options.families or sorted(promised if options.write else FAMILIES)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as name:
        here = machine(Path(name))
        if here.only_in_memory:
            print(
                f"{name} is on {here.file_system}, where a sync costs nothing: give a real disk as --dir",
                file=sys.stderr,
            )
        rows = list(_measured(families, Path(name), begin, quick=options.quick))
    missed = [row.what for row in rows if row.missed]
    note = f"{here}; {time.monotonic() - begin:.0f} s{', quick' if options.quick else ''}"
    if options.json:
        report = {"families": families, "quick": options.quick, "machine": asdict(here), "missed": missed}
        print(json.dumps({**report, "rows": [as_json(row) for row in rows]}, ensure_ascii=False, indent=2))
    else:
        print(as_text(rows))
        print(f"\n{note}")
    if options.write:
        _write(rows, note)
    return 1 if missed else 0


def _measured(families: Sequence[str], top: Path, begin: float, *, quick: bool) -> Iterator[Row]:
    for family in families:
        (top / family).mkdir()
        for row in FAMILIES[family](top / family, quick):
            print(f"{time.monotonic() - begin:5.0f} s  {row.what}", file=sys.stderr)
            yield row


def _write(rows: Sequence[Row], note: str) -> None:
    """Put the rows of the budgets into the README, in place of those that stand there."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{README} has no {BEGIN} and {END}: put them where the table is to stand")
    table = as_markdown(of_budgets(rows))
    README.write_text(f"{before}{BEGIN}\n{table}\n\n{note}.\n{END}{after}", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure how fast one part is, beside the plainest thing that does the same."
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"what to measure: {', '.join(FAMILIES)} [all]")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--write", action="store_true", help="measure the budgets, and write them into tools/README.md")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where to make the directory of files that is removed at the end (a real disk)",
    )
    options = parser.parse_args()
    if unknown := [family for family in options.families if family not in FAMILIES]:
        parser.error(f"there is no family {unknown[0]!r}: give some of {', '.join(FAMILIES)}, or none for all")
    if options.write and options.families:
        parser.error("--write needs every row: leave out the families")
    return options


if __name__ == "__main__":
    sys.exit(main())
