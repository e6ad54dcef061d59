"""The HTTP server: ``python -m embedfleet.api``, or ``uvicorn --factory embedfleet.api.app:create_app``."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

import embedfleet
from embedfleet.api import collections, documents, ops, queues, search, tasks
from embedfleet.api.dependencies import Services
from embedfleet.api.http import docs, problems
from embedfleet.api.http.keys import load_keys
from embedfleet.api.http.limits import JSON_BYTES, MULTIPART_ALLOWANCE_BYTES, BodyLimit
from embedfleet.api.http.metrics import HttpMetrics
from embedfleet.api.http.schema import describe
from embedfleet.runtime import tracing
from embedfleet.runtime.settings import ApiSettings, ProcessSettings, load
from embedfleet.runtime.telemetry import configure

UPLOAD_PATH = "/api/v1/documents/upload"

_log = logging.getLogger(__name__)


def create_app() -> FastAPI:
    """Return the app as the environment configures it; also starts the process's logs.

    Raises:
        ConfigurationError: keys, address, model or traces don't allow to start.
        SystemExit: a variable has a value that is not allowed; see `settings.load`.
    """
    configure(load(ProcessSettings))
    # It warns of every malformed body; the client is told, and must not fill our log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    settings = load(ApiSettings)
    tracing.start("embedfleet-api")
    services = Services.open(settings, load_keys(settings))
    app = assemble(settings.max_upload_bytes)
    app.state.services = services
    return app


def assemble(max_upload_bytes: int) -> FastAPI:
    """Return the app without its services: routes, limits, problems."""
    app = FastAPI(
        title="Embedfleet",
        summary="Documents in, searchable vectors out.",
        version=embedfleet.__version__,
        lifespan=_lifespan,
        docs_url=None,  # the framework's pages load scripts from public servers; ours is http/docs.py
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    for part in (documents, collections, tasks, queues, search, ops, docs):
        app.include_router(part.router)
    problems.install(app)
    upload_bytes = max_upload_bytes + MULTIPART_ALLOWANCE_BYTES
    app.add_middleware(BodyLimit, limit=lambda path: upload_bytes if path == UPLOAD_PATH else JSON_BYTES)
    app.add_middleware(HttpMetrics)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.janitor.start()
    services.watch.start()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_report, services)
            yield
            group.cancel_scope.cancel()
    finally:
        await anyio.to_thread.run_sync(services.watch.stop)
        await anyio.to_thread.run_sync(services.janitor.stop)


async def _report(services: Services) -> None:
    """Log what is missing at the start; the server comes up, /readyz tells when it is complete."""
    readiness = await ops.check(services)
    for problem in readiness.problems:
        _log.warning("not ready yet, retrying: %s", problem)
