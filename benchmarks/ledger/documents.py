"""Documents as the API builds them, brought to the point where one no-op task each is left."""

import os
import time
import uuid
from collections.abc import Iterable, Iterator

import redis

from embedfleet.contracts.documents import ChunkOptions, Document, document_id
from embedfleet.contracts.jobs import Job, ProcessDocument
from embedfleet.contracts.states import DocumentState
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part

MODEL_KEY = "sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f2:mean:"
METADATA = {"author": "Ada Lovelace", "department": "research", "year": 1843, "source": "bench"}


def document(number: int, tenant: str = "default") -> Document:
    """Return an upload whose fields are as long as a real one's."""
    key, task_id = f"reports/quarterly-report-{number:06d}.pdf", str(uuid.uuid4())
    identity = document_id(tenant, "reports", key)
    return Document(
        id=identity,
        tenant=tenant,
        collection="reports",
        document_key=key,
        filename=key.rsplit("/", 1)[-1],
        media_type="pdf",
        size_bytes=200_000 + number,
        content_hash=f"{number:064x}",
        options=ChunkOptions(),
        metadata=METADATA,
        model_key=MODEL_KEY,
        state=DocumentState.QUEUED,
        task_id=task_id,
        blob=f"uploads/{tenant}/{identity}/{task_id}.pdf",
        created_at=time.time(),
        updated_at=time.time(),
        uploaded_at=time.time(),
    )


def accepted(ledger: Ledger, numbers: Iterable[int]) -> Iterator[Job]:
    """Accept documents; yield their document jobs, not published."""
    for number in numbers:
        yield from ledger.accept(document(number)).publish


def chunked(ledger: Ledger, numbers: Iterable[int]) -> Iterator[Job]:
    """Accept documents and end their document tasks; yield one embedding job each, not published."""
    for job in accepted(ledger, numbers):
        claim = ledger.claim(ProcessDocument(task_id=job.task_id, sequence=job.sequence), "bench")
        if not isinstance(claim, Claim):
            raise RuntimeError(f"the claim was refused: {claim}")
        part = Part(str(uuid.uuid4()), 0, 8, f"chunks/default/{claim.document.id}/1/0")
        yield from ledger.chunked(claim, [part], {"success": True, "chunk_count": 8}) or []


def used_memory(client: redis.Redis) -> int:
    """Return the bytes that Redis has allocated."""
    return int(client.info("memory")["used_memory"])


def scale() -> float:
    """Return by how much to shrink every count: `LEDGER_BENCH_SCALE`, 1 for the figures of the issue."""
    return float(os.environ.get("LEDGER_BENCH_SCALE", "1"))
