"""In which order are the events of several streams shown?"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Corrupt, Event
from projections.timeline import Place, Timeline, cause_of


class Streams:
    """Streams whose events are recorded at times that tests choose."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.reads: list[tuple[str, int]] = []

    def add(self, stream: str, time: int, cause: int | str | None = None, kind: str = "a.b") -> Place:
        events = self.events.setdefault(stream, [])
        seq = len(events) + 1
        events.append(Event(1, seq, "", kind, stream, f"{time:06d}", "ada", "cli", cause=cause))
        return Place(stream, seq)

    def read(self, stream: str, first: int) -> Iterator[Event]:
        self.reads.append((stream, first))
        yield from self.events.get(stream, [])[first - 1 :]

    def timeline(self, **options: int) -> Timeline:
        timeline = Timeline(self.read, **options)
        for stream in self.events:
            timeline.add(stream)
        return timeline


def places(timeline: Timeline) -> list[str]:
    return [f"{event.stream}#{event.seq}" for event in timeline.news()]


def test_times_decide_where_causes_do_not() -> None:
    streams = Streams()
    for stream, time in (("a", 1), ("b", 2), ("a", 3), ("b", 3), ("a", 4)):
        streams.add(stream, time)
    assert places(streams.timeline()) == ["a#1", "b#1", "a#2", "b#2", "a#3"]


def test_what_led_to_an_event_comes_before_it_whatever_the_clocks_say() -> None:
    streams = Streams()
    streams.add("lease", 1, cause="run#2")
    streams.add("run", 5)
    streams.add("run", 9)
    streams.add("lease", 2)
    assert places(streams.timeline()) == ["run#1", "run#2", "lease#1", "lease#2"]


@pytest.mark.parametrize("cause", ["b#9", "nowhere#1", "b", "#", "x#y"])
def test_a_cause_that_is_not_there_holds_nothing_up(cause: str) -> None:
    streams = Streams()
    streams.add("a", 1, cause=cause)
    streams.add("b", 2)
    assert sorted(places(streams.timeline())) == ["a#1", "b#1"]


def test_causes_in_a_circle_end_too() -> None:
    streams = Streams()
    streams.add("a", 1, cause="b#1")
    streams.add("b", 2, cause="a#1")
    assert places(streams.timeline()) == ["a#1", "b#1"]


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), ahead=st.sampled_from([1, 3, 4096]))
def test_no_stream_is_turned_around_and_no_event_comes_before_what_led_to_it(seed: int, ahead: int) -> None:
    dice = random.Random(seed)
    streams, happened = Streams(), list[Place]()
    for _ in range(dice.randrange(1, 40)):
        cause = dice.choice([None, *map(str, happened)])
        happened.append(streams.add(dice.choice("abcd"), dice.randrange(50), cause))
    shown = list(streams.timeline(ahead_max=ahead).news())
    at = {Place(event.stream, event.seq): number for number, event in enumerate(shown)}
    assert set(at) == set(happened)
    assert len(shown) == len(happened)
    for event in shown:
        number = at[Place(event.stream, event.seq)]
        assert event.seq == 1 or at[Place(event.stream, event.seq - 1)] < number
        cause_place = cause_of(event)
        assert cause_place is None or at[cause_place] < number


def test_what_comes_later_is_given_later_and_nothing_twice() -> None:
    streams = Streams()
    streams.add("a", 1)
    timeline = streams.timeline()
    assert places(timeline) == ["a#1"]
    assert places(timeline) == []
    streams.add("a", 2)
    streams.add("b", 1)
    timeline.add("b")
    assert places(timeline) == ["b#1", "a#2"]
    assert places(timeline) == []


def test_only_what_is_wanted_is_given_and_the_rest_counts_as_passed() -> None:
    streams = Streams()
    for number in range(10):
        streams.add("a", number, kind="a.b" if number % 5 else "a.wanted")
    streams.add("b", 0, cause="a#2")
    timeline = Timeline(streams.read, ahead_max=2)
    timeline.add("a", wants=lambda event: event.type == "a.wanted")
    timeline.add("b")
    assert places(timeline) == ["a#1", "b#1", "a#6"]


def test_what_is_read_ahead_does_not_grow_with_the_streams_or_their_events() -> None:
    streams = Streams()
    for number in range(300):
        streams.add(f"s{number % 30}", number)
    timeline = streams.timeline(ahead_max=60)
    ahead = []
    for _ in timeline.news():
        ahead.append(sum(len(cursor.ahead) for cursor in timeline._cursors.values()))
    assert len(ahead) == 300
    assert max(ahead) <= 60


def test_a_log_that_is_damaged_is_named_and_the_others_go_on() -> None:
    streams = Streams()
    streams.add("a", 1)
    streams.add("b", 2)

    def read(stream: str, first: int) -> Iterator[Event]:
        yield from streams.read(stream, first)
        if stream == "a":
            raise Corrupt("a", 2, 100, "it is not an event")

    timeline = Timeline(read)
    timeline.add("a")
    timeline.add("b")
    assert places(timeline) == ["a#1", "b#1"]
    assert "line 2" in timeline.sick["a"]


def test_a_cause_that_was_recorded_while_we_looked_is_shown_first() -> None:
    streams = Streams()
    timeline = streams.timeline()
    timeline.add("a")
    timeline.add("b")
    streams.add("a", 1)
    streams.add("b", 2, cause="a#1")
    assert [f"{event.stream}#{event.seq}" for event in timeline.news(["b"])] == ["a#1", "b#1"]
