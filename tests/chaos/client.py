"""A client that remembers what it was promised: every 202, every refusal, and how long each took."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from embedfleet.contracts.documents import document_id, qdrant_collection
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from tests.chaos.corpus import File
from tests.chaos.judge.shown import ShownLog
from tests.chaos.judge.states import StateLog, pid_of
from tests.chaos.load import ForeignLoad
from tests.chaos.stack import KEYS, Stack, wait_until


@dataclass(frozen=True, slots=True)
class Accepted:
    """An upload that was answered 202.

    Attributes:
        file: what was sent.
        task_id: promised.
        document_id: promised.
    """

    file: File
    task_id: str
    document_id: str


@dataclass(slots=True)
class Refusal:
    """An upload that was not answered 202: the HTTP status (0: no answer) and the seconds it took."""

    status: int
    seconds: float
    retry_after: str = ""


@dataclass(slots=True)
class Promises:
    """What one scenario's client was told."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    unanswered: list[File] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)


class Client:
    """Uploads into one collection; a context manager that keeps both state logs while it is open.

    Attributes:
        promises: what it was told.
        load: what others took of the machine since the client was made.
        log: what the ledger's rows were seen to be.
        shown: what HTTP showed of them.
    """

    def __init__(self, stack: Stack, collection: str) -> None:
        self.stack, self.collection = stack, collection
        self.http = stack.http()
        self.promises = Promises()
        self.load = ForeignLoad()
        self.log = StateLog(stack.client)
        headers = {"Authorization": f"Bearer {KEYS['default']}"}
        self.shown = ShownLog(stack.urls, headers, collection)

    @property
    def qdrant_collection(self) -> str:
        """Qdrant's name of the collection."""
        return qdrant_collection("default", self.collection)

    def try_upload(self, file: File, api: int = 0) -> Accepted | Refusal:
        """Upload a file, whatever comes of it."""
        start = time.monotonic()
        try:
            answer = self.http.post(
                f"{self.stack.urls[api]}/api/v1/documents/upload",
                files={"file": (file.name, file.data)},
                data={"collection": self.collection},
            )
        except httpx.HTTPError:
            # Nobody knows what became of it; if it was taken, its document must be whole like any other.
            self.promises.unanswered.append(file)
            refusal = Refusal(0, time.monotonic() - start)
        else:
            if answer.status_code == httpx.codes.ACCEPTED:
                body = answer.json()
                accepted = Accepted(file, body["task_id"], body["document_id"])
                self.promises.accepted.append(accepted)
                self.log.track(accepted.document_id, accepted.task_id)
                self.shown.track(accepted.task_id)
                return accepted
            seconds = time.monotonic() - start
            refusal = Refusal(answer.status_code, seconds, answer.headers.get("retry-after", ""))
        self.promises.refused.append(refusal)
        return refusal

    def upload(self, file: File, api: int = 0) -> Accepted:
        """Upload a file that has to be taken."""
        answer = self.try_upload(file, api)
        assert isinstance(answer, Accepted), f"{file.name}: {answer}"
        return answer

    def revoke(self, accepted: Accepted) -> bool:
        """Revoke an upload; False when there was nothing to stop."""
        answer = self.http.post(f"/tasks/{accepted.task_id}/revoke")
        if answer.status_code == httpx.codes.CONFLICT or not answer.raise_for_status().json()["success"]:
            return False
        self.promises.revoked.add(accepted.document_id)
        return True

    def document(self, accepted: Accepted) -> dict[str, Any]:
        """Return the document as a user sees it; empty while the api doesn't answer."""
        try:
            return dict(self.http.get(f"/documents/{accepted.document_id}").raise_for_status().json())
        except httpx.HTTPError:
            return {}

    def task(self, accepted: Accepted) -> dict[str, str]:
        """Return the row of an upload's document task, straight from Redis."""
        return dict(self.stack.client.hgetall(f"task:{accepted.task_id}"))

    def parts(self, accepted: Accepted) -> list[dict[str, str]]:
        """Return the rows of its newest generation's embedding tasks, straight from Redis."""
        client, tenant = self.stack.client, "default"
        generation = client.hget(f"document:{tenant}:{accepted.document_id}", "generation")
        ids = client.zrange(f"members:{tenant}:{accepted.document_id}:{generation}", 0, -1)
        rows = [client.hgetall(f"task:{one}") | {"id": one} for one in sorted(ids)]
        return [row for row in rows if row.get("queue") == "embeddings"]

    def tasks(self, accepted: Accepted) -> list[dict[str, str]]:
        """Return the rows of an upload's tasks; the embedding tasks are those that the result names."""
        first = self.task(accepted)
        ids = [accepted.task_id, *json.loads(first.get("result") or "{}").get("embedding_task_ids", [])]
        return [self.stack.client.hgetall(f"task:{one}") | {"id": one} for one in ids]

    def forget(self) -> None:
        """Begin both logs anew: what they saw was lost, or was taken away on purpose."""
        self.log.forget_tasks()
        self.shown.forget()

    def wait_work(self, accepted: Accepted, work: str, seconds: float = 30) -> int:
        """Wait until somebody is at an upload, at `parse` or `embed`; return the process id."""

        def look() -> int:
            rows = self.parts(accepted) if work == "embed" else [self.task(accepted)]
            held = [row for row in rows if row.get("state") == "STARTED"]
            return pid_of(held[0].get("owner")) if held else 0

        return int(wait_until(look, f"{accepted.file.name} is at {work}", seconds, poll=0.005))

    def wait_state(self, accepted: Accepted, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a document is in one of these states."""

        def look() -> dict[str, Any] | None:
            self.stack.tend()
            document = self.document(accepted)
            return document if document.get("state") in states else None

        return dict(wait_until(look, f"{accepted.file.name} is {' or '.join(states)}", seconds))

    def wait_all(self, seconds: float) -> float:
        """Wait until every accepted document has ended, or the time is over; return the seconds."""
        start = time.monotonic()

        def ended() -> bool:
            self.stack.tend()
            return not self.open_documents()

        with suppress(AssertionError):  # the checker names them
            wait_until(ended, "every accepted document has ended", seconds, poll=0.2)
        return time.monotonic() - start

    def spent(self) -> list[str]:
        """Return the tasks of all uploads that were charged an attempt or a death, one line each."""
        found = []
        for task_id in list(self.log.tasks):
            attempt, deaths = self.stack.client.hmget(f"task:{task_id}", "attempt", "deaths")
            if int(attempt or 0) + int(deaths or 0):
                found.append(f"task {task_id} was charged {attempt} attempts and {deaths} deaths")
        return found

    def open_documents(self) -> list[str]:
        """Return the ids of accepted documents that have not ended."""
        ids = [one.document_id for one in self.promises.accepted]
        found = self.stack.ledger.documents_by_id("default", ids)
        return [one for one in ids if one not in found or found[one].state not in TERMINAL_DOCUMENT_STATES]

    def id_of(self, file: File) -> str:
        """Return the id of the document that a file of this collection is."""
        return document_id("default", self.collection, file.name)

    def __enter__(self) -> Self:
        self.log.__enter__()
        self.shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shown.__exit__(kind, error, trace)
        self.log.__exit__(kind, error, trace)
        self.http.close()
