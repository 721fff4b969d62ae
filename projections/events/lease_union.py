"""What is the vocabulary of the resources as a union of pydantic, discriminated by `type` like all the others?

It is made of the facts themselves, so that there is one place to add a field. Nothing that decides about a lease
imports it; a test writes and reads whatever there can be through both.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model

from projections.events.base import Codec, DomainEvent
from projections.events.fact import Fact
from projections.events.lease import LeaseEvent

_STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="ignore")


class StrictEvent(DomainEvent):
    """An event that takes no value for another one, as facts do not."""

    model_config = _STRICT


def model_of(fact: type[Fact]) -> type[StrictEvent]:
    """Give the model with the fields of a fact."""
    fields: dict[str, Any] = {"type": (Literal[fact.type], fact.type), **_fields(fact)}
    return create_model(fact.__name__, __base__=StrictEvent, __doc__=fact.__doc__, **fields)


@cache
def _part_of(struct: type[msgspec.Struct]) -> type[BaseModel]:
    return create_model(struct.__name__, __config__=_STRICT, __doc__=struct.__doc__, **_fields(struct))


def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {each.name: (_type_of(each.type), _default_of(each)) for each in msgspec.structs.fields(struct)}


def _type_of(kind: Any) -> Any:  # noqa: ANN401  a type, or what is written like one
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _part_of(kind)
    return reduce(or_, map(_type_of, get_args(kind))) if isinstance(kind, UnionType) else kind


def _default_of(each: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401  pydantic takes values and factories in one place
    if each.default_factory is not msgspec.NODEFAULT:
        factory = each.default_factory
        return Field(default_factory=lambda: msgspec.to_builtins(factory()), validate_default=True)
    return ... if each.default is msgspec.NODEFAULT else each.default


LEASE_MODELS: Final = {fact.type: model_of(fact) for fact in get_args(LeaseEvent)}
LEASE_UNION: Final = Annotated[reduce(or_, LEASE_MODELS.values()), Field(discriminator="type")]
LEASE_UNION_EVENTS: Codec[Any] = Codec(LEASE_UNION)
