"""Filters: what the stand-in takes of Qdrant's filter language, and its engine objects. Pure."""

from typing import Annotated, Any, Self

import numpy as np
import qdrant_edge as edge
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

UNSUPPORTED = "unsupported"


def unsupported(what: str) -> PydanticCustomError:
    """Return the error that makes a request end with 501 and the name of what is missing."""
    return PydanticCustomError(UNSUPPORTED, "{what}", {"what": what})


class Body(BaseModel):
    """Base of all parts of a request: a field that isn't declared is refused by name, unless it is null."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="after")
    def _nothing_else(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value is not None:
                raise unsupported(f"field `{name}`")
        return self


PointId = Annotated[StrictInt, Field(ge=0, lt=2**64)] | StrictStr
Int64 = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]


class Match(Body):
    """A field has this value, or one of these."""

    value: StrictBool | Int64 | StrictStr | None = None
    any: list[Int64] | list[StrictStr] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.value is None) == (self.any is None):
            raise ValueError("match needs either `value` or `any`")
        return self

    def engine(self) -> Any:
        """Return the engine's object."""
        if self.any is not None:
            return edge.MatchAny(self.any)
        # The binding takes Python's True for the integer 1; numpy's True is no integer.
        value: Any = np.bool_(self.value) if isinstance(self.value, bool) else self.value
        return edge.MatchValue(value)


class Range(Body):
    """A field has a number within these bounds."""

    gt: FiniteFloat | None = None
    gte: FiniteFloat | None = None
    lt: FiniteFloat | None = None
    lte: FiniteFloat | None = None

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.RangeFloat(gt=self.gt, gte=self.gte, lt=self.lt, lte=self.lte)


class FieldCondition(Body):
    """A condition on the payload field at a path."""

    key: str
    match: Match | None = None
    range: Range | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.match is None) == (self.range is None):
            raise ValueError("a condition with `key` needs either `match` or `range`")
        return self

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.FieldCondition(self.key, match=engine_of(self.match), range=engine_of(self.range))


class HasId(Body):
    """The point is one of these."""

    has_id: list[PointId]

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.HasIdCondition(set(self.has_id))


class Path(Body):
    """The path of a payload field."""

    key: str


class IsEmpty(Body):
    """The field is absent, null or an empty list."""

    is_empty: Path

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.IsEmptyCondition(self.is_empty.key)


class IsNull(Body):
    """The field is null."""

    is_null: Path

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.IsNullCondition(self.is_null.key)


class Filter(Body):
    """All of `must`, one of `should` if there are any, none of `must_not`."""

    must: "Conditions" = None
    should: "Conditions" = None
    must_not: "Conditions" = None

    def engine(self) -> Any:
        """Return the engine's object."""
        return edge.Filter(must=_all(self.must), should=_all(self.should), must_not=_all(self.must_not))


KINDS = {"key": FieldCondition, "has_id": HasId, "is_empty": IsEmpty, "is_null": IsNull}


def engine_of(part: Any) -> Any:
    """Return the engine's object of a part of a request, None for None."""
    return None if part is None else part.engine()


def _all(parts: list[Any] | None) -> Any:
    return None if parts is None else [part.engine() for part in parts]


def _kind(value: Any) -> str:
    return next((name for name in KINDS if name in value), "filter") if isinstance(value, dict) else "filter"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Condition = Annotated[
    Annotated[FieldCondition, Tag("key")]
    | Annotated[HasId, Tag("has_id")]
    | Annotated[IsEmpty, Tag("is_empty")]
    | Annotated[IsNull, Tag("is_null")]
    | Annotated[Filter, Tag("filter")],
    Discriminator(_kind),
]
Conditions = Annotated[list[Condition] | None, BeforeValidator(_listed)]
Filter.model_rebuild()
