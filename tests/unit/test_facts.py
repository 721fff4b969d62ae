"""Are the facts, which need no pydantic, what a union of pydantic says, in every byte and every refusal?"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Invalid, MemoryLog, NewEvent
from merlin_es.ledger import Ledger
from projections.events.base import Codec
from projections.events.cluster import CLUSTER_EVENTS, ClusterEvent
from projections.events.fact import Fact, FactCodec
from projections.events.lease import LEASE_EVENTS, LeaseEvent, LeaseExpired, LeaseReleased, ResourceDeclared
from projections.events.ledger import LEDGER_EVENTS, HeadNoted, LedgerCreated, LedgerEvent, LedgerLogRepaired
from projections.events.recorded import UnknownEvent
from projections.events.run import RUN_EVENTS, RunCancelled, RunEvent, RunStarted
from projections.events.union import codec_of, model_of
from projections.layout import run_stream
from projections.lease_state import Liveness, Tick
from tests import lease_examples, run_examples
from tests.lease_examples import QUEUED

OTHERS: tuple[Any, ...] = (
    *(None, True, 0, -7, 1.5, "", "täst", [], ["a"], [1], {}, {"a": "b"}, {"a": 1}, {"pid": 3}),
    *(1.0, 2**70, "7", " 7", "1.5", "no", "null", "inf", ["x", 1], {"a": "7"}, {"key": "k"}),
)
"""Values to put where others were."""


class Vocabulary(NamedTuple):
    """Facts with both that read them, and at least one example of each."""

    facts: FactCodec[Any]
    union: Codec[Any]
    examples: Sequence[Fact]


LEDGER_EXAMPLES: Sequence[Fact] = (
    LedgerCreated(),
    HeadNoted(run_id="r", seq=3, h="A" * 43, status="completed"),
    LedgerLogRepaired.made_of(run_examples.REPAIR),
)
VOCABULARIES = {
    "resources": Vocabulary(LEASE_EVENTS, codec_of(LeaseEvent), lease_examples.LEASE_EVENTS),
    "run": Vocabulary(RUN_EVENTS, codec_of(RunEvent, lax=True), run_examples.RUN_EVENTS),
    "cluster": Vocabulary(CLUSTER_EVENTS, codec_of(ClusterEvent, lax=True), run_examples.CLUSTER_EVENTS),
    "ledger": Vocabulary(LEDGER_EVENTS, codec_of(LedgerEvent, lax=True), LEDGER_EXAMPLES),
}
EXAMPLES = [(name, event) for name, vocabulary in VOCABULARIES.items() for event in vocabulary.examples]


def written(event_type: str, data: Mapping[str, Any], codec: Codec[Any] | FactCodec[Any]) -> bytes | None:
    """Write an event, read it and write what was read; gives the data then, None where nobody can read it."""
    log = MemoryLog()
    log.append("resources", [NewEvent(event_type, data, "ada@lab", "cli")])
    try:
        [recorded] = codec.decode(log.read("resources"))
    except UnknownEvent:
        return None
    again = MemoryLog()
    try:
        again.append("resources", [recorded.event.recorded_by("ada@lab", "cli")])
    except Invalid:
        return b"it was read, and no log takes it again"
    [event] = again.read("resources")
    return bytes(event.raw)


def places(data: object) -> Iterator[tuple[Any, Any]]:
    """Yield every place in some data: what it is in, and its key."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        yield data, key
        yield from places(value)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_there_is_a_model_and_an_example_of_each_fact(name: str) -> None:
    facts, union, examples = VOCABULARIES[name]
    assert union.types == facts.types
    assert {event.type for event in examples} == set(facts.types)


@pytest.mark.parametrize(("name", "event"), EXAMPLES, ids=lambda each: getattr(each, "type", each))
def test_what_is_recorded_of_a_fact_is_what_the_union_records_byte_for_byte(name: str, event: Fact) -> None:
    data = event.checked().recorded_by("ada@lab", "cli").data
    facts, union = (written(event.type, data, codec) for codec in VOCABULARIES[name][:2])
    assert facts == union == msgspec.json.encode(data)
    assert codec_reads(VOCABULARIES[name].facts, event, data) == event.checked()


def codec_reads(codec: FactCodec[Any], event: Fact, data: Mapping[str, Any]) -> object:
    """Give what a log says that was told an event."""
    log = MemoryLog()
    log.append("resources", [NewEvent(event.type, data, "ada@lab", "cli")])
    [recorded] = codec.decode(log.read("resources"))
    return recorded.event


