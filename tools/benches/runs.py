"""How fast are the verbs on runs, beside Ray's own program and beside the least that does the same?"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benches import listing
from benches.cluster import Cluster, cluster
from benches.one_run import LONG, length_row, wrapper_row
from benches.passes import pass_rows, sleeping, wish
from benches.programs import RAY, Programs
from benches.race import OURS, Goal, Row, Turn, race
from merlin_es.app import Merlin

QUICK_RUNS = 20_000
_FAST = Goal(False, 1.3, 2.0)


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure the verbs on runs, with files in `directory` and one Ray head for all."""
    yield from rows_without_ray(directory, quick)
    with cluster() as ray:
        yield from _rows_with_ray(directory / "ray", ray, quick)


def rows_without_ray(directory: Path, quick: bool, *, most: int = 0, events: int = LONG) -> Iterator[Row]:
    """Measure what nobody needs Ray for; `most` runs are in the longest list."""
    most = most or (QUICK_RUNS if quick else listing.MOST)
    yield length_row(directory / "length", 10 if quick else 60, long=events)
    yield wrapper_row(directory / "wrapper", 5 if quick else 40)
    yield from listing.listing_rows(directory / "listing", 5 if quick else 40, most=most)
    yield _list_row(directory, 5 if quick else 30, most)


def _list_row(directory: Path, rounds: int, most: int) -> Row:
    """Measure `jobs list` as a program, over the roots that the rows of the list have left."""
    programs = Programs(directory / "programs")
    roots = {f"{count:,} runs": directory / "listing" / str(count) for count in (listing.FEW, listing.MANY, most)}
    turns = {
        name: programs.running(programs.merlin(root, "jobs", "list", "--limit", str(listing.SHOWN)))
        for name, root in roots.items()
    }
    few, many, all_of_them = race(turns, rounds, speed=False)
    return Row(f"`jobs list` of {most:,} runs", "ms", Goal(False, 1.0, 2.0), few, all_of_them, (many,))


def _rows_with_ray(directory: Path, ray: Cluster, quick: bool) -> Iterator[Row]:
    root = directory / "state"
    merlin = ray.merlin(root)
    programs = Programs(directory / "programs", ray.environment())
    ended = merlin.wait(merlin.submit(wish(directory, "true")).run_id).run_id
    active = sleeping(merlin, directory)
    yield from _program_rows(programs, root, ray.url, ended, active, 3 if quick else 25)
    yield _submit_row(programs, merlin, ray, directory, 3 if quick else 15)
    yield from pass_rows(directory / "passes", ray, 5 if quick else 40)


def _program_rows(programs: Programs, root: Path, url: str, ended: str, active: str, rounds: int) -> Iterator[Row]:
    """Measure looking at runs as a program, against Ray's, and against the least that an app with typer takes."""
    look = {
        "jobs status": programs.running(programs.merlin(root, "jobs", "status", ended)),
        "jobs status, running": programs.running(programs.merlin(root, "jobs", "status", active)),
        "jobs list": programs.running(programs.merlin(root, "jobs", "list")),
        "events": programs.running(programs.merlin(root, "events", ended)),
    }
    ray = programs.running([RAY, "job", "status", "--address", url, ended])
    theirs, ours, *peers = race({"ray job status": ray, **look}, rounds)
    yield Row("`jobs status` of an ended run", "ms", Goal(True, 6.0, 3.0), theirs, ours, tuple(peers))
    least = {"typer": programs.running(programs.typer())}
    app, ours, running, lists, told = race({**least, **look}, 2 * rounds, speed=False)
    yield Row("`jobs status` against a bare app", "ms", _FAST, app, ours)
    yield Row("`jobs list` against a bare app", "ms", _FAST, app, lists)
    yield Row("`events` of a run against a bare app", "ms", _FAST, app, told)
    yield Row("`jobs status` of a running run against a bare app", "ms", _FAST, app, running)


def _submit_row(programs: Programs, merlin: Merlin, ray: Cluster, directory: Path, rounds: int) -> Row:
    """Measure submissions; each is over before the next begins."""
    numbers = itertools.count()
    words = ["--target", "saturn", "--workflow", "w", "--target-dir", str(directory / "out"), "--cpus", "0"]
    ours = programs.merlin(merlin.settings.state_root, "jobs", "submit", *words, "-o", "json", "--", "true")
    theirs = [RAY, "job", "submit", "--no-wait", "--address", ray.url]

    def with_ray() -> str:
        submission_id = f"bench-{next(numbers)}"
        programs.output([*theirs, "--submission-id", submission_id, "--", "true"])
        return submission_id

    turns = {
        "ray job submit": _submitting(ray, with_ray),
        OURS: _submitting(ray, lambda: str(json.loads(programs.output(ours))["run_id"])),
        "Merlin.submit": _submitting(ray, lambda: merlin.submit(wish(directory, "true")).run_id),
    }
    baseline, mine, call = race(turns, rounds)
    return Row("`jobs submit`", "ms", Goal(True, 2.0), baseline, mine, (call,))


def _submitting(ray: Cluster, submit: Callable[[], str]) -> Turn:
    def turn() -> float:
        begin = time.perf_counter()
        submission_id = submit()
        cost = time.perf_counter() - begin
        ray.wait_until_ended(submission_id)
        return cost

    return turn
