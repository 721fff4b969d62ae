"""Are the facts of the resources, which need no pydantic, what its union says, in every byte and every refusal?"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Invalid, MemoryLog, NewEvent
from projections.events.base import Codec
from projections.events.fact import FactCodec
from projections.events.lease import LEASE_EVENTS, LeaseEvent, LeaseExpired, LeaseReleased, ResourceDeclared
from projections.events.lease_union import LEASE_MODELS, LEASE_UNION_EVENTS
from projections.events.recorded import UnknownEvent
from projections.lease_state import Liveness, Tick
from tests.lease_examples import LEASE_EVENTS as EXAMPLES
from tests.lease_examples import QUEUED

OTHERS: tuple[Any, ...] = (None, True, 0, -7, 1.5, "", "täst", [], ["a"], [1], {}, {"a": "b"}, {"a": 1}, {"pid": 3})
"""Values to put where others were."""


def written(event_type: str, data: Mapping[str, Any], codec: Codec[Any] | FactCodec[Any]) -> bytes | None:
    """Write an event, read it and write what was read; gives the data then, None where nobody can read it."""
    log = MemoryLog()
    log.append("resources", [NewEvent(event_type, data, "ada@lab", "cli")])
    try:
        [recorded] = codec.decode(log.read("resources"))
    except UnknownEvent:
        return None
    again = MemoryLog()
    again.append("resources", [recorded.event.recorded_by("ada@lab", "cli")])
    [event] = again.read("resources")
    return bytes(event.raw)


def places(data: object) -> Iterator[tuple[Any, Any]]:
    """Yield every place in some data: what it is in, and its key."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        yield data, key
        yield from places(value)


def test_there_is_a_model_of_each_fact() -> None:
    assert tuple(LEASE_MODELS) == LEASE_UNION_EVENTS.types == LEASE_EVENTS.types


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_what_is_recorded_of_a_fact_is_what_the_union_records_byte_for_byte(event: LeaseEvent) -> None:
    data = event.recorded_by("ada@lab", "cli").data
    facts, union = (written(event.type, data, codec) for codec in (LEASE_EVENTS, LEASE_UNION_EVENTS))
    assert facts is not None
    assert facts == union


@settings(max_examples=400, deadline=None)
@given(event=st.sampled_from(EXAMPLES), thrown=st.integers(0, 2**32))
def test_what_the_union_refuses_is_refused_and_nothing_else(event: LeaseEvent, thrown: int) -> None:
    dice, data = random.Random(thrown), msgspec.json.decode(msgspec.json.encode(event))
    for _ in range(dice.randint(1, 2)):
        parent, key = dice.choice(list(places(data)))
        if isinstance(parent, dict) and dice.random() < 0.3:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(dice.choice(OTHERS))
        if not data:
            break
    facts, union = (written(event.type, data, codec) for codec in (LEASE_EVENTS, LEASE_UNION_EVENTS))
    assert facts == union, data


def test_what_could_not_be_read_again_is_not_recorded() -> None:
    for wrong in (
        LeaseReleased(lease_id=7, by="ada"),  # type: ignore[arg-type]  # that is the point
        LeaseExpired(lease_id="l", evidence="hunch", tick=Tick("b", 1.0)),  # type: ignore[arg-type]  # likewise
        ResourceDeclared(key="k", labels={"a": 1}),  # type: ignore[dict-item]  # likewise
    ):
        with pytest.raises(Invalid, match="cannot be recorded in that shape"):
            wrong.checked()


def test_a_fact_is_recorded_as_it_will_be_read() -> None:
    said = ResourceDeclared(key="k", max_duration_s=30).checked()
    assert isinstance(said.max_duration_s, float)
    assert type(QUEUED.checked().liveness) is Liveness


def test_a_fact_of_a_later_release_is_named_as_unknown() -> None:
    log = MemoryLog()
    log.append("resources", [NewEvent("lease.polished", {}, "ada@lab", "cli")])
    with pytest.raises(UnknownEvent, match=r"resources#1: this release does not know lease\.polished"):
        list(LEASE_EVENTS.decode(log.read("resources")))
