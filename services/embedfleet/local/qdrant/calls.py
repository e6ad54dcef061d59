"""A call on the stand-in: a bounded body in, Qdrant's envelope out, errors with their reason."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from embedfleet.contracts.errors import FleetError, InvalidRequest
from embedfleet.local.qdrant.filters import UNSUPPORTED, Body
from embedfleet.local.qdrant.requests import Command

Parsed = TypeVar("Parsed", bound=Body)
Endpoint = Callable[[Request], Awaitable[Response]]

MAX_BODY_BYTES = 64_000_000
MAX_REASONS = 5
# Every write waits, there is one node, and nothing is slow enough to need a timeout of its own.
PARAMETERS = frozenset({"wait", "timeout", "ordering", "consistency"})


class Unsupported(FleetError):
    """Qdrant can do this, the stand-in can't."""

    default_code = "not_implemented"
    default_status = HTTPStatus.NOT_IMPLEMENTED
    retryable = False

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Embedfleet's embedded stand-in has no {what}; set QDRANT_URL to a Qdrant server for it"
        )


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets: the parts of the path, and the body."""

    path: dict[str, Any]
    body: bytes

    @property
    def collection(self) -> str:
        """Return the name of the collection that the call is about."""
        return str(self.path["collection"])

    def parse(self, model: type[Parsed]) -> Parsed:
        """Return the body as a model.

        Raises:
            InvalidRequest: 400, it isn't what Qdrant takes.
            Unsupported: it has a part that the stand-in doesn't take.
        """
        try:
            return model.model_validate_json(self.body or b"{}")
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            for detail in details:
                if detail["type"] == UNSUPPORTED:
                    raise Unsupported(f"{detail['msg']}{_place(detail['loc'])}") from error
            reasons = [f"{detail['msg']}{_place(detail['loc'])}" for detail in details[:MAX_REASONS]]
            raise InvalidRequest(f"Format error in JSON body: {'; '.join(reasons)}", status=400) from error

    def engine(self, model: type[Command]) -> Any:
        """Return the engine's object for the body.

        Raises:
            InvalidRequest: 400, as in `parse`, or an id that is no UUID, a path that is no path.
            Unsupported: as in `parse`.
        """
        command = self.parse(model)
        try:
            return command.engine()
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRequest(str(error).partition("\n")[0], status=400) from error


def endpoint(handler: Callable[[Call], Any]) -> Endpoint:
    """Return the route's function: it runs the handler in a thread and wraps what it returns or raises."""

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        try:
            _refuse_foreign(request)
            call = Call(request.path_params, await _read(request))
            result = await run_in_threadpool(handler, call)
        except FleetError as error:
            return failure(error, started)
        return _json({"result": result, "status": "ok", "time": time.perf_counter() - started})

    return answer


def failure(error: FleetError, started: float) -> Response:
    """Return an error in Qdrant's shape."""
    body = {"status": {"error": error.detail}, "time": time.perf_counter() - started}
    return _json(body, error.status)


def _json(content: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _place(location: tuple[int | str, ...]) -> str:
    return f" (at {'.'.join(str(part) for part in location)})" if location else ""


def _refuse_foreign(request: Request) -> None:
    if "origin" in request.headers:
        # There is no password here: a web page open in the user's browser must not get in.
        raise InvalidRequest("requests from web pages aren't taken", status=HTTPStatus.FORBIDDEN)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Unsupported(f"content encoding {request.headers['content-encoding']}")
    for name in request.query_params:
        if name not in PARAMETERS:
            raise Unsupported(f"parameter `{name}`")


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"the body is over {MAX_BODY_BYTES} bytes; send fewer points at once",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )
