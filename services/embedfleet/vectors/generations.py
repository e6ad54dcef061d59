"""The points of a document by generation: how many, up to which one, and away with them."""

from functools import partial

from qdrant_client import models

from embedfleet.vectors.connection import Connection
from embedfleet.vectors.points import counted, of_document
from embedfleet.vectors.refusals import CollectionAbsent

POINTS_A_PAGE = 1000


class Generations(Connection):
    """What is asked of a document's points as a whole; raises as `VectorStore` does."""

    def delete_generations(
        self, name: str, document_id: str, keep: int | None = None, through: int | None = None
    ) -> None:
        """Remove a document's points and wait for it.

        Args:
            name: the collection; nothing happens when it is absent.
            document_id: whose points.
            keep: the one generation that stays; None: none does.
            through: the newest generation that may go; None: all may.
        """
        points = models.FilterSelector(filter=of_document(document_id, keep, through))
        try:
            self._ask(partial(self._client.delete, name, points, wait=True))
        except CollectionAbsent:
            return

    def newest_generation(self, name: str, document_id: str) -> int:
        """Return the highest generation that a document has points of; 0 when it has none."""
        newest, offset = 0, None
        while True:
            ask = partial(
                self._client.scroll,
                name,
                of_document(document_id, None, None),
                limit=POINTS_A_PAGE,
                offset=offset,
                with_payload=["generation"],
            )
            try:
                page, offset = self._ask(ask)
            except CollectionAbsent:
                return 0
            newest = max([newest, *(int((point.payload or {}).get("generation", 0)) for point in page)])
            if offset is None:
                return newest

    def count(
        self,
        name: str,
        document_id: str | None = None,
        generation: int | None = None,
        through: int | None = None,
    ) -> int:
        """Count exactly the points of a collection, of a document, of one generation or of all up to one."""
        query = counted(document_id, generation, through)
        try:
            return self._ask(partial(self._client.count, name, count_filter=query, exact=True)).count
        except CollectionAbsent:
            return 0
