"""Query parameters: a route refuses what it doesn't know; ignored, it would answer another question."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field


class KnownQuery(BaseModel):
    """The query parameters of a route: none but its fields."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(KnownQuery):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(
        None, description="The `next_cursor` of the page before, for the next one; all else stays the same."
    )


async def _no_query(_query: Annotated[KnownQuery, Query()]) -> None:
    pass


NO_QUERY = [Depends(_no_query)]
"""The dependencies of routes that take no query parameters."""