@settings(max_examples=800, deadline=None)
@given(example=st.sampled_from(EXAMPLES), thrown=st.integers(0, 2**32))
def test_what_the_union_refuses_is_refused_and_nothing_else(example: tuple[str, Fact], thrown: int) -> None:
    name, event = example
    dice, data = random.Random(thrown), msgspec.json.decode(msgspec.json.encode(event))
    for _ in range(dice.randint(1, 2)):
        if not data:
            break
        parent, key = dice.choice(list(places(data)))
        if isinstance(parent, dict) and dice.random() < 0.3:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(dice.choice(OTHERS))
    facts, union = (written(event.type, data, codec) for codec in VOCABULARIES[name][:2])
    assert facts == union, data


def test_what_was_read_as_another_value_while_these_were_models_is_read_so_still() -> None:
    said = {"attempt": "1", "source": "ray", "boottime_s": 7, "host": None}
    read = codec_reads(RUN_EVENTS, RunStarted(attempt=1, source="ray"), said)
    assert read == RunStarted(attempt=1, source="ray", boottime_s=7.0)
    late = {"attempt": 1.0, "source": "ray", "how": "stopped", "cancel_lost_race": "yes", "redacted": ["message"]}
    ended = codec_reads(RUN_EVENTS, run_examples.cancelled(), late)
    assert isinstance(ended, RunCancelled)
    assert (ended.attempt, ended.cancel_lost_race, ended.redacted) == (1, True, ("message",))


def test_a_field_that_says_nothing_is_left_out_by_both_where_older_events_have_none() -> None:
    plain, hidden = run_examples.requested(), msgspec.structs.replace(run_examples.requested(), redacted=("/env/A",))
    for codec in VOCABULARIES["run"][:2]:
        for event, has in ((plain, False), (hidden, True)):
            raw = written(event.type, event.recorded_by("ada@lab", "cli").data, codec)
            assert raw is not None
            assert (b'"redacted"' in raw) == has
    assert model_of(type(plain)).rare == plain.rare == {"redacted"}


def test_what_could_not_be_read_again_is_not_recorded() -> None:
    for wrong in (
        LeaseReleased(lease_id=7, by="ada"),  # type: ignore[arg-type]  # that is the point
        LeaseExpired(lease_id="l", evidence="hunch", tick=Tick("b", 1.0)),  # type: ignore[arg-type]  # likewise
        ResourceDeclared(key="k", labels={"a": 1}),  # type: ignore[dict-item]  # likewise
    ):
        with pytest.raises(Invalid, match="cannot be recorded in that shape"):
            wrong.checked()
    with pytest.raises(Invalid, match=r"run\.cancelled cannot be recorded in that shape.*hunch"):
        RunCancelled.made_of({"attempt": 1, "source": "hunch", "how": "stopped"})


def test_a_fact_is_recorded_as_it_will_be_read() -> None:
    said = ResourceDeclared(key="k", max_duration_s=30).checked()
    assert isinstance(said.max_duration_s, float)
    assert type(QUEUED.checked().liveness) is Liveness
    assert isinstance(run_examples.requested().checked().cpus, float)


def test_the_ledger_records_facts_as_they_will_be_read_and_nothing_that_would_not_be(tmp_path: Path) -> None:
    books = run_examples.Books(tmp_path)
    ledger = Ledger(books.log, books.publisher, books.index, "ada@lab", "cli", lambda: None)
    ledger.change_run(run_examples.RUN, lambda _known: (run_examples.requested(),))  # Its `cpus` is a 1.
    [event] = books.log.read(run_stream(run_examples.RUN))
    assert b'"cpus":1.0,' in bytes(event.raw)
    wrong = msgspec.structs.replace(run_examples.lost(), reason="hunch")
    with pytest.raises(Invalid, match=r"run\.lost cannot be recorded in that shape"):
        ledger.change_run(run_examples.RUN, lambda _known: (run_examples.intended(), wrong))
    assert books.head() == event.head


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_fact_of_a_later_release_is_named_as_unknown(name: str) -> None:
    log = MemoryLog()
    log.append("resources", [NewEvent("lease.polished", {}, "ada@lab", "cli")])
    with pytest.raises(UnknownEvent, match=r"resources#1: this release does not know lease\.polished"):
        list(VOCABULARIES[name].facts.decode(log.read("resources")))
