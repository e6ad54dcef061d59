"""Why an unfinished task or document isn't being worked on right now."""

from embedfleet.contracts.documents import Document
from embedfleet.contracts.jobs import Queue
from embedfleet.contracts.states import DocumentState, TaskState, WaitReason
from embedfleet.runtime.ledger.records import Task
from embedfleet.runtime.ledger.views import LedgerViews


class Waits:
    """Reasons for one request; each pool is looked up once at most."""

    def __init__(self, ledger: LedgerViews) -> None:
        self._ledger = ledger
        self._pools: dict[str, WaitReason | None] = {}

    def of_task(self, task: Task) -> WaitReason | None:
        """Return the reason, or None for a task that runs or has ended."""
        if task.state is TaskState.RETRY:
            return WaitReason.RETRY_SCHEDULED
        if task.state is TaskState.PENDING:
            return self._pool(task.queue) or WaitReason.QUEUED
        return None

    def of_document(self, document: Document) -> WaitReason | None:
        """Return the reason, or None for a document that is worked on or has ended."""
        if document.state is DocumentState.QUEUED:
            return self._pool(self._ledger.queue_of(document)) or WaitReason.QUEUED
        if document.state is DocumentState.PARSING:
            # What is in hand goes on, whatever the backlog.
            reason = self._pool(self._ledger.queue_of(document))
            return None if reason is WaitReason.EMBEDDINGS_BACKLOG else reason
        if document.state is DocumentState.EMBEDDING:
            return self._pool(Queue.EMBEDDINGS)
        return None

    def _pool(self, queue: str) -> WaitReason | None:
        """Return what keeps a whole pool from working."""
        if queue not in self._pools:
            pool = self._ledger.pool(queue)
            if not pool.workers:
                self._pools[queue] = WaitReason.NO_WORKER
            elif pool.parked >= pool.workers:
                self._pools[queue] = WaitReason.DEPENDENCY_DOWN
            else:
                self._pools[queue] = WaitReason.EMBEDDINGS_BACKLOG if pool.is_held else None
        return self._pools[queue]
