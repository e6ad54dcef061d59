"""/api/v1/queues: what waits in the fleet, and who takes it."""

from fastapi import APIRouter

from embedfleet.api.answers import QueueAnswer, QueueList
from embedfleet.api.dependencies import ServicesOf, Tenant
from embedfleet.api.http.problems import documented
from embedfleet.api.http.queries import NO_QUERY

router = APIRouter(
    prefix="/api/v1/queues", tags=["queues"], dependencies=NO_QUERY, responses=documented(401, 403, 422, 503)
)


@router.get("/")
@router.get("", include_in_schema=False)
def queues(_tenant: Tenant, services: ServicesOf) -> QueueList:
    """Show every queue: what waits, what runs, for how long already, and how many workers take it.

    Tenants share the queues, so the numbers are the whole fleet's, whoever asks; nothing tells whose tasks
    they are. `/metrics` exports the same numbers.
    """
    return QueueList(queues=[QueueAnswer.of(queue) for queue in services.ledger.overview().queues])
