"""/api/v1/documents: take uploads, show and delete documents."""

import hashlib
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from embedfleet.api.answers import DeleteAnswer, DocumentAnswer, DocumentList, UploadAnswer
from embedfleet.api.dependencies import Caller, CallerOf, Services, ServicesOf, Tenant
from embedfleet.api.http.cursors import next_cursor, place_of
from embedfleet.api.http.problems import documented
from embedfleet.api.http.queries import NO_QUERY, PageQuery
from embedfleet.api.uploads.metadata import CollectionName
from embedfleet.api.uploads.upload import UploadForm, clean_filename, extension_of, form_schema, received
from embedfleet.api.waits import Waits
from embedfleet.contracts.documents import Document, document_id
from embedfleet.contracts.errors import InvalidRequest, NotFound
from embedfleet.contracts.states import DocumentState, TaskState
from embedfleet.documents.file_types import HEAD_BYTES, check_type
from embedfleet.runtime import tracing
from embedfleet.runtime.blobs import upload_key
from embedfleet.runtime.ledger.records import Acceptance

COPY_BYTES = 1 << 20

router = APIRouter(prefix="/api/v1/documents", tags=["documents"], responses=documented(401, 403, 422, 503))

_log = logging.getLogger(__name__)


class DocumentQuery(PageQuery):
    """Which documents."""

    collection: CollectionName | None = None


def admitted(request: Request, caller: CallerOf, services: ServicesOf) -> Caller:
    """Let a caller send a file while there is room; the body isn't read yet."""
    size = request.headers.get("content-length", "")
    services.admission.expect(caller.tenant, caller.key, int(size) if size.isdecimal() else 0)
    return caller


@router.post(
    "/upload",
    status_code=202,
    dependencies=NO_QUERY,
    openapi_extra=form_schema(),
    responses=documented(400, 408, 413, 415, 429),
)
async def upload(
    request: Request, response: Response, caller: Annotated[Caller, Depends(admitted)], services: ServicesOf
) -> UploadAnswer:
    """Take a file; the answer comes at once, and `Location` is where to ask for its task.

    The same file with the same options under the same key is not processed again: the answer has the
    ids of the first upload. Anything else under the same key becomes the document's next generation.

    `metadata` may hold fractional numbers and every hit shows them, but search can't filter by them: store
    what you filter by as a string, an integer or a boolean.

    429 (your limit) and 503 (the fleet's) say in `Retry-After` when to send the file again; it becomes the
    same document, should the first one have arrived after all. With 429 wait until some of your documents
    have ended.
    """
    with tracing.span("upload", request.headers.get("traceparent", ""), "SERVER"):
        async with received(request) as (form, file):
            answer = await run_in_threadpool(accept, services, caller, form, file)
            tracing.note(task_id=answer.task_id, document_id=answer.document_id, size_bytes=file.size)
    response.headers["Location"] = f"/api/v1/tasks/{answer.task_id}"
    return answer


@router.get("/")
@router.get("", include_in_schema=False)
def documents(tenant: Tenant, services: ServicesOf, query: Annotated[DocumentQuery, Query()]) -> DocumentList:
    """List documents, newest first: by when each was first uploaded, whatever came under its key since.

    From page to page every document comes once that is there all the while; what is uploaded meanwhile is in
    front of the first page.
    """
    after = place_of("documents", query.cursor)
    page = services.ledger.documents(tenant, query.collection, query.limit, after)
    waits = Waits(services.ledger)
    return DocumentList(
        documents=[DocumentAnswer.of(one, waits.of_document(one)) for one in page.items],
        total=page.total,
        next_cursor=next_cursor("documents", page.following),
    )


@router.get("/{document_id}", dependencies=NO_QUERY, responses=documented(404))
def document(document_id: str, tenant: Tenant, services: ServicesOf) -> DocumentAnswer:
    """Show one document."""
    found = services.ledger.document(tenant, document_id)
    if found is None:
        raise _not_found(document_id)
    return DocumentAnswer.of(found, Waits(services.ledger).of_document(found))


