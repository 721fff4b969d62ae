"""What does it cost that everything recorded can be proved, archived and handed out?"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benches.listing import record
from benches.race import OURS, Goal, Row, race, timed
from benches.samples import STREAM, filled
from eventlog import FileLog, verify
from merlin_es.ledger import Ledger
from projections.events.run import RunCompleted
from projections.files import Publisher
from projections.index import Index
from projections.layout import StateLayout, run_stream

LENGTH = 20_000
ENDS = 20
_BY = ("ada@lab3", "cli")


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure custody, with files in `directory`."""
    rounds = 3 if quick else 30
    length = LENGTH // 10 if quick else LENGTH
    yield from _long_log_rows(directory / "log", rounds, length)
    yield _end_row(directory / "ends", rounds)


def _long_log_rows(directory: Path, rounds: int, length: int) -> Iterator[Row]:
    log, archived = filled(directory / "plain", length), filled(directory / "archived", length)
    path = log.path(STREAM)
    archived.archive(STREAM)

    def parse() -> None:
        with path.open("rb") as file:
            for line in file:
                json.loads(line)

    def prove(kept: FileLog) -> None:
        assert verify(kept.path(STREAM), STREAM).head.seq == length

    turns = {
        "json.loads": lambda: timed(length, parse),
        OURS: lambda: timed(length, lambda: prove(log)),
        "archived": lambda: timed(length, lambda: prove(archived)),
    }
    bare, ours, peer = race(turns, rounds)
    yield Row(f"verify a log of {length:,} events", "events/s", Goal(True, 2.0, 1.0), bare, ours, (peer,))

    def head(kept: FileLog) -> None:
        assert kept.head(STREAM).seq == length

    turns = {
        "plain": lambda: timed(1, lambda: head(log)),
        OURS: lambda: timed(1, lambda: head(archived)),
    }
    bare, ours = race(turns, rounds, speed=False)
    yield Row(f"head of an archived log of {length:,} events", "ms", None, bare, ours)


def _end_row(directory: Path, rounds: int) -> Row:
    """Measure the end of a run, with checkpoint and note, against a bare append and publish of the same event."""
    numbers = itertools.count()
    log = FileLog(StateLayout(directory))
    index = Index(directory)
    ledger = Ledger(log, Publisher(log, directory, index), index, *_BY, lambda: None)
    end = RunCompleted(attempt=1, source="wrapper", exit_code=0)

    def runs() -> Sequence[str]:
        made = [f"saturn-20261123071351-{next(numbers):08x}" for _ in range(ENDS)]
        for run_id in made:
            record(log, run_id, ended=False)
            ledger.publisher.publish(run_stream(run_id))
        return made

    def bare(made: Sequence[str]) -> None:
        for run_id in made:
            head = ledger.publisher.fold(run_stream(run_id)).head
            with ledger.publisher.appending(run_stream(run_id), head):
                log.append(run_stream(run_id), [end.recorded_by(*_BY)], expected=head)
                ledger.publisher.publish(run_stream(run_id))

    def ours(made: Sequence[str]) -> None:
        for run_id in made:
            ledger.change_run(run_id, lambda _known: (end,))

    def bare_turn() -> float:
        made = runs()
        return timed(ENDS, lambda: bare(made))

    def our_turn() -> float:
        made = runs()
        return timed(ENDS, lambda: ours(made))

    baseline, mine = race({"append, publish": bare_turn, OURS: our_turn}, rounds, speed=False)
    log.close()
    return Row("the end of a run, with checkpoint and note", "µs", None, baseline, mine)
