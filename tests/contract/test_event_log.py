"""Does every kind of log keep the promises of the port?"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from eventlog import (
    ANY,
    Append,
    Appended,
    CaughtUp,
    Conflict,
    Event,
    EventLog,
    EventLogError,
    FileLog,
    Head,
    Invalid,
    KeyReused,
    MemoryLog,
    NewEvent,
    TooLarge,
    Upcasters,
    Writer,
)
from tests.examples import fill, happened, nested, unsynced, whats

UPCASTERS = Upcasters(
    {
        ("thing.renamed", 1): lambda data: {"name": data["nmae"]},
        ("thing.renamed", 2): lambda data: {**data, "since": 0},
    }
)


@pytest.fixture(params=["file", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    if request.param == "memory":
        yield MemoryLog(upcast=UPCASTERS)
    else:
        log = FileLog(tmp_path / "top", disk=unsynced(), upcast=UPCASTERS)
        yield log
        log.close()


def test_what_is_appended_is_read_in_order_from_any_seq(log: EventLog) -> None:
    fill(log, "run/a", 5)
    assert whats(log, "run/a") == [0, 1, 2, 3, 4]
    assert whats(log, "run/a", 4) == [3, 4]
    assert whats(log, "run/a", 6) == []
    assert [event.seq for event in log.read("run/a")] == [1, 2, 3, 4, 5]


def test_events_are_read_backwards_from_any_seq(log: EventLog) -> None:
    fill(log, "s", 5)
    assert [event.seq for event in log.read_backwards("s")] == [5, 4, 3, 2, 1]
    assert [event.seq for event in log.read_backwards("s", 2)] == [2, 1]
    assert [event.seq for event in log.read_backwards("s", 99)] == [5, 4, 3, 2, 1]
    assert list(log.read_backwards("other")) == []


def test_a_stream_without_a_log_is_empty_and_has_head_zero(log: EventLog) -> None:
    assert list(log.read("nothing")) == []
    assert log.head("nothing").seq == 0
    assert list(log.streams()) == []


def test_streams_are_listed_by_name_and_do_not_touch_each_other(log: EventLog) -> None:
    for stream in ("run/b", "resources", "run/a", "run-1", "run"):
        log.append(stream, [happened(stream)])
    assert list(log.streams()) == ["resources", "run", "run/a", "run/b", "run-1"]
    assert whats(log, "run/b") == ["run/b"]


def test_an_envelope_has_every_key_that_was_given_and_no_other(log: EventLog) -> None:
    cause = log.append("s", [happened()]).first
    new = NewEvent("a.b", {"x": [1, "é", None]}, actor="agent:x for ada", door="mcp", dv=3, cause=cause, corr="c")
    appended = log.append("s", [new], key="k")
    [event] = appended.events
    assert event == list(log.read("s"))[1]
    assert (event.v, event.seq, event.type, event.stream, event.actor) == (1, 2, "a.b", "s", "agent:x for ada")
    assert (event.door, event.key, event.cause, event.corr, event.dv, event.batch) == ("mcp", "k", 1, "c", 3, None)
    assert event.data == {"x": [1, "é", None]}
    assert event.head == log.head("s") == appended.head
    keys = list(msgspec.json.decode(appended.lines[0]))
    assert " ".join(keys) == "v seq id type stream time actor door key cause corr dv data h"


def test_the_head_of_each_event_is_another(log: EventLog) -> None:
    heads = {str(log.append("s", [happened()]).head) for _ in range(4)}
    assert len(heads) == 4
    assert Head.parse(max(heads)).seq == 4


def test_an_append_is_closed_by_what_is_made_of_its_events_and_of_the_same_lines(log: EventLog) -> None:
    seen: list[list[Event]] = []

    def closing(events: Sequence[Event]) -> NewEvent:
        seen.append(list(events))
        return NewEvent("all.counted", {"count": len(events), "last": events[-1].h}, actor="log", door="test")

    fill(log, "s", 1)
    appended = log.append("s", [happened("a"), happened("b")], expected=1, key="k", closing=closing)
    assert [event.batch for event in appended.events] == ["1/3", "2/3", "3/3"]
    *events, last = appended.events
    assert list(log.read("s", 2)) == [*events, last]
    assert seen[-1] == events
    assert last.data == {"count": 2, "last": events[-1].h}
    again = log.append("s", [happened("a"), happened("b")], key="k", closing=closing)
    assert (again.repeated, again.lines) == (True, appended.lines)
    with pytest.raises(KeyReused):
        log.append("s", [happened("a"), happened("c")], key="k", closing=closing)


def test_an_append_whose_closing_fails_leaves_nothing(log: EventLog) -> None:
    def closing(_events: Sequence[Event]) -> NewEvent:
        raise RuntimeError("a fold has failed")

    for count in (0, 1):
        with pytest.raises(RuntimeError):
            log.append("s", [happened("a")], closing=closing)
        assert log.head("s").seq == count
        log.append("s", [happened("b")])


@pytest.mark.parametrize("text", ["", "1", "1:abc", "x:" + "a" * 43, "-1:" + "a" * 43])
def test_what_is_not_a_head_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="SEQ:H"):
        Head.parse(text)


def test_an_append_is_refused_where_another_head_was_expected(log: EventLog) -> None:
    first = log.append("s", [happened(1)], expected=0)
    log.append("s", [happened(2)], expected=first.head)
    for expected in (0, 1, 3, first.head, Head(2, "x" * 43)):
        with pytest.raises(Conflict, match="decide again"):
            log.append("s", [happened(3)], expected=expected)
    log.append("s", [happened(3)], expected=log.head("s"))
    assert whats(log, "s") == [1, 2, 3]


def test_a_batch_is_recorded_as_one(log: EventLog) -> None:
    appended = log.append("s", [happened(n) for n in range(3)], key="k")
    assert [event.batch for event in appended.events] == ["1/3", "2/3", "3/3"]
    assert [event.key for event in appended.events] == ["k", None, None]
    assert appended.news == appended.events == tuple(log.read("s"))


def test_a_key_asked_twice_gives_the_first_answer_even_on_another_head(log: EventLog) -> None:
    first = log.append("s", [happened(1), happened(2)], expected=0, key="submit:1")
    log.append("s", [happened(3)])
    again = log.append("s", [happened(1), happened(2)], expected=0, key="submit:1")
    assert again.repeated
    assert not first.repeated
    assert (again.first, again.events) == (first.first, first.events)
    assert again.news == ()
    assert whats(log, "s") == [1, 2, 3]


@pytest.mark.parametrize(
    "others",
    [
        [happened(2)],
        [happened(1), happened(1)],
        [NewEvent("thing.happened", {"what": 1}, "a", "b", dv=2)],
        [NewEvent("thing.vanished", {"what": 1}, "a", "b")],
    ],
)
def test_a_key_with_other_content_is_refused(log: EventLog, others: list[NewEvent]) -> None:
    log.append("s", [happened(1)], key="k")
    with pytest.raises(KeyReused, match="seq 1"):
        log.append("s", others, key="k")
    assert log.append("t", others, key="k").first == 1  # A key belongs to its stream.


def test_a_text_in_the_data_that_looks_like_a_key_is_none(log: EventLog) -> None:
    log.append("s", [happened(1, key="k", text=',"key":"k"')])
    assert not log.append("s", [happened(2)], key="k").repeated


def test_independent_appends_are_committed_together_and_each_has_its_answer(log: EventLog) -> None:
    results = log.commit(
        "s",
        [
            Append((happened(1),), 0, "a"),
            Append((happened(2),), 0, None),
            Append((happened(1),), ANY, "a"),
            Append((), ANY, None),
            Append((happened(3),), 1, None),
        ],
    )
    assert [type(result).__name__ for result in results] == ["Appended", "Conflict", "Appended", "Invalid", "Appended"]
    assert [result.repeated for result in results if isinstance(result, Appended)] == [False, True, False]
    assert whats(log, "s") == [1, 3]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        "-a",
        ".a",
        "a b",
        "a\n",
        "é",
        "a" * 129,
        "a..b",
        "/".join("abcdefghi"),
        "a\0",
    ],
)
def test_a_name_that_is_not_safe_as_a_path_is_refused(log: EventLog, name: str) -> None:
    for call in (
        lambda: log.append(name, [happened()]),
        lambda: log.head(name),
        lambda: next(log.read(name)),
        lambda: next(iter(log.read_backwards(name))),
        lambda: next(log.follow(name)),
    ):
        with pytest.raises(Invalid, match="cannot name a stream"):
            call()
    assert list(log.streams()) == []


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("t", {"x": float("nan")}, "a", "d"),
        NewEvent("t", {"x": [{"y": float("-inf")}]}, "a", "d"),
        NewEvent("t", {"x": "\ud800"}, "a", "d"),
        NewEvent("t", {"x": object()}, "a", "d"),  # type: ignore[dict-item]  # what a caller without types may do
        NewEvent("t", [1], "a", "d"),  # type: ignore[arg-type]  # likewise
        NewEvent("", {}, "a", "d"),
        NewEvent("t", {}, "", "d"),
        NewEvent("t", {}, "a", ""),
        NewEvent("t", {}, "a", "d", dv=0),
        # What a caller without types may do, which could be written but not read again:
        NewEvent("t", {}, "a", "d", dv=True),
        NewEvent("t", {}, "a", "d", dv=1.5),  # type: ignore[arg-type]
        NewEvent("t", {}, "a", "d", corr=42),  # type: ignore[arg-type]
        NewEvent("t", {}, "a", "d", cause=1.5),  # type: ignore[arg-type]
        NewEvent(5, {}, "a", "d"),  # type: ignore[arg-type]
        NewEvent("t", {"x": msgspec.Raw(b"nope")}, "a", "d"),
        NewEvent("t", {"x": msgspec.Raw(b'{\n"a":1}')}, "a", "d"),
        NewEvent("t", {"x": nested(100)}, "a", "d"),
    ],
)
def test_what_json_cannot_say_is_refused_and_nothing_is_recorded(log: EventLog, event: NewEvent) -> None:
    with pytest.raises(Invalid):
        log.append("s", [happened(), event])
    assert whats(log, "s") == []


def test_none_is_not_taken_for_a_number_that_json_lacks(log: EventLog) -> None:
    log.append("s", [happened(None)])
    assert whats(log, "s") == [None]


def test_what_is_nested_as_deeply_as_may_be_is_read_on_any_stack(log: EventLog) -> None:
    deepest = {"x": nested(98), "text": '[{"' * 200}
    log.append("s", [NewEvent("t", deepest, "a", "d")])

    def read_below(frames: int) -> list[object]:
        return read_below(frames - 1) if frames else [event.data for event in log.read("s")]

    assert read_below(400) == [deepest]
    with pytest.raises(RecursionError):
        read_below(sys.getrecursionlimit())
    assert log.append("s", [happened()]).first == 2


def test_data_nested_too_deeply_is_refused(log: EventLog) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Invalid, match="not JSON"):
        log.append("s", [happened(deep)])  # type: ignore[arg-type]  # mypy cannot see that it is JSON


def test_what_is_too_large_is_refused_with_the_way_out(log: EventLog) -> None:
    with pytest.raises(TooLarge, match="blob store"):
        log.append("s", [happened("x" * 262_144)])
    with pytest.raises(TooLarge, match="in parts"):
        log.append("s", [happened("x" * 200_000)] * 6)
    log.append("s", [happened("x" * 261_000)])
    assert log.head("s").seq == 1
    assert [event.seq for event in log.read_backwards("s")] == [1]


@pytest.mark.parametrize("key", ["", "a b", 'a"', "a\\", "é", "a\n", "a" * 513])
def test_a_key_that_has_more_than_one_spelling_is_refused(log: EventLog, key: str) -> None:
    with pytest.raises(Invalid, match="idempotency key"):
        log.append("s", [happened()], key=key)


def test_an_append_of_nothing_is_refused(log: EventLog) -> None:
    with pytest.raises(Invalid, match="says nothing"):
        log.append("s", [])


def test_data_of_an_earlier_version_is_read_as_todays(log: EventLog) -> None:
    log.append("s", [NewEvent("thing.renamed", {"nmae": "x"}, "a", "d", dv=1)], key="k")
    log.append("s", [NewEvent("thing.renamed", {"name": "y"}, "a", "d", dv=2)])
    log.append("s", [NewEvent("thing.renamed", {"name": "z", "since": 7}, "a", "d", dv=3)])
    expected = [{"name": "x", "since": 0}, {"name": "y", "since": 0}, {"name": "z", "since": 7}]
    assert [event.data for event in log.read("s")] == expected
    assert [event.dv for event in log.read("s")] == [3, 3, 3]
    assert [event.data for event in log.read_backwards("s")] == expected[::-1]
    assert log.append("s", [NewEvent("thing.renamed", {"nmae": "x"}, "a", "d", dv=1)], key="k").repeated


def test_a_follower_gets_the_past_one_sentinel_and_then_what_is_new(log: EventLog) -> None:
    fill(log, "s", 3)
    stop = threading.Event()
    seen: list[object] = []
    for item in log.follow("s", 2, stop=stop):
        seen.append("caught up" if isinstance(item, CaughtUp) else item.data["what"])
        if isinstance(item, CaughtUp):
            assert item.head == log.head("s")
            log.append("s", [happened("new 1"), happened("new 2")])
        elif item.data["what"] == "new 2":
            log.append("s", [happened("new 3")])
        elif item.data["what"] == "new 3":
            stop.set()
    assert seen == [1, 2, "caught up", "new 1", "new 2", "new 3"]


def test_a_follower_of_a_stream_that_is_not_there_yet_waits_for_it(log: EventLog) -> None:
    follower = log.follow("run/later")
    assert isinstance(first := next(follower), CaughtUp)
    assert first.head.seq == 0
    log.append("run/later", [happened("at last")])
    assert isinstance(event := next(follower), Event)
    assert event.data["what"] == "at last"


def test_a_follower_from_a_seq_to_come_skips_what_is_before(log: EventLog) -> None:
    fill(log, "s", 2)
    follower = log.follow("s", 4)
    assert isinstance(next(follower), CaughtUp)
    log.append("s", [happened("three")])
    log.append("s", [happened("four")])
    assert isinstance(event := next(follower), Event)
    assert (event.seq, event.data["what"]) == (4, "four")


def test_a_stopped_follower_ends(log: EventLog) -> None:
    stop = threading.Event()
    follower = log.follow("s", stop=stop, poll_s=0.01)
    assert isinstance(next(follower), CaughtUp)
    stop.set()
    assert list(follower) == []


def test_threads_that_append_at_once_lose_and_double_nothing(log: EventLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append("s", [happened(n)]), range(200)))
    assert sorted(map(str, whats(log, "s"))) == sorted(map(str, range(200)))
    assert [event.seq for event in log.read("s")] == list(range(1, 201))


def test_a_writer_gives_each_thread_its_own_answer(log: EventLog) -> None:
    writer = Writer(log, "s")

    def ask(n: int) -> tuple[int, object]:
        if n % 10 == 7:
            with pytest.raises(Conflict):
                writer.append([happened(n)], expected=10**6)
            return n, None
        events = writer.append([happened(n)] * (1 + n % 3), key=f"k{n}").events
        return n, {event.data["what"] for event in events}

    with ThreadPoolExecutor(16) as pool:
        for n, answer in pool.map(ask, range(200)):
            assert answer == (None if n % 10 == 7 else {n})
    assert len(whats(log, "s")) == sum(1 + n % 3 for n in range(200) if n % 10 != 7)


def test_an_interrupted_thread_keeps_nobody_from_being_written(log: EventLog) -> None:
    class Interrupted:
        """A log whose first commit is interrupted, as by Ctrl-C in the thread that writes for all."""

        def __init__(self) -> None:
            self.begun = threading.Event()
            self.go_on = threading.Event()

        def commit(self, stream: str, appends: list[Append]) -> list[Appended | EventLogError]:
            if not self.begun.is_set():
                self.begun.set()
                self.go_on.wait()
                raise KeyboardInterrupt
            return log.commit(stream, appends)

    interrupted = Interrupted()
    writer = Writer(interrupted, "s")  # type: ignore[arg-type]  # a log that can commit, and no more
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(writer.append, [happened("interrupted")])
        interrupted.begun.wait()
        others = [pool.submit(writer.append, [happened(n)]) for n in range(7)]
        interrupted.go_on.set()
        with pytest.raises(KeyboardInterrupt):
            first.result()
        assert sorted(other.result().first for other in others) == list(range(1, 8))
    assert sorted(map(str, whats(log, "s"))) == list("0123456")


def test_a_writer_takes_more_than_fits_into_one_write(log: EventLog) -> None:
    writer = Writer(log, "s")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: writer.append([happened(n, text="x" * 200_000)]), range(24)))
    assert sorted(map(int, map(str, whats(log, "s")))) == list(range(24))


def test_ids_do_not_repeat_and_sort_by_time(log: EventLog) -> None:
    ids = [log.append("s", [happened()]).events[0].id for _ in range(300)]
    assert ids == sorted(set(ids))
    assert {(text[14], text[19] in "89ab", len(text)) for text in ids} == {("7", True, 36)}


def test_a_forked_child_gives_other_ids() -> None:
    from eventlog.stage import uuid7

    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, "".join(uuid7()[14:] for _ in range(3)).encode())
        os._exit(0)
    mine = {uuid7()[14:] for _ in range(3)}
    os.waitpid(child, 0)
    theirs = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    assert not mine & {theirs[at : at + 22] for at in (0, 22, 44)}
