"""/livez, /readyz, /metrics: for the orchestrator and Prometheus; they need no key."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel

from embedfleet.api.dependencies import Services, ServicesOf
from embedfleet.contracts.errors import DependencyDown, FleetError
from embedfleet.runtime.ledger.queues import Overview, QueueState

_log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
QUEUE_GAUGES: tuple[tuple[str, str, Callable[[QueueState], float | None]], ...] = (
    ("fleet_queue_depth", "Messages that wait on a queue", lambda queue: queue.depth),
    ("fleet_queue_inflight", "Tasks of a queue that run", lambda queue: queue.inflight),
    ("fleet_queue_tokens", "Tokens of tasks that haven't ended", lambda queue: queue.tokens),
    (
        "fleet_queue_oldest_age_seconds",
        "How long the next task has waited for its claim, 0 when none waits",
        lambda queue: queue.oldest_age,
    ),
    ("fleet_queue_consumers", "Worker processes that take a queue", lambda queue: queue.consumers),
    (
        "fleet_queue_parked_consumers",
        "Worker processes of a queue that wait for a dependency",
        lambda queue: queue.parked,
    ),
    (
        "fleet_queue_held",
        "1 while the workers of a queue take nothing more until the embedding workers have caught up",
        lambda queue: queue.held,
    ),
)
SEARCHABLE_SECONDS = Histogram(
    "fleet_upload_to_searchable_seconds",
    "Seconds from when an upload was accepted until its document was READY. The api that is scraped next "
    "counts it, for the scrape after; of more than 5000 between two scrapes the oldest are not seen.",
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)

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
    """Return Prometheus's text format; what Redis alone knows is absent while it doesn't answer."""
    text = generate_latest()
    with suppress(DependencyDown):
        fleet, overview = CollectorRegistry(), services.ledger.overview(take=True)
        # After the text: what stands in the first sample of a process is no increase to Prometheus.
        for seconds in overview.searchable:
            SEARCHABLE_SECONDS.observe(seconds)
        fleet.register(FleetGauges(overview, services.ledger.memory_share()))
        text += generate_latest(fleet)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


class FleetGauges(Collector):
    """The gauges of the whole fleet, made for one scrape: nothing of them outlives it.

    The workers' own series vanish with their last pod; the api is always there, and every one shows the same.

    Args:
        overview: the queues.
        memory_share: of Redis' `maxmemory` in use; 0 where it has no limit, so that there is no share.
    """

    def __init__(self, overview: Overview, memory_share: float) -> None:
        self._overview, self._memory_share = overview, memory_share

    def collect(self) -> Iterator[Metric]:
        """Yield them, zeros included."""
        for name, meaning, value_of in QUEUE_GAUGES:
            gauge = GaugeMetricFamily(name, f"{meaning}; the whole fleet's.", labels=["queue"])
            for queue in self._overview.queues:
                if (value := value_of(queue)) is not None:
                    gauge.add_metric([queue.name], value)
            yield gauge
        yield GaugeMetricFamily(
            "fleet_ledger_due_tasks",
            "Tasks whose time has come and that the janitor has not yet taken up.",
            self._overview.due,
        )
        if self._overview.last_round:
            yield GaugeMetricFamily(
                "fleet_janitor_last_round_timestamp_seconds",
                "When the janitor, in whichever api, last ended a round; absent before the first.",
                self._overview.last_round,
            )
        if self._memory_share:
            yield GaugeMetricFamily(
                "fleet_redis_memory_ratio",
                "Share of Redis' maxmemory in use; absent without one.",
                self._memory_share,
            )


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
            except Exception as error:  # the answer says what is down, whatever is wrong with it
                _log.exception("the check of %s broke", name)
                checks[name] = f"{type(error).__name__}: the log has it"

    async with anyio.create_task_group() as group:
        for name, probe in probes.items():
            group.start_soon(ask, name, probe)
    problems = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    return Readiness(status="unavailable" if problems else "ok", checks=checks, problems=problems)
