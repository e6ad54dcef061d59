"""The routes of the stand-in. One that isn't here answers 501 and names itself."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from embedfleet.contracts.errors import NotFound
from embedfleet.local.qdrant import requests
from embedfleet.local.qdrant.calls import Call, Unsupported, endpoint, failure
from embedfleet.local.qdrant.catalog import Catalog

ENGINE = f"qdrant-edge-py {version('qdrant-edge-py')}"
TITLE = f"Embedfleet's embedded stand-in on Qdrant's storage engine ({ENGINE}); not a Qdrant server"
# The REST version whose routes and shapes these are; qdrant-client compares it with its own.
REST_VERSION = "1.20.0"
DONE = {"operation_id": None, "status": "completed"}


class Routes:
    """What each route does, on one data folder."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def list_collections(self, call: Call) -> Any:
        """GET /collections."""
        return {"collections": [{"name": name} for name in self._catalog.names()]}

    def exists(self, call: Call) -> Any:
        """GET /collections/{name}/exists."""
        return {"exists": self._catalog.exists(call.collection)}

    def describe(self, call: Call) -> Any:
        """GET /collections/{name}."""
        collection = self._catalog.get(call.collection)
        info = collection.info()
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": info.indexed_vectors_count,
            "points_count": info.points_count,
            "segments_count": info.segments_count,
            "config": _config(collection.size),
            "payload_schema": {
                field: {"data_type": str(index.data_type).rpartition(".")[2].lower(), "points": index.points}
                for field, index in info.payload_schema.items()
            },
        }

    def create(self, call: Call) -> Any:
        """PUT /collections/{name}."""
        self._catalog.create(call.collection, call.parse(requests.CreateCollection).vectors.size)
        return True

    def delete(self, call: Call) -> Any:
        """DELETE /collections/{name}."""
        return self._catalog.delete(call.collection)

    def create_index(self, call: Call) -> Any:
        """PUT /collections/{name}/index."""
        return self._update(call, requests.CreateIndex)

    def upsert(self, call: Call) -> Any:
        """PUT /collections/{name}/points."""
        return self._update(call, requests.Upsert)

    def delete_points(self, call: Call) -> Any:
        """POST /collections/{name}/points/delete."""
        return self._update(call, requests.Delete)

    def retrieve(self, call: Call) -> Any:
        """POST /collections/{name}/points."""
        collection, body = self._catalog.get(call.collection), call.parse(requests.Retrieve)
        shown = body.payload(default=True)
        return [_record(point) for point in collection.retrieve(body.ids, shown, body.with_vector)]

    def retrieve_one(self, call: Call) -> Any:
        """GET /collections/{name}/points/{id}."""
        name = call.path["id"]
        point_id = int(name) if name.isdecimal() else name
        points = self._catalog.get(call.collection).retrieve([point_id], True, True)
        if not points:
            raise NotFound(f"Not found: Point with id {name} does not exists!")
        return _record(points[0])

    def count(self, call: Call) -> Any:
        """POST /collections/{name}/points/count."""
        collection = self._catalog.get(call.collection)
        return {"count": collection.count(call.engine(requests.Count))}

    def scroll(self, call: Call) -> Any:
        """POST /collections/{name}/points/scroll."""
        collection = self._catalog.get(call.collection)
        points, following = collection.scroll(call.engine(requests.Scroll))
        return {"points": [_record(point) for point in points], "next_page_offset": following}

    def query(self, call: Call) -> Any:
        """POST /collections/{name}/points/query."""
        found = self._catalog.get(call.collection).query(call.engine(requests.Query))
        return {"points": [{**_record(p), "version": p.version, "score": p.score} for p in found]}

    def _update(self, call: Call, model: type[requests.Command]) -> Any:
        self._catalog.get(call.collection).update(call.engine(model))
        return DONE


def create_app(
    catalog: Catalog, lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]]
) -> Starlette:
    """Return the ASGI application.

    Args:
        catalog: the data folder.
        lifespan: what runs before the first and after the last request.
    """
    do = Routes(catalog)
    one, points = "/collections/{collection}", "/collections/{collection}/points"
    table: list[tuple[str, str, Callable[[Call], Any]]] = [
        ("GET", "/collections", do.list_collections),
        ("GET", one, do.describe),
        ("PUT", one, do.create),
        ("DELETE", one, do.delete),
        ("GET", f"{one}/exists", do.exists),
        ("PUT", f"{one}/index", do.create_index),
        ("PUT", points, do.upsert),
        ("POST", points, do.retrieve),
        ("GET", f"{points}/{{id}}", do.retrieve_one),
        ("POST", f"{points}/delete", do.delete_points),
        ("POST", f"{points}/count", do.count),
        ("POST", f"{points}/scroll", do.scroll),
        ("POST", f"{points}/query", do.query),
    ]
    routes = [Route(path, endpoint(handler), methods=[method]) for method, path, handler in table]
    routes += [Route(path, _alive) for path in ("/healthz", "/livez", "/readyz")]
    routes.append(Route("/", _root))
    refused = {HTTPStatus.NOT_FOUND: _no_route, HTTPStatus.METHOD_NOT_ALLOWED: _no_route}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=refused)


async def _root(request: Request) -> Response:
    body = {"title": TITLE, "version": REST_VERSION, "commit": ENGINE}
    return Response(orjson.dumps(body), media_type="application/json")


async def _alive(request: Request) -> Response:
    return PlainTextResponse("all shards are ready")


async def _no_route(request: Request, error: Exception) -> Response:
    return failure(Unsupported(f"route {request.method} {request.url.path}"), time.perf_counter())


def _record(point: Any) -> dict[str, Any]:
    shown = {"id": point.id, "payload": point.payload, "vector": point.vector}
    if point.order_value is not None:
        shown["order_value"] = point.order_value
    return shown


def _config(size: int) -> dict[str, Any]:
    return {
        "params": {"vectors": {"size": size, "distance": "Cosine"}},
        "hnsw_config": {"m": 0, "ef_construct": 4, "full_scan_threshold": 0},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "indexing_threshold": 0,
            "flush_interval_sec": 5,
        },
    }
