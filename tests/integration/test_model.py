"""Does the log on disk do what a list of lists would do, whatever is asked of it and in whatever order?"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventlog import ANY, Conflict, FileLog, KeyReused, MemoryLog, NewEvent, verify
from tests.conftest import Figure
from tests.examples import unsynced

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
new_events = st.builds(
    NewEvent,
    type=st.sampled_from(["a.made", "b.made"]),
    data=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    actor=st.text(min_size=1, max_size=5),
    door=st.sampled_from(["cli", "api"]),
    cause=st.none() | st.integers(1, 9) | st.just("other#3"),
    corr=st.none() | st.text(max_size=5),
)
batches = st.lists(new_events, min_size=1, max_size=4)


@dataclass
class Model:
    """The stream as a list of appends: per append its key and the (type, data) of its events."""

    appends: list[tuple[str | None, list[NewEvent]]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Count the events."""
        return sum(len(events) for _, events in self.appends)

    @property
    def contents(self) -> list[tuple[str, object]]:
        """List all events."""
        return [(event.type, event.data) for _, events in self.appends for event in events]


class LogMachine(RuleBasedStateMachine):
    """One stream, two handles as of two processes, reopened, cut and asked again at will."""

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp())
        self.logs = [FileLog(self.top, disk=unsynced()) for _ in range(2)]
        self.path = self.logs[0].path("s")
        self.model = Model()

    def teardown(self) -> None:
        if hasattr(self, "top"):
            for log in self.logs:
                log.close()
            shutil.rmtree(self.top)

    @rule(which=st.integers(0, 1), events=batches)
    def append(self, which: int, events: list[NewEvent]) -> None:
        self._appended(which, events, None, ANY)

    @rule(which=st.integers(0, 1), events=batches, key=st.sampled_from("abcdef"))
    def append_with_key(self, which: int, events: list[NewEvent], key: str) -> None:
        known = [earlier for used, earlier in self.model.appends if used == key]
        if not known:
            self._appended(which, events, key, ANY)
            return
        same = [(e.type, e.data) for e in events] == [(e.type, e.data) for e in known[0]]
        try:
            assert self.logs[which].append("s", events, key=key).repeated
            assert same
        except KeyReused:
            assert not same

    @rule(which=st.integers(0, 1), data=st.data())
    def ask_again(self, which: int, data: st.DataObject) -> None:
        keyed = [(key, events) for key, events in self.model.appends if key]
        if keyed:
            key, events = data.draw(st.sampled_from(keyed))
            assert self.logs[which].append("s", events, expected=0, key=key).repeated

    @rule(which=st.integers(0, 1), events=batches, off=st.integers(-2, 2))
    def append_on_expected(self, which: int, events: list[NewEvent], off: int) -> None:
        expected = max(0, self.model.length + off)
        if expected == self.model.length:
            self._appended(which, events, None, expected)
            return
        try:
            self.logs[which].append("s", events, expected=expected)
            raise AssertionError("was not refused")
        except Conflict:
            pass

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.logs[which].close()
        self.logs[which] = FileLog(self.top, disk=unsynced())

    @precondition(lambda self: self.model.appends)
    @rule(data=st.data(), events=batches)
    def die_in_an_append(self, data: st.DataObject, events: list[NewEvent]) -> None:
        """A third process writes a part of an append and dies."""
        before = self.path.read_bytes()
        FileLog(self.top, disk=unsynced()).append("s", events)
        after = self.path.read_bytes()
        cut = data.draw(st.integers(len(before) + 1, len(after) - 1))
        self.path.write_bytes(after[:cut])
        which = data.draw(st.integers(0, 1))
        news = self.logs[which].append("s", events).news
        assert [event.type for event in news[: -len(events)]] == ["log.repaired"]
        self.model.appends += [(None, [NewEvent("log.repaired", news[0].data, "x", "y")]), (None, events)]  # type: ignore[arg-type]

    @invariant()
    def both_read_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        for log in self.logs:
            events = list(log.read("s"))
            assert [(event.type, event.data) for event in events] == self.model.contents
            assert [event.seq for event in events] == list(range(1, self.model.length + 1))
            assert list(log.read_backwards("s")) == events[::-1]
            assert log.head("s").seq == self.model.length
        if self.model.length:
            assert verify(self.path).state == "whole"

    def _appended(self, which: int, events: list[NewEvent], key: str | None, expected: object) -> None:
        appended = self.logs[which].append("s", events, key=key, expected=expected)  # type: ignore[arg-type]
        assert appended.first == self.model.length + 1
        self.model.appends.append((key, events))
        memory = MemoryLog()
        memory.append("s", events, key=key)
        assert [(e.type, e.data, e.key) for e in memory.read("s")] == [(e.type, e.data, e.key) for e in appended.events]


def test_a_log_does_what_a_list_would_do(figure: Figure) -> None:
    tried = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(LogMachine, settings=tried)
    figure(f"{tried.max_examples} runs of up to {tried.stateful_step_count} steps, each compared with a model")
