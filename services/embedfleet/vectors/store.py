"""The vector store: collections, upserts, deletes and search, each of them idempotent.

A redelivered task, a second worker or a retry after a lost answer changes nothing. Upserts bypass
qdrant-client's models: JSON that orjson writes straight from the float32 rows goes to the same REST route.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from embedfleet.contracts.errors import VectorStoreError
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors.points import (
    Value,
    Vectors,
    equals,
    metadata_equals,
    of_document,
    up_to,
    upsert_bodies,
)
from embedfleet.vectors.refusals import CollectionAbsent, cause_of, refusal

Answer = TypeVar("Answer")

CONNECTIONS = 128
QDRANT_PORT = 6333
IDS_A_REQUEST = 1000
INDEXES = {
    "document_id": models.PayloadSchemaType.KEYWORD,
    "generation": models.PayloadSchemaType.INTEGER,
}
# A server may close an idle connection just as we write to it; every request here may be sent twice.
STALE_CONNECTION = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A point that search found.

    Attributes:
        score: cosine similarity to the query, in [-1, 1].
        payload: what was stored with the point; keys as in `VectorStore.upsert`.
    """

    score: float
    payload: dict[str, Any]


class VectorStore:
    """The vectors and payloads of all collections; safe for as many threads as a process has.

    Every method raises `DependencyDown` when Qdrant can't be reached, answers too late, is overloaded or
    refuses the API key (a retry helps once it is back), and `VectorStoreError` when it refuses the request
    itself (a retry doesn't help).

    Args:
        settings: address, API key and timeout.
        client: a client to use in place of one made from the settings.
    """

    def __init__(self, settings: VectorSettings, client: QdrantClient | None = None) -> None:
        parts = urlsplit(settings.url if "://" in settings.url else f"http://{settings.url}")
        self.address = _origin(parts)
        key = settings.api_key.get_secret_value()
        # The key goes in as a header: qdrant-client warns on every start about its own parameter over http.
        options: dict[str, Any] = {
            "headers": {"api-key": key} if key else {},
            "limits": httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            "timeout": settings.timeout,
        }
        if parts.username is not None:
            options["auth"] = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
        self._client = client or QdrantClient(url=self.address, check_compatibility=False, **options)
        self._http = httpx.Client(base_url=self.address, **options)
        self._dimensions: dict[str, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._http.close()

    def ping(self) -> None:
        """Ask for the list of collections: Qdrant answers and takes the API key."""
        self._ask(self._client.get_collections)

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
            raise VectorStoreError(
                f"collection {name} holds vectors of {known} dimensions, the model makes {dim}: "
                "use the model that filled it (FLEET_MODEL_ID), or another collection",
                code="dimension_mismatch",
            )

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

    def count(
        self,
        name: str,
        document_id: str | None = None,
        generation: int | None = None,
        through: int | None = None,
    ) -> int:
        """Count exactly the points of a collection, of a document, of one generation or of those up to one.

        An absent collection has none.
        """
        wanted = {"document_id": document_id, "generation": generation}
        must = [equals(key, value) for key, value in wanted.items() if value is not None]
        if through is not None:
            must.append(up_to(through))
        query = models.Filter(must=must) if must else None
        try:
            return self._ask(partial(self._client.count, name, count_filter=query, exact=True)).count
        except CollectionAbsent:
            return 0

    def search(
        self,
        name: str,
        vector: Vectors,
        limit: int,
        document_ids: Sequence[str] = (),
        metadata: dict[str, Value] | None = None,
    ) -> list[ScoredChunk]:
        """Find the points nearest to a vector by cosine similarity, best first.

        Args:
            name: the collection; an absent one has no hits.
            vector: float32 ``[dim]``, of any norm.
            limit: how many at most.
            document_ids: only points of these documents; empty: of all.
            metadata: only points whose ``metadata`` has all these values.

        Raises:
            InvalidRequest: a key or value that can't be asked for.
        """
        must = [metadata_equals(key, value) for key, value in (metadata or {}).items()]
        if document_ids:
            any_of = models.MatchAny(any=list(document_ids))
            must.append(models.FieldCondition(key="document_id", match=any_of))
        nearest = partial(
            self._client.query_points,
            name,
            query=np.asarray(vector, np.float32).tolist(),
            query_filter=models.Filter(must=must) if must else None,
            limit=limit,
        )
        try:
            answer = self._ask(nearest)
        except CollectionAbsent:
            return []
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
        vectors = info.config.params.vectors
        if not isinstance(vectors, models.VectorParams) or vectors.distance != models.Distance.COSINE:
            raise VectorStoreError(
                f"collection {name} wasn't made by Embedfleet (it needs one unnamed vector and cosine "
                "distance): use another collection",
                code="foreign_collection",
            )
        return vectors.size

    def _create(self, name: str, dim: int) -> None:
        vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        try:
            self._ask(partial(self._client.create_collection, name, vectors))
        except VectorStoreError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    def _put_points(self, name: str, body: bytes) -> None:
        def put() -> None:
            response = self._http.put(
                f"/collections/{quote(name, safe='')}/points",
                params={"wait": "true"},
                content=body,
                headers={"content-type": "application/json"},
            )
            if response.status_code != HTTPStatus.OK:
                raise UnexpectedResponse.for_response(response)

        self._ask(put)

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        try:
            try:
                return request()
            except Exception as error:
                if not isinstance(cause_of(error), STALE_CONNECTION):
                    raise
                return request()
        except Exception as error:
            named = refusal(error, self.address)
            if named is None:
                raise
            raise named from error


def _origin(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or QDRANT_PORT}{parts.path.rstrip('/')}"
