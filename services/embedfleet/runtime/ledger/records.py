"""What the ledger's edges take and answer, and how a record is laid out in a Redis hash."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import ValidationError

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import NewerVersion
from embedfleet.contracts.jobs import JOB_OF_NAME, Job
from embedfleet.contracts.states import TaskState
from embedfleet.contracts.versions import is_newer

Extra = Literal["ignore", "forbid"]
_IDENTITY_FIELDS = ("content_hash", "options", "metadata", "filename", "media_type", "model_key")
# What of a document's hash only the edges read.
_EDGE_FIELDS = {"fingerprint", "parts", "result", "upload"}
# All of a task's, those that only the edges read, too.
_TASK_FIELDS = {
    *("name", "queue", "tenant", "document", "generation", "parent", "part", "chunk_file", "tokens"),
    *("state", "stage", "fence", "owner", "lease_until", "attempt", "deaths", "parks"),
    *("sequence", "published_at", "created_at", "started_at", "completed_at", "next_at"),
    *("done", "total", "result", "error"),
}
_UPLOAD_FIELDS = (*_IDENTITY_FIELDS, "document_key", "size_bytes", "blob", "uploaded_at")


@dataclass(frozen=True, slots=True)
class Task:
    """A task's row. Times are seconds since the epoch; `done` of `total` pages or chunks.

    `parks` counts how often a dependency couldn't serve it.
    """

    id: str
    name: str
    queue: str
    tenant: str
    document_id: str
    generation: int
    state: TaskState
    stage: str
    fence: int
    owner: str
    attempt: int
    parks: int
    done: int
    total: int
    chunk_file: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    next_at: float | None

    @property
    def job(self) -> type[Job]:
        """The job that this task is of."""
        return JOB_OF_NAME[self.name]


@dataclass(frozen=True, slots=True)
class Change:
    """A state that a task has just reached, for those who mirror it."""

    task_id: str
    state: TaskState
    result: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of an upload: a new generation, or nothing to do because nothing changed."""

    task_id: str
    generation: int
    unchanged: bool
    publish: list[Job]


class Held(Protocol):
    """What names a claim."""

    @property
    def task_id(self) -> str:
        """The id of the claimed task."""

    @property
    def fence(self) -> int:
        """The number that the claim handed out."""

    @property
    def owner(self) -> str:
        """The run that it was handed to: a number may come again after a loss of Redis."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a task, until its lease ends.

    `trace` is the `traceparent` of the upload, empty where there is none or this process doesn't trace.
    """

    task: Task
    document: Document
    trace: str = ""

    @property
    def task_id(self) -> str:
        """The id of the claimed task."""
        return self.task.id

    @property
    def fence(self) -> int:
        """The number that every write of this run must name."""
        return self.task.fence

    @property
    def owner(self) -> str:
        """The run that has it; every write names it, too."""
        return self.task.owner


@dataclass(frozen=True, slots=True)
class Pulse:
    """Sign of life of one held lease: the run's stage, and chunks or pages done of a total."""

    task_id: str
    fence: int
    owner: str
    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Part:
    """One embedding task to be created: its chunk file, and how many chunks and tokens are in it."""

    task_id: str
    part: int
    chunks: int
    chunk_file: str
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What is under way.

    Attributes:
        documents: that haven't ended, of all tenants.
        documents_of_key: those of them that came with the API key that was asked for.
        tokens: of embedding tasks that haven't ended.
        memory: share of Redis' `maxmemory` in use; 0 where it has no limit, None when not asked for.
    """

    documents: int
    documents_of_key: int
    tokens: int
    memory: float | None = None


class Passes(NamedTuple):
    """How far the janitor is; seconds since the epoch by Redis' clock, 0: never.

    Attributes:
        settled: when it began the last pass over all that was to be settled, which it brought to an end.
        deleted: the same for deletions.
        at: its last sign of progress with either.
        round: when it last ended a round.
    """

    settled: float = 0.0
    deleted: float = 0.0
    at: float = 0.0
    round: float = 0.0


class Pool(NamedTuple):
    """How a pool is.

    Attributes:
        workers: how many gave a sign of life within a lease.
        parked: how many of them wait for a dependency.
        is_held: whether they take nothing more until the embedding workers have caught up.
    """

    workers: int
    parked: int
    is_held: bool


def task_of(task_id: str, row: dict[str, str]) -> Task:
    """Read a task's hash."""
    return Task(
        id=task_id,
        name=row["name"],
        queue=row["queue"],
        tenant=row["tenant"],
        document_id=row["document"],
        generation=int(row["generation"]),
        state=TaskState(row["state"]),
        stage=row.get("stage", "queued"),
        fence=int(row["fence"]),
        owner=row.get("owner", ""),
        attempt=int(row["attempt"]),
        parks=int(row.get("parks", 0)),
        done=int(row["done"]),
        total=int(row.get("total", 0)),
        chunk_file=row.get("chunk_file", ""),
        result=_loads(row.get("result")),
        error=_loads(row.get("error")),
        created_at=float(row["created_at"]),
        started_at=_float(row.get("started_at")),
        completed_at=_float(row.get("completed_at")),
        next_at=_float(row.get("next_at")),
    )


def document_of(row: dict[str, str], extra: Extra = "ignore") -> Document:
    """Read a document's hash; the fields that only the edges need are left out.

    Args:
        row: the hash.
        extra: `ignore` fields that this version doesn't know, to show it; `forbid` them, to act on it.

    Raises:
        NewerVersion: a value, or a forbidden field, is one that a newer version may know.
        ValidationError: the row is damaged.
    """
    values: dict[str, Any] = {name: text for name, text in row.items() if name not in _EDGE_FIELDS}
    values |= json.loads(row["upload"])
    if "error" in values:
        values["error"] = json.loads(values["error"])
    try:
        return Document.model_validate(values, extra=extra)
    except ValidationError as error:
        if is_newer(error):
            raise NewerVersion(f"the row of document {row.get('id')}") from error
        raise


def known_documents(rows: Iterable[dict[str, str]], extra: Extra = "ignore") -> list[Document]:
    """Read those of these hashes that are there, as `document_of`; those of a newer version are left out."""
    found = []
    for row in filter(None, rows):
        with suppress(NewerVersion):
            found.append(document_of(row, extra))
    return found


def claim_of(task_id: str, task: dict[str, str], document: dict[str, str], trace: str = "") -> Claim | None:
    """Read the hashes of a claimed task and its document; None where a newer version wrote one of them."""
    known = known_documents([document], "forbid") if task.keys() <= _TASK_FIELDS else []
    return Claim(task_of(task_id, task), known[0], trace) if known else None


def document_fields(document: Document) -> dict[str, str]:
    """Lay a document out as a hash, with the fingerprint by which an unchanged upload is known.

    What no edge reads is one field, `upload`: as fields of their own they take half as much again.
    """
    values = document.model_dump(mode="json", exclude_none=True)
    upload = {name: values.pop(name) for name in _UPLOAD_FIELDS}
    fields = {name: json.dumps(value) if name == "error" else str(value) for name, value in values.items()}
    identity = json.dumps([upload[name] for name in _IDENTITY_FIELDS], sort_keys=True)
    fields["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()
    fields["upload"] = json.dumps(upload, ensure_ascii=False, separators=(",", ":"))
    return fields


def _loads(text: str | None) -> dict[str, Any] | None:
    return json.loads(text) if text else None


def _float(text: str | None) -> float | None:
    return float(text) if text else None
