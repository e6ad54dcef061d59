"""Documents and claims for tests of the ledger and of the worker loop."""

from embedfleet.contracts.documents import ChunkOptions, Document, document_id
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import DocumentState
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim


def upload(
    task_id: str = "t1", *, content: str = "one", key: str = "a.txt", tenant: str = "default"
) -> Document:
    """Return a document as the API builds it from an upload."""
    return Document(
        id=document_id(tenant, "notes", key),
        tenant=tenant,
        collection="notes",
        document_key=key,
        filename=key,
        media_type="text",
        size_bytes=3,
        content_hash=content,
        options=ChunkOptions(),
        model_key="model",
        state=DocumentState.QUEUED,
        task_id=task_id,
        blob=f"uploads/{tenant}/{document_id(tenant, 'notes', key)}/{task_id}.txt",
        created_at=0,
        updated_at=0,
    )


def claim(ledger: Ledger, job: Job, owner: str = "worker") -> Claim:
    """Claim a task that must be free."""
    claimed = ledger.claim(job, owner)
    assert isinstance(claimed, Claim), claimed
    return claimed


def given_back(hand_backs: HandBacks) -> list[Job]:
    """Do what the janitor does with notes; return what it publishes."""
    return [job for key in hand_backs.noted() for job in hand_backs.repeat(key)]