@router.delete("/{document_id}", status_code=202, dependencies=NO_QUERY, responses=documented(404))
def delete(document_id: str, tenant: Tenant, services: ServicesOf) -> DeleteAnswer:
    """Delete a document: its unfinished tasks stop, and search shows nothing of it from now on.

    Its points and files are removed within seconds. Until then the same request answers 202 again,
    afterwards 404. What a worker that was processing it still stores is removed as well. An upload under the
    same key that comes meanwhile is a new document and stays.
    """
    if not services.deletion.document(tenant, document_id):
        raise _not_found(document_id)
    _log.info("deleted", extra={"document_id": document_id, "tenant": tenant})
    return DeleteAnswer(
        document_id=document_id, message=f"Document {document_id} is deleted; its points and files are going."
    )


def _not_found(document_id: str) -> NotFound:
    return NotFound(f"There is no document {document_id[:64]} of yours.", code="document_not_found")


def accept(services: Services, caller: Caller, form: UploadForm, file: UploadFile) -> UploadAnswer:
    """Check a file, store it and queue it; blocks.

    Raises:
        InvalidRequest: its name or size is not taken; nothing was stored.
        DocumentProcessingError: its type is not taken, or it is empty; nothing was stored.
        Overloaded: there is no room; nothing was stored.
        DependencyDown: Redis or the blobs can't be reached.
    """
    filename, limit = clean_filename(file.filename or ""), services.settings.max_upload_bytes
    size = file.size or 0
    if size > limit:
        raise InvalidRequest(f"The file is larger than {limit:,} bytes.", code="too_large", status=413)
    media_type = check_type(extension_of(filename), file.file.read(HEAD_BYTES))
    # Also finds that Redis is down: then the answer must not wait for the disk.
    services.admission.check(caller.tenant, caller.key, size)
    new = _document(caller, form, filename, media_type, size, services.encoder.model_key)
    digest = hashlib.sha256()
    services.blobs.put(new.blob, _copied(file.file, digest))
    new.content_hash = digest.hexdigest()
    acceptance = services.intake.accept(new)
    event = "unchanged" if acceptance.unchanged else "accepted"
    _log.info(event, extra={"task_id": acceptance.task_id, "document_id": new.id, "tenant": new.tenant})
    return _answer(services, new.tenant, new, acceptance)


def _document(
    caller: Caller, form: UploadForm, filename: str, media_type: str, size: int, model_key: str
) -> Document:
    key, task_id, now = form.document_key or filename, str(uuid.uuid4()), time.time()
    identity = document_id(caller.tenant, form.collection, key)
    return Document(
        id=identity,
        tenant=caller.tenant,
        collection=form.collection,
        document_key=key,
        filename=filename,
        media_type=media_type,
        size_bytes=size,
        content_hash="",
        options=form.options,
        metadata=form.metadata,
        model_key=model_key,
        state=DocumentState.QUEUED,
        task_id=task_id,
        blob=upload_key(caller.tenant, identity, task_id, extension_of(filename)),
        created_at=now,
        updated_at=now,
        uploaded_at=now,
        uploaded_by=caller.key,
    )


def _copied(file: BinaryIO, digest: "hashlib._Hash") -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(COPY_BYTES):
        digest.update(piece)
        yield piece


def _answer(services: Services, tenant: str, new: Document, acceptance: Acceptance) -> UploadAnswer:
    status, message = TaskState.PENDING, f"{new.filename} is queued"
    if acceptance.unchanged:
        task = services.ledger.task(tenant, acceptance.task_id)
        status = task.state if task else TaskState.SUCCESS
        message = f"{new.filename} is here already with the same content and options; nothing to do"
    elif acceptance.generation > 1:
        message = f"{new.filename} is queued as generation {acceptance.generation} of its document"
    return UploadAnswer(task_id=acceptance.task_id, document_id=new.id, status=status, message=message)
