"""What travels on the queues: references, never text. A message is ≤ 2 KB.

A job is plain data with a stable name and a queue. Producers send by name and never import a
worker. Fields only ever grow, with defaults: old messages are still queued while a new version
rolls out. A message with a field that this version doesn't know is left to a worker that does.

A message may be lost at any time, and a janitor, perhaps one of an older version, writes it anew from the
task's row. So what a worker must know of a task lives in its row in the ledger and comes with the claim;
another field of a message than `task_id` and `sequence` would be gone after the first loss.
"""

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

MAX_MESSAGE_BYTES = 2048
# An autoscaler counts the queues' lists and these keys, nothing else: `helm/embedfleet/files/contract.json`.
LEASES = "leases:"


class Queue(StrEnum):
    """The Redis lists that workers take; a pool has the name of its queue.

    `contracts/routes.py` adds others for documents. `LEASES` + name is the key of a queue's live leases.
    """

    DOCUMENTS = "documents"
    EMBEDDINGS = "embeddings"


class Job(BaseModel):
    """Base of all jobs.

    Attributes:
        task_id: the task's row in the ledger, and the message's Celery id.
        sequence: number of this publish on its queue; tells the janitor which wake-ups were lost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    task_name: ClassVar[str]
    queue: ClassVar[Queue]

    task_id: str
    sequence: int = 0
    # Not in the message: a worker has no use for it, and a janitor reads it in the task's row.
    _listed_on: str = PrivateAttr("")

    @property
    def destination(self) -> str:
        """The queue to publish it on."""
        return self._listed_on or str(self.queue)

    def on(self, queue: str) -> Self:
        """Return the same job, to be published on another queue than its own."""
        job = self.model_copy()
        job._listed_on = "" if queue == self.queue else queue
        return job


class ProcessDocument(Job):
    """Parse, clean and chunk one generation of one document."""

    task_name = "embedfleet.documents.process_document_task"
    queue = Queue.DOCUMENTS


class GenerateEmbeddings(Job):
    """Embed one chunk file of one generation and store its vectors."""

    task_name = "embedfleet.embeddings.generate_embeddings_task"
    queue = Queue.EMBEDDINGS


JOBS: tuple[type[Job], ...] = (ProcessDocument, GenerateEmbeddings)
JOB_OF_NAME: dict[str, type[Job]] = {job.task_name: job for job in JOBS}
