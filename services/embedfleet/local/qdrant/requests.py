"""Bodies of the requests that the stand-in takes, and their engine objects. Pure."""

from typing import Annotated, Any, Literal, Self

import qdrant_edge as edge
from pydantic import BeforeValidator, Field, FiniteFloat, StrictBool, model_validator

from embedfleet.local.qdrant.filters import Body, Filter, PointId, engine_of, unsupported

MAX_LIMIT = 100_000
Payload = dict[str, Any]


def _dense(value: Any) -> Any:
    if isinstance(value, dict):
        raise unsupported("vectors that are named, sparse or inferred")
    if isinstance(value, list) and value and isinstance(value[0], list):
        raise unsupported("multivectors")
    return value


def _columns(value: Any) -> Any:
    if isinstance(value, dict):
        raise unsupported("vectors that are named, sparse or inferred")
    return value


Vector = Annotated[list[FiniteFloat], BeforeValidator(_dense)]


def _nearest(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:
            if name != "nearest" and value[name] is not None:
                raise unsupported(f"query `{name}`")
        value = value.get("nearest")
    if isinstance(value, int | str) and not isinstance(value, bool):
        raise unsupported("query by point id")
    return value


class Command(Body):
    """Base of the bodies that the engine has an object for."""

    def engine(self) -> Any:
        """Return the engine's object; ValueError or TypeError for an id or text it can't hold."""
        raise NotImplementedError


class VectorParams(Body):
    """The collection's one, unnamed vector."""

    size: int = Field(ge=1, le=65536)
    distance: Literal["Cosine"]


def _one_cosine(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("distance") in {"Dot", "Euclid", "Manhattan"}:
            raise unsupported(f"distance {value['distance']}")
        if all(isinstance(named, dict) for named in value.values()):
            raise unsupported("named vectors")
    return value


class CreateCollection(Body):
    """PUT /collections/{name}."""

    vectors: Annotated[VectorParams, BeforeValidator(_one_cosine)]


class FieldSchema(Body):
    """The type of a payload index."""

    type: Literal["keyword", "integer", "float", "bool"]


def _schema(value: Any) -> Any:
    schema = {"type": value} if isinstance(value, str) else value
    if isinstance(schema, dict) and schema.get("type") in {"geo", "text", "datetime", "uuid"}:
        raise unsupported(f"payload index of type {schema['type']}")
    return schema


class CreateIndex(Command):
    """PUT /collections/{name}/index."""

    field_name: str
    field_schema: Annotated[FieldSchema, BeforeValidator(_schema)]

    def engine(self) -> Any:
        """Return the engine's operation."""
        kind = getattr(edge.PayloadSchemaType, self.field_schema.type.capitalize())
        return edge.UpdateOperation.create_field_index(self.field_name, kind)


class Point(Body):
    """A point to store."""

    id: PointId
    vector: Vector
    payload: Payload | None = None


class Batch(Body):
    """Points to store, column by column."""

    ids: list[PointId]
    vectors: Annotated[list[Vector], BeforeValidator(_columns)]
    payloads: list[Payload | None] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        lengths = {
            len(self.ids),
            len(self.vectors),
            len(self.ids if self.payloads is None else self.payloads),
        }
        if len(lengths) != 1:
            raise ValueError("ids, vectors and payloads differ in length")
        return self


class Upsert(Command):
    """PUT /collections/{name}/points, in either form."""

    points: list[Point] | None = None
    batch: Batch | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.points is None) == (self.batch is None):
            raise ValueError("an upsert needs either `points` or `batch`")
        return self

    def engine(self) -> Any:
        """Return the engine's operation."""
        if self.batch is None:
            rows = [(point.id, point.vector, point.payload) for point in self.points or ()]
        else:
            payloads = self.batch.payloads or [None] * len(self.batch.ids)
            rows = list(zip(self.batch.ids, self.batch.vectors, payloads, strict=True))
        return edge.UpdateOperation.upsert_points([edge.Point(*row) for row in rows])


class Fields(Body):
    """Payload fields to show, or to leave out."""

    include: list[str] | None = None
    exclude: list[str] | None = None


def _fields(value: Any) -> Any:
    return {"include": value} if isinstance(value, list) else value


WithPayload = Annotated[StrictBool | Fields, BeforeValidator(_fields)]


class Shown(Body):
    """What an answer shows of its points."""

    with_payload: WithPayload | None = None
    with_vector: StrictBool = False

    def payload(self, default: bool) -> Any:
        """Return the engine's choice of payload fields."""
        chosen = self.with_payload
        if isinstance(chosen, Fields):
            if chosen.include is not None:
                return edge.PayloadSelector.Include(chosen.include)
            return edge.PayloadSelector.Exclude(chosen.exclude or [])
        return default if chosen is None else chosen


class Retrieve(Shown):
    """POST /collections/{name}/points."""

    ids: list[PointId]


class Delete(Command):
    """POST /collections/{name}/points/delete."""

    points: list[PointId] | None = None
    filter: Filter | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.points is None) == (self.filter is None):
            raise ValueError("a delete needs either `points` or `filter`")
        return self

    def engine(self) -> Any:
        """Return the engine's operation."""
        if self.filter is not None:
            return edge.UpdateOperation.delete_points_by_filter(self.filter.engine())
        return edge.UpdateOperation.delete_points([*(self.points or ())])


class Count(Command):
    """POST /collections/{name}/points/count; the answer is always exact."""

    filter: Filter | None = None
    exact: bool = True

    def engine(self) -> Any:
        """Return the engine's request."""
        return edge.CountRequest(exact=True, filter=engine_of(self.filter))


class OrderBy(Body):
    """The payload field that a scroll is sorted by; it needs an index."""

    key: str
    direction: Literal["asc", "desc"] = "asc"
    start_from: int | FiniteFloat | None = None

    def engine(self) -> Any:
        """Return the engine's object."""
        direction = edge.Direction.Asc if self.direction == "asc" else edge.Direction.Desc
        return edge.OrderBy(self.key, direction, self.start_from)


def _order(value: Any) -> Any:
    return {"key": value} if isinstance(value, str) else value


class Scroll(Shown, Command):
    """POST /collections/{name}/points/scroll."""

    offset: PointId | None = None
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    filter: Filter | None = None
    order_by: Annotated[OrderBy | None, BeforeValidator(_order)] = None

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.order_by is not None and self.offset is not None:
            raise ValueError("`offset` goes by ids; with `order_by` use `start_from`")
        return self

    def engine(self) -> Any:
        """Return the engine's request."""
        return edge.ScrollRequest(
            offset=self.offset,
            limit=self.limit,
            filter=engine_of(self.filter),
            with_payload=self.payload(default=True),
            with_vector=self.with_vector,
            order_by=engine_of(self.order_by),
        )


class SearchParams(Body):
    """Knobs of an approximate search; this one is exact whatever they say."""

    hnsw_ef: int | None = None
    exact: bool = False


class Query(Shown, Command):
    """POST /collections/{name}/points/query: the nearest points to a vector."""

    query: Annotated[Vector, BeforeValidator(_nearest)]
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=MAX_LIMIT)
    filter: Filter | None = None
    score_threshold: FiniteFloat | None = None
    params: SearchParams | None = None

    def engine(self) -> Any:
        """Return the engine's request."""
        return edge.QueryRequest(
            limit=self.limit,
            offset=self.offset,
            query=edge.Query.Nearest(self.query),
            filter=engine_of(self.filter),
            score_threshold=self.score_threshold,
            with_payload=self.payload(default=False),
            with_vector=self.with_vector,
        )
