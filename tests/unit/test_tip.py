"""Is a log that still ends where its head was noted told from every other one?"""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog import FileLog, Head
from eventlog.tip import surely_ends_at
from tests.examples import fill, happened, unsynced


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 3)
    return log


def test_a_log_that_ends_at_the_noted_head_is_known(log: FileLog) -> None:
    assert surely_ends_at(log.path("s"), log.head("s"))


def test_a_log_that_went_on_is_not_at_the_noted_head(log: FileLog) -> None:
    noted = log.head("s")
    log.append("s", [happened("more")])
    assert not surely_ends_at(log.path("s"), noted)


def test_another_number_or_chain_value_is_another_head(log: FileLog) -> None:
    seq, h = log.head("s")
    assert not surely_ends_at(log.path("s"), Head(seq + 1, h))
    assert not surely_ends_at(log.path("s"), Head(seq, h[::-1]))


def test_nothing_is_sure_of_a_log_that_is_absent_or_shows_one_line_only(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    assert not surely_ends_at(log.path("s"), log.head("s"))
    fill(log, "s", 1)
    assert not surely_ends_at(log.path("s"), log.head("s"))


def test_nothing_is_sure_when_the_line_before_is_out_of_sight(log: FileLog) -> None:
    log.append("s", [happened("x" * 20_000)])
    assert not surely_ends_at(log.path("s"), log.head("s"))


def test_any_changed_byte_of_the_last_line_and_any_torn_end_are_seen(log: FileLog) -> None:
    path, noted = log.path("s"), log.head("s")
    content = path.read_bytes()
    for at in range(content[:-1].rindex(b"\n") + 1, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not surely_ends_at(path, noted), at
    for cut in range(1, 60):
        path.write_bytes(content[:-cut])
        assert not surely_ends_at(path, noted), cut
    path.write_bytes(content + b'{"v":1,')
    assert not surely_ends_at(path, noted)
    path.write_bytes(content)
    assert surely_ends_at(path, noted)
