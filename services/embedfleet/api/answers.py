"""What the routes answer with. Times are UTC; ids are strings."""

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from embedfleet.api.http.cursors import NextCursor
from embedfleet.contracts.documents import ChunkOptions, Document
from embedfleet.contracts.states import DocumentState, TaskState, WaitReason
from embedfleet.runtime.ledger.queues import QueueState
from embedfleet.runtime.ledger.records import Task


class Progress(BaseModel):
    """How far the work is; `total` is null until it is known."""

    done: int
    total: int | None


class ErrorAnswer(BaseModel):
    """Why something failed, and whether the same file may succeed later."""

    code: str
    detail: str
    retryable: bool


class UploadAnswer(BaseModel):
    """An upload was taken, or was here already."""

    task_id: str
    document_id: str
    status: TaskState
    message: str


class DocumentPart(BaseModel):
    """The document that a task works on: what a user waits for."""

    id: str
    state: DocumentState
    progress: Progress = Field(description="Chunks whose vectors are stored, of all.")
    error: ErrorAnswer | None
    wait_reason: WaitReason | None

    @classmethod
    def of(cls, document: Document, wait_reason: WaitReason | None) -> Self:
        """Return the part for a record."""
        return cls(
            id=document.id,
            state=document.state,
            progress=Progress(done=document.chunks_done, total=document.chunk_count),
            error=_error(document.error),
            wait_reason=wait_reason,
        )


class TaskAnswer(BaseModel):
    """One unit of work; `metadata` is what was given with the upload."""

    task_id: str
    status: TaskState
    task_name: str
    result: dict[str, Any] | None
    error: ErrorAnswer | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    progress: Progress = Field(description="Pages or chunks done, of all.")
    metadata: dict[str, Any]
    stage: str
    wait_reason: WaitReason | None = Field(
        description="Why it isn't running; null while it runs or has ended."
    )
    document: DocumentPart | None

    @classmethod
    def of(
        cls,
        task: Task,
        wait_reason: WaitReason | None,
        document: Document | None,
        document_wait_reason: WaitReason | None,
    ) -> Self:
        """Return the answer for a row of the ledger and its document, if that one is still there."""
        return cls(
            task_id=task.id,
            status=task.state,
            task_name=task.name,
            result=task.result,
            error=_error(task.error),
            created_at=_time(task.created_at),
            started_at=_optional_time(task.started_at),
            completed_at=_optional_time(task.completed_at),
            progress=Progress(done=task.done, total=task.total or None),
            metadata=document.metadata if document and document.generation == task.generation else {},
            stage=task.stage,
            wait_reason=wait_reason,
            document=DocumentPart.of(document, document_wait_reason) if document else None,
        )


class TaskList(BaseModel):
    """A page of tasks, newest first; `total` counts all that match, on other pages, too."""

    tasks: list[TaskAnswer]
    total: int
    next_cursor: NextCursor


class RevokeAnswer(BaseModel):
    """Whether there was something to stop."""

    success: bool
    task_id: str
    message: str


class DeleteAnswer(BaseModel):
    """A document is deleted: search shows nothing of it; its points and files are being removed."""

    document_id: str
    message: str


class CollectionDeleteAnswer(BaseModel):
    """A collection's documents are deleted: search shows nothing of them; the rest is being removed."""

    collection: str
    documents: int = Field(description="Documents that this request deleted.")
    message: str


class DocumentAnswer(BaseModel):
    """A document's newest generation; search shows `live_generation` (0: none yet)."""

    id: str
    collection: str
    document_key: str
    filename: str
    media_type: str
    size_bytes: int
    content_hash: str = Field(description="sha256 of the file, in hex.")
    options: ChunkOptions
    metadata: dict[str, Any]
    model_key: str
    state: DocumentState
    wait_reason: WaitReason | None
    generation: int
    live_generation: int
    task_id: str
    progress: Progress = Field(description="Chunks whose vectors are stored, of all.")
    error: ErrorAnswer | None
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None

    @classmethod
    def of(cls, document: Document, wait_reason: WaitReason | None) -> Self:
        """Return the answer for a record."""
        same = document.model_dump(include=set(cls.model_fields) - {"error", "options"})
        times = {
            "created_at": _time(document.created_at),
            "updated_at": _time(document.updated_at),
            "ready_at": _optional_time(document.ready_at),
        }
        return cls(
            **{**same, **times},
            options=document.options,
            wait_reason=wait_reason,
            progress=Progress(done=document.chunks_done, total=document.chunk_count),
            error=_error(document.error),
        )


class DocumentList(BaseModel):
    """A page of documents, newest first; `total` counts all that match, on other pages, too."""

    documents: list[DocumentAnswer]
    total: int
    next_cursor: NextCursor


class QueueAnswer(BaseModel):
    """One queue of the whole fleet, all tenants together."""

    name: str = Field(description="`documents`, `embeddings`, or one of FLEET_DOCUMENT_QUEUES.")
    depth: int = Field(description="Messages that wait.")
    inflight: int = Field(description="Tasks that run.")
    tokens: int | None = Field(description="Of tasks that haven't ended; null where they are not counted.")
    oldest_age_seconds: float = Field(
        description="How long the task whose message comes next has been waiting; 0 when none waits."
    )
    consumers: int = Field(description="Worker processes that take the queue now.")
    parked: int = Field(description="Those of them that wait for a dependency which is down.")
    held: bool | None = Field(
        description="Whether its workers take nothing more until the embedding workers have caught up;"
        " null where none ever have to."
    )

    @classmethod
    def of(cls, queue: QueueState) -> Self:
        """Return the answer for what the ledger counts."""
        return cls(
            name=queue.name,
            depth=queue.depth,
            inflight=queue.inflight,
            tokens=queue.tokens,
            oldest_age_seconds=queue.oldest_age,
            consumers=queue.consumers,
            parked=queue.parked,
            held=queue.held,
        )


class QueueList(BaseModel):
    """All queues at one moment: the two of the fleet, then those for large files."""

    queues: list[QueueAnswer]


def _error(error: dict[str, Any] | None) -> ErrorAnswer | None:
    # A record may hold more (a traceback); only these three are for clients.
    return ErrorAnswer.model_validate(error) if error else None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _optional_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
