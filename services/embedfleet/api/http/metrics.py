"""Metrics of the HTTP server, by route template and never by id."""

import time
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("fleet_http_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("fleet_http_request_seconds", "Time to answer a request.", ["method", "route"])

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """ASGI middleware that counts and times every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # What a client makes up (a path, a method) must not become a label.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched").rstrip("/")
            requests, seconds = _children(method, route, status)
            requests.inc()
            seconds.observe(time.perf_counter() - started)


@cache
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return where such requests are counted, looked up once: that costs twice what counting does."""
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(method, route)
