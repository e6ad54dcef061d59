"""The vector store: collections, upserts, deletes and search, each of them idempotent.

A redelivered task, a second worker or a retry after a lost answer changes nothing.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from embedfleet.contracts.errors import VectorStoreError
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors.generations import Generations
from embedfleet.vectors.points import (
    Generation,
    Value,
    Vectors,
    of_texts,
    searched,
    upsert_bodies,
)
from embedfleet.vectors.refusals import CollectionAbsent, dimension_mismatch

IDS_A_REQUEST = 1000
VECTORS_A_PAGE = 256
INDEXES = {
    "document_id": models.PayloadSchemaType.KEYWORD,
    "generation": models.PayloadSchemaType.INTEGER,
    "model_key": models.PayloadSchemaType.KEYWORD,
    "text_hash": models.PayloadSchemaType.KEYWORD,
}


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A point that search found.

    Attributes:
        score: cosine similarity to the query, in [-1, 1].
        payload: what was stored with the point; keys as in `VectorStore.upsert`.
    """

    score: float
    payload: dict[str, Any]


class VectorStore(Generations):
    """The vectors and payloads of all collections; safe for as many threads as a process has.

    Every method raises `DependencyDown` when Qdrant can't be reached, answers too late, is overloaded or
    refuses the API key (a retry helps once it is back), and `VectorStoreError` when it refuses the request
    itself (a retry doesn't help).

    Args:
        settings: address, API key and timeout.
        client: a client to use in place of one made from the settings.
    """

    def __init__(self, settings: VectorSettings, client: QdrantClient | None = None) -> None:
        super().__init__(settings, client)
        self._dimensions: dict[str, int] = {}
        self._lock = threading.Lock()

    def ensure_collection(self, name: str, dim: int) -> None:
        """Create a collection for cosine distance with its payload indexes, unless it is there.

        Two workers that create it at once are harmless. The answer is kept: later calls cost nothing.

        Args:
            name: Qdrant's name of it, see `contracts.documents.qdrant_collection`.
            dim: length of the vectors.

        Raises:
            VectorStoreError: ``dimension_mismatch`` when its vectors have another length.
        """
        with self._lock:
            known = self._dimensions.get(name)
        if known is None:
            known = self._settle_collection(name, dim)
            with self._lock:
                self._dimensions[name] = known
        if known != dim:
            raise dimension_mismatch(name, known, dim)

    def upsert(
        self, name: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[dict[str, Any]]
    ) -> None:
        """Store points and wait until they are durable and searchable; the same ids are overwritten.

        Payload keys: document_id, generation, chunk_index, text_hash, text, filename, page, heading, start,
        end, metadata, model_key, precision. A collection that was dropped meanwhile is created again.

        Args:
            name: the collection.
            ids: n UUIDs.
            vectors: float32 ``[n, dim]``, of any norm.
            payloads: n dicts of JSON values.

        Raises:
            VectorStoreError: ``bad_vector`` for NaN or infinity, ``bad_payload`` for what JSON can't hold.
        """
        for body in upsert_bodies(ids, vectors, payloads):
            try:
                self._put_points(name, body)
            except CollectionAbsent:
                with self._lock:
                    self._dimensions.pop(name, None)
                self.ensure_collection(name, vectors.shape[1])
                self._put_points(name, body)

    def stored(self, name: str, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that have a point: a redelivered task skips them."""
        found: set[str] = set()
        for at in range(0, len(ids), IDS_A_REQUEST):
            piece = list(ids[at : at + IDS_A_REQUEST])
            try:
                records = self._ask(partial(self._client.retrieve, name, piece, with_payload=False))
            except CollectionAbsent:
                return set()
            found.update(str(record.id) for record in records)
        return found

    def vectors_by_hash(
        self,
        name: str,
        document_id: str,
        generation: int,
        model_key: str,
        precision: str,
        hashes: Collection[str],
    ) -> dict[str, Vectors]:
        """Return the vectors that a generation of a document has for these texts.

        Args:
            name: the collection; an absent one has none.
            document_id: whose points.
            generation: only points of this generation.
            model_key: only vectors that this model made.
            precision: only vectors that were computed in this precision.
            hashes: `contracts.documents.text_hash` of the texts.

        Returns:
            By hash the vector of one of its points, float32 ``[dim of the collection]``, L2-normalised as
            Qdrant keeps it. Texts without a point are left out.
        """
        found: dict[str, Vectors] = {}
        wanted = list(dict.fromkeys(hashes))
        for at in range(0, len(wanted), VECTORS_A_PAGE):
            missing, page_is_full = wanted[at : at + VECTORS_A_PAGE], True
            while missing and page_is_full:
                page = self._page_of(name, of_texts(document_id, generation, model_key, precision, missing))
                found |= {_text_hash(point): np.array(point.vector, np.float32) for point in page}
                # A text that the document repeats may fill a page: the next one is asked for the others.
                rest = [each for each in missing if each not in found]
                page_is_full = len(page) == VECTORS_A_PAGE and len(rest) < len(missing)
                missing = rest
        return found

    def search(
        self,
        name: str,
        vector: Vectors,
        limit: int,
        document_ids: Sequence[str] | None = None,
        metadata: dict[str, Value] | None = None,
        model_key: str | None = None,
        without: Collection[Generation] = (),
    ) -> list[ScoredChunk]:
        """Find the points nearest to a vector by cosine similarity, best first.

        Args:
            name: the collection; an absent one has no hits.
            vector: float32 ``[dim]``, of any norm.
            limit: how many at most.
            document_ids: only points of these documents, of none where there are none; None: of all.
            metadata: only points whose ``metadata`` has all these values.
            model_key: only points of this model: scores of two models can't be compared; None: of all.
            without: no points of these documents' generations.

        Raises:
            InvalidRequest: a key or value that can't be asked for.
            VectorStoreError: ``dimension_mismatch`` when the collection's vectors have another length.
        """
        if document_ids is not None and not document_ids:
            return []  # not left to a server: one that took it for no condition would show everything
        nearest = partial(
            self._client.query_points,
            name,
            query=np.asarray(vector, np.float32).tolist(),
            query_filter=searched(document_ids, metadata or {}, model_key, without),
            limit=limit,
        )
        try:
            answer = self._ask(nearest)
        except CollectionAbsent:
            return []
        except VectorStoreError as error:
            # Asked only now, and not by the words of the refusal: they differ between versions.
            if error.status == HTTPStatus.BAD_REQUEST and (known := self._dimension(name)) != len(vector):
                raise dimension_mismatch(name, known, len(vector)) from error
            raise
        return [ScoredChunk(point.score, point.payload or {}) for point in answer.points]

    def _settle_collection(self, name: str, dim: int) -> int:
        try:
            info = self._ask(partial(self._client.get_collection, name))
        except CollectionAbsent:
            self._create(name, dim)
            info = self._ask(partial(self._client.get_collection, name))
        for field, schema in INDEXES.items():
            # Asked of an old collection, too: its creator may have died between the two calls.
            if field not in info.payload_schema:
                self._ask(partial(self._client.create_payload_index, name, field, schema, wait=True))
        return _dimension_of(name, info)

    def _dimension(self, name: str) -> int:
        return _dimension_of(name, self._ask(partial(self._client.get_collection, name)))

    def _page_of(self, name: str, points: models.Filter) -> list[models.Record]:
        ask = partial(
            self._client.scroll,
            name,
            points,
            limit=VECTORS_A_PAGE,
            with_payload=["text_hash"],
            with_vectors=True,
        )
        try:
            return self._ask(ask)[0]
        except CollectionAbsent:
            return []

    def _create(self, name: str, dim: int) -> None:
        vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        try:
            self._ask(partial(self._client.create_collection, name, vectors))
        except VectorStoreError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise


def _dimension_of(name: str, info: models.CollectionInfo) -> int:
    vectors = info.config.params.vectors
    if not isinstance(vectors, models.VectorParams) or vectors.distance != models.Distance.COSINE:
        raise VectorStoreError(
            f"collection {name} wasn't made by Embedfleet (it needs one unnamed vector and cosine "
            "distance): use another collection",
            code="foreign_collection",
        )
    return vectors.size


def _text_hash(point: models.Record) -> str:
    return str((point.payload or {}).get("text_hash"))
