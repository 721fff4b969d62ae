"""Is a line refused that fits into the chain, but could not have been written by a sound writer?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog import FileLog, verify
from eventlog.frame import origin, seal
from tests.examples import fill, unsynced


def forge(path: Path, **changes: object) -> None:
    """Append a line that is sealed as it should be, and is like the last but for `changes` (None: without the key)."""
    last = json.loads(path.read_bytes().splitlines()[-1])
    h = last.pop("h")
    envelope = {**last, "seq": last["seq"] + 1, **changes}
    body = json.dumps({key: value for key, value in envelope.items() if value is not None}, separators=(",", ":"))
    with path.open("ab") as file:
        file.write(seal(body.encode(), h.encode())[0])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seq": 5}, "says seq 5 where 4 is due"),
        ({"seq": 3}, "says seq 3 where 4 is due"),
        ({"stream": "t"}, "belongs to stream 't'"),
        ({"v": 2}, "newer than this release reads"),
        ({"v": 0}, "version 0 is unknown"),
        ({"v": "1"}, "not an event"),
        ({"type": None}, "not an event"),
        ({"data": "x" * 262_144}, "longer than"),
        ({"batch": "2/3"}, "stands where a first event of an append is due"),
        ({"batch": "1/1"}, "not a place in an append"),
        ({"batch": "3/2"}, "not a place in an append"),
        ({"batch": "x"}, "not a place in an append"),
    ],
)
def test_a_line_that_only_its_chain_value_speaks_for_is_refused(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 3)
    forge(log.path("s"))
    assert verify(log.path("s")).head.seq == 4, "the forger's tools are good"
    path = log.path("s")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    forge(path, **changes)
    verdict = verify(path)
    assert (verdict.state, verdict.line) == ("corrupt", 4)
    assert why in verdict.why


def test_a_batch_that_another_append_cuts_short_is_refused_at_the_line_that_does(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 2)
    path = log.path("s")
    forge(path, batch="1/3")
    forge(path, batch="2/3")
    forge(path, batch=None)
    verdict = verify(path)
    assert (verdict.state, verdict.head.seq, verdict.line) == ("corrupt", 2, 5)
    assert "an event of its own stands where event 3/3 of an append is due" in verdict.why


def test_two_streams_begin_their_chains_differently() -> None:
    assert origin("run/a").h != origin("run/b").h
    assert origin("run/a") == origin("run/a")
