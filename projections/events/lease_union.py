"""What is the vocabulary of the resources as a union of pydantic, discriminated by `type` like all the others?

It is made of the facts themselves, so that there is one place to add a field. Nothing that decides about a lease
imports it; a test writes and reads whatever there can be through both.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from pydantic import ConfigDict, Field, create_model

from projections.events.base import Codec, DomainEvent
from projections.events.fact import Fact
from projections.events.lease import LeaseEvent


class StrictEvent(DomainEvent):
    """An event that takes no value for another one, as facts do not."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def model_of(fact: type[Fact]) -> type[StrictEvent]:
    """Give the model with the fields of a fact."""
    fields: dict[str, Any] = {"type": (Literal[fact.type], fact.type)}
    for each in msgspec.structs.fields(fact):
        default: Any = ...
        if each.default is not msgspec.NODEFAULT:
            default = each.default
        elif each.default_factory is not msgspec.NODEFAULT:
            default = Field(default_factory=each.default_factory)
        fields[each.name] = (each.type, default)
    return create_model(fact.__name__, __base__=StrictEvent, __doc__=fact.__doc__, **fields)


LEASE_MODELS: Final = {fact.type: model_of(fact) for fact in get_args(LeaseEvent)}
LEASE_UNION: Final = Annotated[reduce(or_, LEASE_MODELS.values()), Field(discriminator="type")]
LEASE_UNION_EVENTS: Codec[Any] = Codec(LEASE_UNION)
