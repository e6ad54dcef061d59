"""What a failed call to Qdrant means: wait and try again, or never again.

answer                                          becomes
no connection, timeout, not Qdrant's JSON       DependencyDown
500, 502-599, 408, 429                          DependencyDown: full, starting, overloaded
401, 403                                        DependencyDown: the pool waits until the key is put right
404                                             CollectionAbsent
any other 4xx, 501                              VectorStoreError with the server's own words
"""

import json
from http import HTTPStatus

import httpx
from pydantic import ValidationError
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from embedfleet.contracts.errors import DependencyDown, FleetError, VectorStoreError

MAX_MESSAGE_CHARACTERS = 500
KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
TRY_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class CollectionAbsent(VectorStoreError):
    """The collection isn't there (any more); `VectorStore.ensure_collection` makes it."""

    default_code = "collection_absent"
    default_status = 404


def cause_of(error: Exception) -> Exception:
    """Return the error that qdrant-client wrapped, or the error itself."""
    if isinstance(error, ResponseHandlingException):
        return error.source
    return error


def refusal(error: Exception, address: str) -> FleetError | None:
    """Return the error of the house for a failed call; None for a defect of ours.

    Args:
        error: what qdrant-client or httpx raised.
        address: Qdrant's address without credentials.
    """
    cause = cause_of(error)
    if isinstance(cause, FleetError):
        return cause
    if isinstance(cause, UnexpectedResponse):
        return _from_status(cause, address)
    if isinstance(cause, ResourceExhaustedResponse):
        return DependencyDown("Qdrant", address, f"it is overloaded: {cause}")
    if isinstance(cause, httpx.TimeoutException):
        return DependencyDown("Qdrant", address, "it didn't answer in time (FLEET_QDRANT_TIMEOUT)")
    if isinstance(cause, httpx.HTTPError):
        return DependencyDown("Qdrant", address, str(cause) or type(cause).__name__)
    if isinstance(cause, ValidationError | ValueError):
        return DependencyDown("Qdrant", address, "what answers there isn't Qdrant; check QDRANT_URL")
    return None


def dimension_mismatch(name: str, known: int, dim: int) -> VectorStoreError:
    """Return the error for vectors of a length that a collection doesn't hold.

    Args:
        name: the collection.
        known: length of its vectors.
        dim: length of the model's.
    """
    return VectorStoreError(
        f"collection {name} holds vectors of {known} dimensions, the model makes {dim}: "
        "use the model that filled it (FLEET_MODEL_ID), or another collection",
        code="dimension_mismatch",
        status=HTTPStatus.CONFLICT,
    )


def _from_status(answer: UnexpectedResponse, address: str) -> FleetError:
    status = answer.status_code or 0
    message = _message(answer)
    if status in KEY_REFUSED:
        return DependencyDown("Qdrant", address, f"it refuses the API key ({status}); check QDRANT_API_KEY")
    if status == HTTPStatus.NOT_FOUND:
        return CollectionAbsent(f"Qdrant at {address} answered: {message}")
    if status in TRY_LATER or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED) or status < 400:
        return DependencyDown("Qdrant", address, f"it answered {status}: {message}")
    return VectorStoreError(f"Qdrant at {address} refused the request ({status}): {message}", status=status)


def _message(answer: UnexpectedResponse) -> str:
    try:
        text = str(json.loads(answer.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.content.decode(errors="replace") or answer.reason_phrase
    return text[:MAX_MESSAGE_CHARACTERS]
