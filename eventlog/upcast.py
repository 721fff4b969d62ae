"""How is an event of an earlier release read today?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from eventlog.record import Event

Data: TypeAlias = dict[str, object]


class Upcasters:
    """Steps from one data version to the next: `(type, dv)` names the step that turns `dv` into `dv + 1`.

    Pass it as the `upcast` of a log. The lines on disk, and with them every `h`, stay as they are.
    """

    def __init__(self, steps: Mapping[tuple[str, int], Callable[[Data], Data]]) -> None:
        self._steps = dict(steps)

    def __call__(self, event: Event) -> Event:
        """Give `event` with its data as the newest version that steps lead to."""
        if (event.type, event.dv) not in self._steps:
            return event
        dv, data = event.dv, event.data
        while step := self._steps.get((event.type, dv)):
            dv, data = dv + 1, step(data)
        return msgspec.structs.replace(event, dv=dv, raw=msgspec.Raw(msgspec.json.encode(data)))
