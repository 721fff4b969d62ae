"""How does a log look to tools that speak CloudEvents 1.0?"""

from __future__ import annotations

from urllib.parse import quote

from eventlog.record import Event

_SEQUENCE_DIGITS = 20


def to_cloudevent(event: Event) -> dict[str, object]:
    """Give `event` as a CloudEvent in JSON format (CloudEvents 1.0.2, JSON event format §3).

    `sequence` and `recordedtime` are the documented extensions of those names, `traceparent` that of distributed
    tracing, taken from the data where there is one. `sequence` is padded so that it sorts as text.
    """
    data = event.data
    optional = {
        "causationid": None if event.cause is None else str(event.cause),
        "correlationid": event.corr,
        "idempotencykey": event.key,
        "batch": event.batch,
        "traceparent": data.get("traceparent"),
    }
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"urn:eventlog:{quote(event.stream)}",
        "type": event.type,
        "time": event.time,
        "recordedtime": event.time,
        "sequence": str(event.seq).zfill(_SEQUENCE_DIGITS),
        "actor": event.actor,
        "door": event.door,
        "dataversion": event.dv,
        "chain": event.h,
        **{name: value for name, value in optional.items() if value is not None},
        "datacontenttype": "application/json",
        "data": data,
    }
