"""`embedfleet status` and `revoke`: what the fleet does, and how to end it."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table

from embedfleet.cli.client import Client, connect
from embedfleet.cli.ingest.ingestion import progress_of
from embedfleet.cli.output import emit, on_terminal, plain, stdout
from embedfleet.contracts.errors import NotFound
from embedfleet.contracts.jobs import JOBS
from embedfleet.contracts.states import TERMINAL_TASK_STATES, TaskState

LISTED = 1000

Url = Annotated[str, typer.Option(help="The API's address.")]


def status(
    identifier: Annotated[str | None, typer.Argument(metavar="[TASK_ID|DOCUMENT_ID]")] = None, url: Url = ""
) -> None:
    """Show one task or document, or how many tasks there are by state and queue."""
    with connect(url) as client:
        if identifier is None:
            _show_overview(client)
        else:
            _show_one(_find(client, identifier))


def revoke(task_id: Annotated[str, typer.Argument()], url: Url = "") -> None:
    """End a task, its document and all its unfinished tasks."""
    with connect(url) as client:
        answer = client.post(f"/tasks/{path_part(task_id)}/revoke")
    if on_terminal():
        stdout().print(plain(answer.get("message", "revoked")))
    else:
        emit(answer)


def _find(client: Client, identifier: str) -> dict[str, Any]:
    """Return the task of this id, else the document."""
    part = path_part(identifier)
    try:
        return client.get(f"/tasks/{part}")
    except NotFound:
        pass
    try:
        return client.get(f"/documents/{part}")
    except NotFound as error:
        raise NotFound(f"there is no task or document {identifier}", code=error.code) from error


def path_part(identifier: str) -> str:
    """Return an id that can stand in a path.

    Raises:
        typer.BadParameter: it can't be an id.
    """
    if not identifier.isascii() or not identifier.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("an id has letters, digits and - only")
    return identifier


def _show_one(found: dict[str, Any]) -> None:
    """Print a task or a document."""
    if not on_terminal():
        emit(found)
        return
    grid = Table.grid(padding=(0, 2))
    for label, value in _lines(found):
        grid.add_row(label, plain(value))
    stdout().print(grid)


def _lines(found: dict[str, Any]) -> list[tuple[str, object]]:
    """Return what is worth a line of a task or of a document."""
    document = found.get("document") or found
    done, total = progress_of(document)
    error = found.get("error") or document.get("error")
    fields: list[tuple[str, object]] = [
        ("task", found.get("task_id")),
        ("status", found.get("status")),
        ("stage", found.get("stage")),
        ("waits for", found.get("wait_reason")),
        ("document", document.get("id")),
        ("file", document.get("filename")),
        ("state", document.get("state")),
        ("chunks", f"{done}/{total}" if total is not None else None),
        ("error", f"{error.get('code')}: {error.get('detail')}" if isinstance(error, dict) else error),
    ]
    return [(label, value) for label, value in fields if value]


def _show_overview(client: Client) -> None:
    """Print counts of tasks by state, and of unfinished ones by queue."""
    states: dict[str, int] = {}
    queues: Counter[str] = Counter()
    reasons: dict[str, set[str]] = {str(job.queue): set() for job in JOBS}
    more = False
    for state in TaskState:
        limit = 1 if state in TERMINAL_TASK_STATES else LISTED
        answer = client.get("/tasks/", status=str(state), limit=limit)
        tasks, states[state] = answer.get("tasks", []), int(answer.get("total", 0))
        if state not in TERMINAL_TASK_STATES:
            queues.update(_queue_of(task) for task in tasks)
            for task in tasks:
                reasons.setdefault(_queue_of(task), set()).add(str(task.get("wait_reason") or ""))
            more = more or states[state] > len(tasks)
    counted = {str(job.queue): queues[job.queue] for job in JOBS}
    if not on_terminal():
        waits = {queue: sorted(found - {""}) for queue, found in reasons.items()}
        emit({"tasks": states, "unfinished": counted, "unfinished_is_complete": not more, "waits": waits})
        return
    table = Table("state", "tasks")
    for name, count in states.items():
        table.add_row(name, str(count))
    stdout().print(table)
    for queue, count in counted.items():
        why = ", ".join(sorted(reasons[queue] - {""}))
        shown = plain(f" ({why})") if why else ""
        stdout().print(f"{queue}: {'at least ' if more else ''}{count} unfinished{shown}")


def _queue_of(task: dict[str, Any]) -> str:
    """Return the queue of a listed task."""
    return next((str(job.queue) for job in JOBS if job.task_name == task.get("task_name")), "other")
