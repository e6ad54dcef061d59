"""POST /api/v1/search: the chunks that are nearest to a query."""

from collections.abc import Collection, Sequence

from fastapi import APIRouter

from embedfleet.api.dependencies import Services, ServicesOf, Tenant
from embedfleet.api.http.problems import documented
from embedfleet.api.http.queries import NO_QUERY
from embedfleet.api.retrieval import live_hits
from embedfleet.api.uploads.metadata import check_keys, collection_name
from embedfleet.contracts.documents import qdrant_collection
from embedfleet.contracts.errors import InvalidRequest, NotFound
from embedfleet.contracts.search import SearchAnswer, SearchQuery
from embedfleet.vectors import Generation, ScoredChunk

router = APIRouter(
    prefix="/api/v1/search", tags=["search"], dependencies=NO_QUERY, responses=documented(401, 403, 422, 503)
)


@router.post("", responses=documented(404, 409, 415))
def search(query: SearchQuery, tenant: Tenant, services: ServicesOf) -> SearchAnswer:
    """Find the chunks of a collection that mean most nearly the same as the query, best first.

    Only documents that are READY are seen, each in its newest READY version, and only those that the
    server's model embedded. A collection whose vectors have another length is `dimension_mismatch`.
    """
    _check(query)
    vector = services.encoder.encode(query.query)
    name = qdrant_collection(tenant, query.collection)

    def nearest(limit: int, without: Collection[Generation]) -> Sequence[ScoredChunk]:
        return services.store.search(
            name,
            vector,
            limit,
            query.filter.document_ids,
            query.filter.metadata,
            services.encoder.model_key,
            without,
        )

    hits = live_hits(nearest, lambda ids: services.ledger.live_generations(tenant, ids), query.limit)
    if not hits:
        _check_collection(services, tenant, query.collection)
    return SearchAnswer(hits=hits)


def _check(query: SearchQuery) -> None:
    collection_name(query.collection)
    if not query.query.strip():
        raise InvalidRequest("query: it has no words", code="empty_query")
    try:
        check_keys(query.filter.metadata)
    except ValueError as error:
        raise InvalidRequest(f"filter.metadata: {error}", code="invalid_metadata") from error


def _check_collection(services: Services, tenant: str, collection: str) -> None:
    if not services.ledger.documents(tenant, collection, limit=1).total:
        raise NotFound(f"There is no document in the collection {collection}.", code="no_collection")
