"""Is what was recorded still there as it was recorded, and do the files say what the logs say?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import eventlog
from merlin_es.counts import counted
from merlin_es.custody import Custody
from merlin_es.doctor.finding import Finding
from merlin_es.ledger import Ledger
from projections.fresh import stamps
from projections.index_file import USER_VERSION
from projections.layout import StateLayout, index_path
from projections.rebuilding import rebuild
from projections.verdict import Verdict

CLOCK_STEP: Final = timedelta(seconds=1)
"""A clock that is set back by less than this is being disciplined, not jumping."""
AHEAD: Final = timedelta(minutes=1)
_SAFE: Final = frozenset({"stale", "other_fold", "missing"})
"""What a file can be found to be, such that nothing is lost when it is written anew."""


def streams(log: eventlog.FileLog, root: Path) -> Iterator[Finding]:
    """Verify every line of every log, and that it still has what a published file vouches for."""
    acknowledged, whole = stamps(root), 0
    for stream in log.streams():
        path = log.path(stream)
        try:
            verdict = eventlog.verify(path, stream, expect=acknowledged(stream))
        except eventlog.EventLogError as error:
            yield Finding("streams", "error", f"{stream}: {error}", f"make {path} readable")
            continue
        if verdict.state == "whole":
            whole += 1
        elif verdict.state == "torn":
            what = f"{stream}: torn at line {verdict.line}: {verdict.why}; nobody was told that it is recorded"
            yield Finding("streams", "warning", what, "nothing to do: the next append sets it aside")
        else:
            yield _damaged(path, stream, verdict)
    yield Finding("streams", "fine", f"{counted(whole, 'log is', 'logs are')} whole, every line")


def _damaged(path: Path, stream: str, verdict: eventlog.Verdict) -> Finding:
    """Tell a line that is not what was written from a whole log that is not the one which was vouched for."""
    mend = f"bring {path} back from a copy, or keep it as evidence and go on in a new run"
    if eventlog.verify(path, stream).state == "corrupt":
        return Finding("streams", "error", f"{stream}: corrupt at line {verdict.line}: {verdict.why}", mend)
    forked = "forked" if "another line" in verdict.why else "cut off"
    return Finding("streams", "error", f"{stream}: {forked} at line {verdict.line}: {verdict.why}", mend)


def registry(custody: Custody) -> Iterator[Finding]:
    """Name the runs that the stream `ledger` notes, and whose logs are gone, end before that or are other ones."""
    fine = True
    for proof in custody.verify_all():
        if proof.noted and proof.state in ("missing", "truncated", "replaced"):
            fine = False
            yield Finding("registry", "error", f"{proof.stream}: {proof.state}: {proof.why}", "merlin ray verify --all")
    if fine:
        yield Finding("registry", "fine", "every run that was noted when it ended is there as it was then")


def clocks(log: eventlog.FileLog, now: str) -> Iterator[Finding]:
    """Name the logs in which a clock went back, or that were written by one that is ahead of ours."""
    fine = True
    for stream in log.streams():
        back, line, last = timedelta(0), 0, ""
        with suppress(eventlog.EventLogError):  # The check of the streams says what is wrong with it.
            for event in log.read(stream):
                if event.time < last and (step := _between(event.time, last)) > max(back, CLOCK_STEP):
                    back, line = step, event.seq
                last = event.time
        if line:
            fine = False
            yield Finding("clocks", "note", f"{stream}: a clock went back by {back} at line {line}; order is by line")
        if last > now and _between(now, last) > AHEAD:
            fine = False
            what = f"{stream}: its last event is of {last}, and that is still to come"
            yield Finding("clocks", "warning", what, "set the clock of this host, or of the one that wrote it")
    if fine:
        yield Finding("clocks", "fine", "no clock went back, and none was ahead of this host's")


def _between(earlier: str, later: str) -> timedelta:
    return datetime.fromisoformat(later) - datetime.fromisoformat(earlier)


def state_files(ledger: Ledger, root: Path, *, fix: bool) -> Iterator[Finding]:
    """Compare every state file with its log; with `fix`, write those anew that are behind or missing."""
    different = [each for each in rebuild(ledger.log, root, check=True) if each.state not in ("same", "written")]
    for verdict in different:
        if verdict.state == "sick":
            continue  # The check of the streams says what is wrong with it.
        fixed = fix and verdict.state in _SAFE and _mended(ledger, verdict, different)
        yield _of_file(root, verdict, fixed=fixed)
    if not different:
        yield Finding("state files", "fine", "all say what the logs say")


def _of_file(root: Path, verdict: Verdict, *, fixed: bool) -> Finding:
    what = f"{verdict.path}: {verdict.state}{f', {verdict.why}' if verdict.why else ''}"
    if verdict.state == "orphan":
        if _is_old(root / verdict.path):
            return Finding("state files", "warning", what, f"merlin ray import {root}")
        return Finding("state files", "warning", what, f"bring the log back from a copy, or rm {root / verdict.path}")
    if verdict.state == "diverged":
        return Finding("state files", "warning", what, "use the release that wrote it: what was recorded stands")
    return Finding("state files", "warning", what, "merlin ray rebuild", fixed=fixed)


def _mended(ledger: Ledger, verdict: Verdict, different: list[Verdict]) -> bool:
    """Publish the stream of a file, unless somebody has edited another file of it: that would be lost."""
    directory = Path(verdict.path).parent
    if any(each.state == "edited" and Path(each.path).parent == directory for each in different):
        return False
    for stream in ledger.log.streams():
        if StateLayout(Path()).path(stream).parent == directory:
            ledger.publisher.publish(stream)
            return True
    return False


def _is_old(path: Path) -> bool:
    """Tell whether the tool before this one has written a file: it stamped none."""
    record = path.with_name("run_record.json")
    return b'"as_of"' not in (record if record.exists() else path).read_bytes()


def index(ledger: Ledger, root: Path, *, fix: bool) -> Iterator[Finding]:
    """Look whether the index is one that lists can be read from; one that is not is replaced by whoever lists."""
    path = index_path(root)
    if not path.exists():
        yield Finding("index", "fine", "there is none yet: whoever lists runs makes it")
        return
    wrong = _wrong_with(path)
    if wrong is None:
        yield Finding("index", "fine", "it is whole")
        return
    if fix:
        ledger.index.rebuild()
    yield Finding("index", "warning", f"{path}: {wrong}", "merlin ray rebuild", fixed=fix)


def _wrong_with(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            if db.execute("PRAGMA user_version").fetchone() != (USER_VERSION,):
                return "it is of another release"
            if db.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                return "it is damaged"
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return f"it is damaged ({error})"
    return None
