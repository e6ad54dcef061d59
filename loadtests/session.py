"""The fleet's HTTP API as a user calls it, over locust's client: each call is a line of its statistics."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from locust.contrib.fasthttp import FastHttpSession
from urllib3.filepost import encode_multipart_formdata

from loadtests.documents import File

ROUTES = "/api/v1"
ACCEPTED, NOT_FOUND, CONFLICT, OVERLOADED = 202, 404, 409, (429, 503)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upload is to be sent again in so many seconds."""

    seconds: float


class Session:
    """Calls for one collection. A request that fails is counted by locust, and answered with None.

    Args:
        client: of a locust user.
        collection: that is worked on.
    """

    def __init__(self, client: FastHttpSession, collection: str) -> None:
        self._client = client
        self._collection = collection

    def upload(self, file: File, key: str) -> dict[str, Any] | Refusal | None:
        """Send a file under a document key."""
        fields: dict[str, str | bytes | tuple[str, str | bytes]] = {
            "collection": self._collection,
            "document_key": key,
            "file": (file.name, file.data),
        }
        body, content_type = encode_multipart_formdata(fields)
        with self._client.post(
            f"{ROUTES}/documents/upload",
            data=body,
            headers={"Content-Type": content_type},
            name="upload",
            catch_response=True,
        ) as answer:
            if answer.status_code in OVERLOADED and answer.headers.get("retry-after"):
                answer.success()  # what a fleet above its limits is to say; a threshold counts it
                return Refusal(_seconds(answer.headers["retry-after"]))
            if answer.status_code != ACCEPTED:
                answer.failure(_what(answer))
                return None
            return dict(answer.json())

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Ask for a task and its document."""
        return self._asked("GET", f"/tasks/{task_id}", "task")

    def document(self, document_id: str) -> dict[str, Any] | None:
        """Ask for a document."""
        return self._asked("GET", f"/documents/{document_id}", "document")

    def revoke(self, task_id: str) -> bool:
        """Revoke an upload; False when it had ended before."""
        return bool(
            (self._asked("POST", f"/tasks/{task_id}/revoke", "revoke", CONFLICT) or {}).get("success")
        )

    def search(
        self, query: str, name: str, document_ids: Sequence[str] | None = None
    ) -> list[dict[str, Any]] | None:
        """Search; `name` is the line of the statistics."""
        asked = {"collection": self._collection, "query": query, "filter": {"document_ids": document_ids}}
        answer = self._asked("POST", "/search", name, body=asked)
        return None if answer is None else list(answer["hits"])

    def delete(self) -> bool:
        """Delete the collection; there may be none. False: it could not be deleted."""
        path = f"/collections/{self._collection}"
        return self._asked("DELETE", path, "delete the collection", NOT_FOUND) is not None

    def _asked(
        self, method: str, path: str, name: str, also_fine: int = 0, body: object = None
    ) -> dict[str, Any] | None:
        with self._client.request(method, ROUTES + path, name=name, json=body, catch_response=True) as answer:
            if not 200 <= answer.status_code < 300 and answer.status_code != also_fine:
                answer.failure(_what(answer))
                return None
            answer.success()
            return dict(answer.json())


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After, which is a number of them or a date.

    Raises:
        ValueError: it is neither.
    """
    if retry_after.isdecimal():
        return float(retry_after)
    return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)


def _what(answer: Any) -> str:
    """Return what went wrong in few words, the same for the same cause: locust counts by them."""
    if answer.status_code == 0:
        return f"no answer: {type(answer.error).__name__}"
    try:
        return f"{answer.status_code} {json.loads(answer.text)['code']}"
    except (TypeError, ValueError, KeyError):
        return str(answer.status_code)
