"""/livez, /readyz, /metrics: for the orchestrator and Prometheus; they need no key."""

import math
from collections.abc import Callable
from functools import partial

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from pydantic import BaseModel

from embedfleet.api.dependencies import Services, ServicesOf
from embedfleet.api.http.keys import DEFAULT_KEY, DEFAULT_TENANT
from embedfleet.contracts.errors import DependencyDown, FleetError
from embedfleet.contracts.jobs import Queue

CHECK_SECONDS = 2.0
QUEUE_TOKENS = Gauge(
    "fleet_queue_tokens", "Tokens of tasks that haven't ended; the whole fleet's.", ["queue"]
)

# The workers' own series vanish with their last pod; the api is always there.
QUEUE_DEPTH = Gauge("fleet_queue_depth", "Messages that wait on a queue; the whole fleet's.", ["queue"])
QUEUE_INFLIGHT = Gauge("fleet_queue_inflight", "Tasks of a queue that run; the whole fleet's.", ["queue"])

router = APIRouter(tags=["operations"])

# Checks of a dependency that hangs pile up here, not in the threads that serve requests.
_threads = anyio.CapacityLimiter(8)


class Readiness(BaseModel):
    """`checks` has a sentence for what is wrong, `ok` for the rest."""

    status: str
    checks: dict[str, str]
    problems: list[str]


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer while the process serves requests at all."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(services: ServicesOf) -> JSONResponse:
    """Say whether uploads and searches would be served, and what is missing if not."""
    readiness = await check(services)
    return JSONResponse(readiness.model_dump(), 503 if readiness.problems else 200)


@router.get("/metrics", response_class=Response)
def metrics(services: ServicesOf) -> Response:
    """Return Prometheus's text format."""
    try:
        tokens: float = services.ledger.load(DEFAULT_TENANT, DEFAULT_KEY).tokens
        depths = services.ledger.depths()
    except DependencyDown:
        tokens, depths = math.nan, {}
        QUEUE_DEPTH.clear()
        QUEUE_INFLIGHT.clear()
    for queue, (queued, inflight) in depths.items():
        QUEUE_DEPTH.labels(queue).set(queued)
        QUEUE_INFLIGHT.labels(queue).set(inflight)
    QUEUE_TOKENS.labels(Queue.EMBEDDINGS).set(tokens)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def check(services: Services) -> Readiness:
    """Ask every dependency at the same time, each for `CHECK_SECONDS` at most."""
    probes: dict[str, Callable[[], object]] = {
        "redis": services.ledger.ping,
        "blobs": services.blobs.check,
        "qdrant": services.store.ping,
        "encoder": partial(services.encoder.encode, "ready?"),
    }
    checks = dict.fromkeys(probes, f"no answer within {CHECK_SECONDS:g} seconds")

    async def ask(name: str, probe: Callable[[], object]) -> None:
        with anyio.move_on_after(CHECK_SECONDS):
            try:
                await anyio.to_thread.run_sync(probe, abandon_on_cancel=True, limiter=_threads)
                checks[name] = "ok"
            except FleetError as error:
                checks[name] = error.detail

    async with anyio.create_task_group() as group:
        for name, probe in probes.items():
            group.start_soon(ask, name, probe)
    problems = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    return Readiness(status="unavailable" if problems else "ok", checks=checks, problems=problems)
