"""The vector store as `fsck` sees it: which points are there, in bounded pages, without texts and vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from embedfleet.vectors.points import equals
from embedfleet.vectors.refusals import CollectionAbsent
from embedfleet.vectors.store import VectorStore

# Measured on the embedded stand-in, 100,000 points of 2,000 documents: pages of 1,000 take 3.3 s, of 5,000
# and of 10,000 2.0-2.8 s, whole or by documents; a count a document takes 3.2 ms, 6.4 s in all.
PAGE = 5_000
FIELDS = ["document_id", "generation", "chunk_index", "model_key"]


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """What a point says of itself."""

    id: str
    document_id: str
    generation: int
    chunk_index: int
    model_key: str


class PointAudit(VectorStore):
    """A vector store with the walks of `fsck`; they change nothing."""

    def collections(self) -> list[str]:
        """Return the names of all collections."""
        return sorted(each.name for each in self._ask(self._client.get_collections).collections)

    def dimension(self, name: str) -> int:
        """Return the length of a collection's vectors; 0 when it is absent."""
        try:
            return self._dimension(name)
        except CollectionAbsent:
            return 0

    def count_of_others(self, name: str, model_key: str) -> int:
        """Count the points that another model has made; those that Embedfleet didn't write are left out."""
        ours = models.Filter(
            must_not=[
                equals("model_key", model_key),
                models.IsEmptyCondition(is_empty=models.PayloadField(key="model_key")),
            ]
        )
        try:
            return self._ask(partial(self._client.count, name, count_filter=ours, exact=True)).count
        except CollectionAbsent:
            return 0

    def points(self, name: str, document_ids: Sequence[str] = ()) -> Iterator[list[StoredPoint | None]]:
        """Yield a collection's points in pages; None for one that Embedfleet didn't write.

        Args:
            name: the collection; an absent one has none.
            document_ids: only points of these documents; empty: of all.
        """
        wanted = [{"key": "document_id", "match": {"any": list(document_ids)}}] if document_ids else []
        body: dict[str, Any] = {"limit": PAGE, "with_payload": FIELDS, "filter": {"must": wanted}}
        while True:
            try:
                page = self._ask(partial(self._scrolled, name, orjson.dumps(body)))
            except CollectionAbsent:
                return
            yield [_stored(point) for point in page["points"]]
            body["offset"] = page["next_page_offset"]
            if body["offset"] is None:
                return

    def _scrolled(self, name: str, body: bytes) -> dict[str, Any]:
        # Not by qdrant-client: its models of a page take ten times as long as the page.
        response = self._http.post(
            f"/collections/{quote(name, safe='')}/points/scroll",
            content=body,
            headers={"content-type": "application/json"},
        )
        if response.status_code != HTTPStatus.OK:
            raise UnexpectedResponse.for_response(response)
        result: dict[str, Any] = orjson.loads(response.content)["result"]
        return result


def _stored(point: dict[str, Any]) -> StoredPoint | None:
    payload = point.get("payload") or {}
    document_id, model_key = payload.get("document_id"), payload.get("model_key")
    generation, chunk_index = payload.get("generation"), payload.get("chunk_index")
    if not (isinstance(document_id, str) and isinstance(generation, int) and isinstance(chunk_index, int)):
        return None
    return StoredPoint(str(point["id"]), document_id, generation, chunk_index, str(model_key))
