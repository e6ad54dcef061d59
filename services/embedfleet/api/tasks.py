"""/api/v1/tasks: what became of the work, and how to stop it."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field

from embedfleet.api.answers import RevokeAnswer, TaskAnswer, TaskList
from embedfleet.api.dependencies import Services, ServicesOf, Tenant
from embedfleet.api.http.cursors import next_cursor, place_of
from embedfleet.api.http.problems import documented
from embedfleet.api.http.queries import NO_QUERY, PageQuery
from embedfleet.api.waits import Waits
from embedfleet.contracts.errors import Conflict, Gone, InvalidRequest, NotFound
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState, TaskState
from embedfleet.runtime.ledger.records import Task

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"], responses=documented(401, 403, 422, 503))


def _known_state(value: Any) -> Any:
    if value not in list(TaskState):
        raise InvalidRequest(f"status: it is one of {', '.join(TaskState)}.", code="invalid_status")
    return value


class TaskQuery(PageQuery):
    """Which tasks."""

    status: list[Annotated[TaskState, BeforeValidator(_known_state)]] | None = Field(
        None, description="May be given several times."
    )


@router.get("/")
@router.get("", include_in_schema=False)
def tasks(tenant: Tenant, services: ServicesOf, query: Annotated[TaskQuery, Query()]) -> TaskList:
    """List tasks, newest first: by when each came into its state; finished ones until their details expire.

    From page to page every task comes once that keeps its state all the while. One that changes it moves to
    the front: a list that misses nothing while work goes on is that of documents.
    """
    wanted = list(dict.fromkeys(query.status or TaskState))
    page = services.ledger.tasks(tenant, wanted, query.limit, place_of("tasks", query.cursor))
    return TaskList(
        tasks=_answers(services, tenant, page.items),
        total=page.total,
        next_cursor=next_cursor("tasks", page.following),
    )


@router.get("/{task_id}", dependencies=NO_QUERY, responses=documented(404, 410))
def task(task_id: str, tenant: Tenant, services: ServicesOf) -> TaskAnswer:
    """Show a task and the document it works on: polling this one address is enough."""
    return _answers(services, tenant, [_existing(services, tenant, task_id)])[0]


@router.post("/{task_id}/revoke", dependencies=NO_QUERY, responses=documented(404, 409, 410))
def revoke(task_id: str, tenant: Tenant, services: ServicesOf) -> RevokeAnswer:
    """Stop the work on a task's document, with all its unfinished tasks.

    What was searchable before stays so; nothing of the stopped generation ever is. What has ended already is
    answered 409 with its `state`, but for what was revoked before: that is answered 200 again.
    """
    found = _existing(services, tenant, task_id)
    document = services.ledger.document(tenant, found.document_id)
    if (
        document
        and document.generation == found.generation
        and document.state not in TERMINAL_DOCUMENT_STATES
    ):
        if services.revocations.revoke(document):
            message = f"Document {document.id} and all its unfinished tasks are revoked."
            return RevokeAnswer(success=True, task_id=task_id, message=message)
        document = services.ledger.document(tenant, found.document_id)
    if document is None:
        raise Conflict("Nothing to stop: the document is deleted.", state="DELETED", code="already_ended")
    if document.generation != found.generation:
        raise Conflict(
            "Nothing to stop: a newer upload of the document took this task's place.",
            state=found.state,
            code="superseded",
        )
    if document.state is not DocumentState.REVOKED:
        raise Conflict(
            f"Nothing to stop: the document is {document.state} already.",
            state=document.state,
            code="already_ended",
        )
    message = f"Document {document.id} was revoked before."
    return RevokeAnswer(success=True, task_id=task_id, message=message)


def _existing(services: Services, tenant: str, task_id: str) -> Task:
    found = services.ledger.task(tenant, task_id)
    if found is not None:
        return found
    if services.ledger.has_expired(tenant, task_id):
        raise Gone(
            f"Task {task_id[:64]} has ended and its details have expired; ask for its document instead.",
            code="task_expired",
        )
    raise NotFound(f"There is no task {task_id[:64]} of yours.", code="task_not_found")


def _answers(services: Services, tenant: str, found: Sequence[Task]) -> list[TaskAnswer]:
    waits = Waits(services.ledger)
    documents = services.ledger.documents_by_id(tenant, list({one.document_id for one in found}))
    answers = []
    for one in found:
        document = documents.get(one.document_id)
        wait_reason = waits.of_document(document) if document else None
        answers.append(TaskAnswer.of(one, waits.of_task(one), document, wait_reason))
    return answers
