"""What is a vocabulary of facts as a union of pydantic, discriminated by `type` like all the others?

It is made of the facts themselves, so that there is one place to add a field. Nothing that decides imports it, and of
what reads only a codec that has met a line which no release of ours has written. A test writes and reads whatever there
can be through both.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from projections.events.base import Codec, DomainEvent
from projections.events.fact import Fact

F = TypeVar("F")

_STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="ignore")
_LAX: Final = ConfigDict(frozen=True, extra="ignore")


class StrictEvent(DomainEvent):
    """An event that takes no value for another one, as facts do not."""

    model_config = _STRICT


def codec_of(facts: Any, *, lax: bool = False) -> Codec[Any]:  # noqa: ANN401  no type says "a union of classes"
    """Give what reads the same lines as a FactCodec of these facts does, as models."""
    models = [model_of(fact, lax=lax) for fact in get_args(facts)]
    return Codec(Annotated[reduce(or_, models), Field(discriminator="type")])


@cache
def model_of(fact: type[Fact], *, lax: bool = False) -> type[DomainEvent]:
    """Give the model with the fields of a fact; a `lax` one takes a value for another one."""
    fields: dict[str, Any] = {"type": (Literal[fact.type], fact.type), **_fields(fact, lax=lax)}
    base = DomainEvent if lax else StrictEvent
    model = create_model(fact.__name__, __base__=base, __doc__=fact.__doc__, **fields)
    model.rare = fact.rare
    return model


def read(kind: type[F], raw: bytes) -> F | None:
    """Give the fact that a lax model makes of its data as JSON; None where that refuses it too."""
    assert issubclass(kind, Fact)  # noqa: S101  mypy has no bound for the member of a union
    try:
        said = model_of(kind, lax=True).model_validate_json(raw)
    except ValidationError:
        return None
    return msgspec.convert(said.model_dump(exclude={"type"}), kind)


@cache
def _part_of(struct: type[msgspec.Struct], *, lax: bool) -> type[BaseModel]:
    config = _LAX if lax else _STRICT
    fields = _fields(struct, lax=lax)
    return create_model(struct.__name__, __config__=config, __doc__=struct.__doc__, **fields)


def _fields(struct: type[msgspec.Struct], *, lax: bool) -> dict[str, Any]:
    return {each.name: (_type_of(each.type, lax=lax), _default_of(each)) for each in msgspec.structs.fields(struct)}


def _type_of(kind: Any, *, lax: bool) -> Any:  # noqa: ANN401  a type, or what is written like one
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _part_of(kind, lax=lax)
    if isinstance(kind, UnionType):
        return reduce(or_, (_type_of(each, lax=lax) for each in get_args(kind)))
    if isinstance(kind, GenericAlias):
        return GenericAlias(get_origin(kind), tuple(_type_of(each, lax=lax) for each in get_args(kind)))
    return kind


def _default_of(each: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401  pydantic takes values and factories in one place
    if each.default_factory is not msgspec.NODEFAULT:
        factory = each.default_factory
        return Field(default_factory=lambda: msgspec.to_builtins(factory()), validate_default=True)
    return ... if each.default is msgspec.NODEFAULT else each.default
