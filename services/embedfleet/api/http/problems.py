"""Every answer that is no success: RFC 9457 problems with a stable `code`."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedfleet.contracts.errors import FleetError, Overloaded, Unauthorized

MEDIA_TYPE = "application/problem+json"
MAX_FIELDS_NAMED = 5

_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid_request",
    HTTPStatus.NOT_FOUND: "no_such_route",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "too_slow",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
}

_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong, and whether the same request may succeed later."""

    type: str = Field(examples=["urn:embedfleet:problem:invalid_collection"])
    title: str
    status: int
    detail: str = Field(description="What happened and what to do, in a sentence or two.")
    code: str = Field(description="Stable name of the problem.", examples=["invalid_collection"])
    retryable: bool = Field(description="Whether the same request may succeed later.")
    instance: str = Field(description="Path of the request.")
    state: str | None = Field(None, description="With 409: the state that stands against the request.")


def install(app: FastAPI) -> None:
    """Answer every error of an app as a problem."""
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer these statuses with a problem."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def answer(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    headers: Mapping[str, str] | None = None,
    state: str | None = None,
) -> JSONResponse:
    """Return a problem as a response."""
    problem = Problem(
        type=f"urn:embedfleet:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        instance=request.scope["path"],
        state=state,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


async def _fleet_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FleetError)  # noqa: S101 — for the type checker; it is registered for this class
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="embedfleet"'
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(seconds)
    # What admission refuses has a metric; a line each would be one more load.
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Overloaded):
        _log.warning("%s %s: %s: %s", request.method, request.scope["path"], error.code, error.detail)
    return answer(
        request,
        error.status,
        error.code,
        error.detail,
        retryable=error.retryable,
        headers=headers,
        state=getattr(error, "state", None),
    )


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 — as above
    errors = error.errors()
    if any(one["loc"] == ("body",) for one in errors) and not _says_json(request):
        detail = "Send the body as JSON, with the header `content-type: application/json`."
        return answer(request, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    named = [f"{_place(one['loc'])}: {words(one)}" for one in errors[:MAX_FIELDS_NAMED]]
    if len(errors) > MAX_FIELDS_NAMED:
        named.append(f"and {len(errors) - MAX_FIELDS_NAMED} more")
    detail = "; ".join(named)
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", detail)


def _says_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _place(location: tuple[str | int, ...]) -> str:
    """Return a field's name: ("query", "limit") is `limit`; ("body",), or that at a character, is `body`."""
    if len(location) == 2 and isinstance(location[1], int):
        location = location[:1]
    return ".".join(str(part)[:64] for part in (location[1:] or location))


def words(error: Mapping[str, Any]) -> str:
    """Return what pydantic found wrong with a field, in words for who sent it."""
    match error["type"]:
        case "extra_forbidden":
            kind = "parameter" if error["loc"][0] == "query" else "field"
            return f"there is no such {kind}; /docs lists those that are taken here"
        case "json_invalid":
            reason = error.get("ctx", {}).get("error", "")
            return f"this is no JSON, from character {error['loc'][-1]} on: {reason}"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "it must be a JSON object"
    return str(error["msg"]).removeprefix("Value error, ")


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 — as above
    code = _CODES.get(HTTPStatus(error.status_code), "http_error")
    detail, path = str(error.detail), request.scope["path"]
    if code == "no_such_route":
        detail = f"There is no {path}; /docs lists every route."
    elif code == "method_not_allowed":
        detail = f"{path} does not take {request.method}; /docs lists what it takes."
    return answer(
        request, error.status_code, code, detail, retryable=code == "too_slow", headers=error.headers
    )


async def _gone(request: Request, error: Exception) -> JSONResponse:
    # Nobody reads this; it counts in the metrics, and keeps a traceback out of the log.
    return answer(request, HTTPStatus.BAD_REQUEST, "client_gone", "The body ended before its announced size.")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The server logs it with its traceback: the framework raises it again once this is sent.
    return answer(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "An error that nobody foresaw; the server's log has it. Please try again.",
        retryable=True,
    )
