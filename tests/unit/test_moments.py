"""Which event does somebody mean by what they write after `--at`?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Event
from merlin_es.errors import Ambiguous, NotFound, Usage
from merlin_es.moments import AtId, AtSeq, AtTime, AtType, find, last_by, parse, time_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def at(minute: int) -> str:
    return (NOW + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def log(*minutes: int, types: Sequence[str] = ()) -> list[Event]:
    """Give events that were recorded in these minutes."""
    return [
        Event(
            1,
            seq,
            f"019ab0c0-00{seq:02x}-7000-8000-00000000000{seq % 10}",
            types[seq - 1] if types else "a.b",
            "s",
            at(minute),
            "ada",
            "cli",
        )
        for seq, minute in enumerate(minutes, 1)
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("42", AtSeq(42)),
        ("#42", AtSeq(42)),
        (" 7 ", AtSeq(7)),
        ("2h ago", AtTime(at(-120))),
        ("2h", AtTime(at(-120))),
        ("1h30m ago", AtTime(at(-90))),
        ("1d", AtTime(at(-24 * 60))),
        ("2026-11-23T12:00:00Z", AtTime(at(0))),
        ("2026-11-23T14:00:00+02:00", AtTime(at(0))),
        ("2026-11-23 12:00", AtTime(at(0))),
        ("2026-11-23", AtTime(at(-12 * 60))),
        ("run.started#2", AtType("run.started", 2)),
        ("run.started", AtType("run.started", None)),
        ("019AB0C0-0000-7000-8000-000000000001", AtId("019ab0c0-0000-7000-8000-000000000001")),
    ],
)
def test_each_form_of_a_moment_is_read(text: str, meant: object) -> None:
    assert parse(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "soon", "-1", "2h later", "run.started#", "1.5", "2026-13-01", "999999999w", "²"])
def test_what_is_no_moment_is_refused_with_what_can_be_written(text: str) -> None:
    with pytest.raises(Usage, match=r"give (a number, a time like|a shorter one)"):
        parse(text, NOW)


def test_a_time_outside_of_all_time_is_refused() -> None:
    with pytest.raises(Usage, match="outside of all time"):
        time_of("0001-01-01T00:00+14:00", NOW)


def test_a_number_that_is_not_there_names_the_last_ones() -> None:
    assert find(AtSeq(2), "s", log(0, 1)).seq == 2
    with pytest.raises(NotFound, match=r"s has no event #9: its last ones are #1 a\.b at .*, #2 a\.b at"):
        find(AtSeq(9), "s", log(0, 1))
    with pytest.raises(NotFound, match="begin with 1"):
        find(AtSeq(0), "s", log(0, 1))


@pytest.mark.parametrize(("minute", "seq"), [(0, 1), (1, 1), (2, 2), (3, 3), (99, 3)])
def test_a_time_means_the_last_event_that_was_recorded_by_then(minute: int, seq: int) -> None:
    point = find(AtTime(at(minute)), "s", log(0, 2, 3))
    assert (point.seq, point.note) == (seq, "")


def test_a_time_before_everything_names_the_first_event() -> None:
    with pytest.raises(NotFound, match=r"nothing of s was recorded by .*: its first event is #1 a\.b at"):
        find(AtTime(at(-1)), "s", log(0, 2))


def test_where_the_clock_went_back_a_time_that_is_passed_once_has_an_answer_and_a_note() -> None:
    events = log(0, 10, 5, 6, 20)
    assert find(AtTime(at(15)), "s", events).seq == 4
    assert find(AtTime(at(2)), "s", events).seq == 1
    assert "the clock went back at #3 a.b" in find(AtTime(at(15)), "s", events).note


def test_where_the_clock_went_back_a_time_that_is_passed_twice_is_to_be_given_as_a_number() -> None:
    with pytest.raises(Ambiguous, match=r"the clock went back at #3 .* by its number: #1 a\.b at .*, #4 a\.b at"):
        find(AtTime(at(7)), "s", log(0, 10, 5, 6, 20))


def test_an_event_from_the_future_hides_nothing_that_came_after_it() -> None:
    year = 365 * 24 * 60
    assert last_by(at(5), log(0, year, 2, 3, 9)) == (4, True)
    with pytest.raises(Ambiguous):
        find(AtTime(at(5)), "s", log(0, year, 2, 3, 9))


@settings(deadline=None)
@given(minutes=st.lists(st.integers(0, 20), min_size=1, max_size=12), minute=st.integers(0, 20))
def test_whatever_the_clock_did_the_answer_is_a_place_where_the_log_passes_that_time(
    minutes: list[int], minute: int
) -> None:
    edges = [
        seq
        for seq, before in enumerate(minutes, 1)
        if before <= minute and (seq == len(minutes) or minutes[seq] > minute)
    ]
    try:
        seq = find(AtTime(at(minute)), "s", log(*minutes)).seq
    except Ambiguous:
        assert len(edges) > 1
    except NotFound:
        assert edges == []
    else:
        assert edges == [seq]
    assert last_by(at(minute), log(*minutes))[0] == max(edges, default=0)


def test_an_id_means_its_event_and_another_names_those_drawn_nearest() -> None:
    events = log(0, 1, 2, 3, 4, 5)
    assert find(AtId(events[3].id), "s", events).seq == 4
    with pytest.raises(NotFound, match=r"drawn nearest to it are #\d.*#\d.*#\d"):
        find(AtId("019ab0c0-0004-7000-8000-0000000000ff"), "s", events)


def test_a_type_means_its_only_event_or_the_one_that_is_counted_to() -> None:
    events = log(0, 1, 2, types=("run.requested", "run.started", "run.started"))
    assert find(AtType("run.requested", None), "s", events).seq == 1
    assert find(AtType("run.started", 2), "s", events).seq == 3
    with pytest.raises(Ambiguous, match=r"2 times run\.started: say which, as run\.started#N: #2 .*, #3 "):
        find(AtType("run.started", None), "s", events)
    with pytest.raises(NotFound, match=r"no run\.started#3, only 2, counted from 1: #2 "):
        find(AtType("run.started", 3), "s", events)
    with pytest.raises(NotFound, match=r"no run\.start: it has run\.started"):
        find(AtType("run.start", None), "s", events)
