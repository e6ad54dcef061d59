"""Embedding tasks that are queued all at once: as document tasks leave them, and in one instant.

They are made through the ledger, as ever: accepted, claimed, chunk file stored, chunked. Their messages are
published into another database of the same Redis and moved from there, so that the worker sees none before
all are there.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.ledger.documents import document
from benchmarks.ledger.noop import publish
from embedfleet.contracts.documents import Chunk
from embedfleet.contracts.jobs import Job, ProcessDocument, Queue
from embedfleet.contracts.states import DocumentState
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import Blobs, chunk_prefix
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.ledger.views import TO_SETTLE
from embedfleet.runtime.settings import LedgerSettings

POLL_SECONDS = 0.02
DEADLINE_SECONDS = 600
WAITING_DATABASE = 1


class Early(Exception):
    """Something was published before all was ready; the janitor does so after a while."""


class Stage:
    """The embeddings queue of a fleet.

    Args:
        redis_url: of the fleet, database 0.
        blobs: of the fleet.
        collection: for all documents.
        model_key: of the fleet's worker.
        tokenizer: counts tokens.
    """

    def __init__(
        self, redis_url: str, blobs: Blobs, collection: str, model_key: str, tokenizer: TextTokenizer
    ) -> None:
        self._url = redis_url
        self._client: Any = connect(redis_url)
        self._waiting_url = f"{redis_url.rsplit('/', 1)[0]}/{WAITING_DATABASE}"
        self._waiting: Any = connect(self._waiting_url)
        self._ledger = Ledger(self._client, LedgerSettings())
        self._blobs, self._collection, self._model_key = blobs, collection, model_key
        self._tokenizer = tokenizer
        self._documents = 0

    def run(self, texts: Sequence[str], chunks_a_document: int) -> float:
        """Embed texts as documents of so many chunks; return the seconds from queued to the last task's end.

        Raises:
            Early: the janitor was quicker; try again.
            RuntimeError: it didn't end in time, or a document failed.
        """
        pieces = [texts[at : at + chunks_a_document] for at in range(0, len(texts), chunks_a_document)]
        jobs = dict(self._chunked(piece) for piece in pieces)
        messages = [(job.task_name, job.task_id, job.model_dump()) for job in jobs.values()]
        publish(self._waiting_url, str(Queue.EMBEDDINGS), messages)
        is_early = self._left() != len(jobs)
        began = time.perf_counter()
        is_early |= not self._waiting.move(str(Queue.EMBEDDINGS), 0)
        self._wait(self._left, "not embedded; the log of the embedding worker says why")
        seconds = time.perf_counter() - began
        if is_early:
            self._waiting.flushdb()
            raise Early
        found = self._ledger.documents_by_id("default", list(jobs)).values()
        if failed := [one for one in found if one.state is not DocumentState.READY]:
            raise RuntimeError(f"{len(failed)} of {len(jobs)} documents failed, one with {failed[0].error}")
        return seconds

    def settle(self) -> None:
        """Wait until the janitor has settled all documents that have ended.

        Raises:
            RuntimeError: it didn't in time.
        """
        self._wait(lambda: int(self._client.zcard(TO_SETTLE)), "not settled; the log of the api says why")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._waiting.close()

    def _chunked(self, texts: Sequence[str]) -> tuple[str, Job]:
        """Bring a document to its embedding task; return its id and the job, not published."""
        self._documents += 1
        fields = {"collection": self._collection, "model_key": self._model_key}
        upload = document(self._documents).model_copy(update=fields)
        counts = [len(row) for row in self._tokenizer.encode(texts)]
        chunks = [
            Chunk(index=at, text=text, start=0, end=len(text), token_count=count)
            for at, (text, count) in enumerate(zip(texts, counts, strict=True))
        ]
        (job,) = self._ledger.accept(upload).publish
        claim = self._ledger.claim(ProcessDocument(task_id=job.task_id, sequence=job.sequence), "bench")
        if not isinstance(claim, Claim):
            raise RuntimeError(f"the claim was refused: {claim}")
        file = f"{chunk_prefix(claim.document)}/0"
        self._blobs.put(file, chunkfiles.pack(chunks))
        part = Part(str(uuid.uuid4()), 0, len(chunks), file, sum(counts))
        result = {"success": True, "chunk_count": len(chunks)}
        (embedding,) = self._ledger.chunked(claim, [part], result) or []
        return upload.id, embedding

    def _wait(self, count: Callable[[], int], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while left := count():
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {DEADLINE_SECONDS} s {left} documents are {what}")
            time.sleep(POLL_SECONDS)

    def _left(self) -> int:
        return int(self._client.hget("load", "documents") or 0)
