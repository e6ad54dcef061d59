"""/api/v1/collections: delete all documents of one."""

import logging

from fastapi import APIRouter

from embedfleet.api.answers import CollectionDeleteAnswer
from embedfleet.api.dependencies import ServicesOf, Tenant
from embedfleet.api.http.problems import documented
from embedfleet.api.http.queries import NO_QUERY
from embedfleet.api.uploads.metadata import CollectionName
from embedfleet.contracts.errors import NotFound

router = APIRouter(
    prefix="/api/v1/collections",
    tags=["documents"],
    dependencies=NO_QUERY,
    responses=documented(401, 403, 422, 503),
)

_log = logging.getLogger(__name__)


@router.delete("/{name}", status_code=202, responses=documented(404))
def delete(name: CollectionName, tenant: Tenant, services: ServicesOf) -> CollectionDeleteAnswer:
    """Delete all documents that a collection has now, as if each were deleted by itself.

    Until all that they left is removed the same request answers 202 again, afterwards 404. What is uploaded
    meanwhile stays. The answer comes when the last one is deleted; when it doesn't come, ask again.
    """
    deleted = services.deletion.collection(tenant, name)
    if deleted is None:
        raise NotFound(f"There is no document of yours in the collection {name}.", code="no_collection")
    _log.info("collection deleted", extra={"collection": name, "documents": deleted, "tenant": tenant})
    message = f"{deleted} documents of {name} are deleted; their points and files are going."
    return CollectionDeleteAnswer(collection=name, documents=deleted, message=message)
