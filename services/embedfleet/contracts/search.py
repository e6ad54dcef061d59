"""A search and its hits."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _exact(value: Any) -> Any:
    if not isinstance(value, str | int):
        raise PydanticCustomError(
            "not_filterable", "only a string, an integer, true or false can be filtered by"
        )
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise PydanticCustomError("not_filterable", "a text must be whole characters")
    return value


# With a bound pydantic reads the characters, and refuses a lone surrogate, which has no UTF-8 form.
_Id = Annotated[str, Field(max_length=64)]


class SearchFilter(BaseModel):
    """Keep only hits of these documents, and whose metadata has all these values.

    Values are strings, integers and booleans: a fractional number can't be matched exactly.
    """

    model_config = ConfigDict(extra="forbid")

    document_ids: list[_Id] | None = Field(
        None,
        max_length=100,
        description="Ids of the documents to look in. An empty list has no hits: for all documents, leave it"
        " out or send null.",
    )
    metadata: dict[str, Annotated[str | int | bool, BeforeValidator(_exact)]] = Field(
        default_factory=dict, max_length=20
    )


class SearchQuery(BaseModel):
    """What to look for, in which collection."""

    model_config = ConfigDict(extra="forbid")

    collection: str
    query: str = Field(max_length=8000, json_schema_extra={"minLength": 1})
    limit: int = Field(10, ge=1, le=100)
    filter: SearchFilter = Field(default_factory=SearchFilter)


class Hit(BaseModel):
    """One chunk that matches; `score` is the cosine similarity in [-1, 1]."""

    score: float
    text: str
    document_id: str
    filename: str
    chunk_index: int
    page: int | None = None
    heading: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class SearchAnswer(BaseModel):
    """Hits, best first."""

    hits: list[Hit]
