"""States of tasks and documents, and which state may follow which.

The two tables below are the only ones: the ledger's Lua script is loaded with them, and the
diagrams in ``docs/states.md`` are drawn from them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)


class TaskState(StrEnum):
    """Celery's six states; a task is one unit of work on one queue."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


class DocumentState(StrEnum):
    """What the user waits for: the state of a document's newest generation."""

    QUEUED = "QUEUED"
    PARSING = "PARSING"
    EMBEDDING = "EMBEDDING"
    READY = "READY"
    FAILED = "FAILED"
    REVOKED = "REVOKED"


class WaitReason(StrEnum):
    """Why an unfinished task is not running right now."""

    QUEUED = "QUEUED"
    NO_WORKER = "NO_WORKER"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    DEPENDENCY_DOWN = "DEPENDENCY_DOWN"
    EMBEDDINGS_BACKLOG = "EMBEDDINGS_BACKLOG"


# PENDING after STARTED is a hand-back (drain, parking) or an expired lease.
TASK_EDGES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.STARTED, TaskState.FAILURE, TaskState.REVOKED}),
    TaskState.STARTED: frozenset(
        {TaskState.PENDING, TaskState.RETRY, TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED}
    ),
    TaskState.RETRY: frozenset({TaskState.STARTED, TaskState.FAILURE, TaskState.REVOKED}),
    TaskState.SUCCESS: frozenset(),
    TaskState.FAILURE: frozenset(),
    TaskState.REVOKED: frozenset(),
}

# QUEUED after any state is a new generation of the same document.
DOCUMENT_EDGES: Mapping[DocumentState, frozenset[DocumentState]] = {
    DocumentState.QUEUED: frozenset(
        {DocumentState.QUEUED, DocumentState.PARSING, DocumentState.FAILED, DocumentState.REVOKED}
    ),
    DocumentState.PARSING: frozenset(
        {DocumentState.QUEUED, DocumentState.EMBEDDING, DocumentState.FAILED, DocumentState.REVOKED}
    ),
    DocumentState.EMBEDDING: frozenset(
        {DocumentState.QUEUED, DocumentState.READY, DocumentState.FAILED, DocumentState.REVOKED}
    ),
    DocumentState.READY: frozenset({DocumentState.QUEUED}),
    DocumentState.FAILED: frozenset({DocumentState.QUEUED}),
    DocumentState.REVOKED: frozenset({DocumentState.QUEUED}),
}

TERMINAL_TASK_STATES = frozenset(state for state, after in TASK_EDGES.items() if not after)
TERMINAL_DOCUMENT_STATES = frozenset(
    state for state, after in DOCUMENT_EDGES.items() if after == {DocumentState.QUEUED}
)


def mermaid(edges: Mapping[State, frozenset[State]], first: State) -> str:
    """Draw a table of edges as a mermaid state diagram, in the table's order."""
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    for source in edges:
        lines += [f"    {source} --> {target}" for target in edges if target in edges[source]]
        if not edges[source]:
            lines.append(f"    {source} --> [*]")
    return "\n".join(lines)
