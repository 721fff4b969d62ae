"""Which files become of the resources, and what is folded to write them? Light, as each verb on a lease takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from eventlog.record import Event, Head
from projections import leases
from projections.events.lease import LEASE_EVENTS, LeaseEvent
from projections.folding import Files, Projection, all_of, as_bytes, stamp
from projections.fresh import LEASE_FOLD
from projections.layout import CATALOG, RESOURCES, lease_name
from projections.lease_state import NOTHING, Lease, Resources

CATALOG_NAME: Final = f"{RESOURCES}/{CATALOG}"


def lease_json(lease: Lease) -> dict[str, object]:
    """Give a lease as its file has it, without the stamp."""
    return all_of(lease)


def lease_file(lease: Lease, head: Head) -> bytes:
    """Give the file of a lease; `head` is that of the last event which was about it."""
    return as_bytes(lease_json(lease) | {"as_of": stamp(head, LEASE_FOLD)})


def catalog_json(state: Resources) -> dict[str, object]:
    """Give `catalog.json`, which is all that goes on, without the stamp."""
    document = all_of(state)
    del document["touched"]
    return document


def _files(_stream: str, state: Resources, head: Head) -> Files:
    """Write out what an event has changed: the lease that it was about, and the catalog."""
    catalog = as_bytes(catalog_json(state) | {"as_of": stamp(head, LEASE_FOLD)})
    files = {CATALOG_NAME: catalog}
    if state.touched is not None:
        return {lease_name(state.touched.lease_id): lease_file(state.touched, head)} | files
    return files


LEASE_PROJECTION: Final[Projection[Resources, LeaseEvent]] = Projection(
    LEASE_FOLD, LEASE_EVENTS, NOTHING, leases.evolve, _files
)


def leases_in(events: Iterable[Event]) -> Iterator[Lease]:
    """Yield every lease there ever was, in the order in which they ended, and then those that go on."""
    state = NOTHING
    for state, _ in LEASE_PROJECTION.states(events, state):  # noqa: B020  the last state is kept
        if state.touched is not None and state.touched.ended:
            yield state.touched
    yield from state.leases.values()
