"""The API's side of the protocol, for tests of the commands: documents end as their name says.

====================  ==========================================================
part of the name      what becomes of the document
====================  ==========================================================
``corrupt``           accepted, then FAILED with the code `corrupt`
``refused``           422 `empty_file` at upload
``busy``              503 with Retry-After: 1 at the first upload
``limited``           429 with Retry-After: 1 at the first upload
``forever``           never ends
``expired``           its task answers 410; the document is READY
anything else         PARSING, EMBEDDING 1/3, then READY with 3 chunks
====================  ==========================================================
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from embedfleet.contracts.documents import document_id
from embedfleet.local.ports import LOOPBACK


def problem(status: int, code: str, detail: str, **headers: str) -> JSONResponse:
    body = {"title": "Refused", "status": status, "code": code, "detail": detail, "retryable": status == 503}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status, headers=names, media_type="application/problem+json")


class Stub:
    """What was uploaded, and how it goes on."""

    def __init__(self) -> None:
        self.url = ""
        self.message = "queued"
        self.wanted_key = ""
        self.forms: dict[str, dict[str, Any]] = {}
        self.uploads: list[tuple[str, float]] = []
        self.polls: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.searches: list[dict[str, Any]] = []
        self.hits: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.most_at_once = 0
        self.at_once = 0

    def knows(self, identifier: str) -> bool:
        return identifier in [form["id"] for form in self.forms.values()]

    def document(self, identifier: str) -> dict[str, Any]:
        key = next(key for key, form in self.forms.items() if form["id"] == identifier)
        polls = self.polls[identifier]
        if "corrupt" in key:
            error = {"code": "corrupt", "detail": "the file is damaged", "retryable": False}
            return {
                "id": identifier,
                "state": "FAILED",
                "progress": {"done": 0, "total": None},
                "error": error,
            }
        if polls == 1 or "forever" in key:
            return {
                "id": identifier,
                "state": "PARSING",
                "progress": {"done": 0, "total": None},
                "error": None,
            }
        if polls == 2:
            return {
                "id": identifier,
                "state": "EMBEDDING",
                "progress": {"done": 1, "total": 3},
                "error": None,
            }
        return {"id": identifier, "state": "READY", "progress": {"done": 3, "total": 3}, "filename": key}


def create(stub: Stub) -> FastAPI:
    app = FastAPI()
    add_uploads(app, stub)
    add_tasks(app, stub)

    @app.delete("/api/v1/{kind}/{name}")
    def delete(kind: str, name: str) -> Any:
        if name == "absent":
            return problem(404, "not_found", "none")
        stub.deleted.append(f"{kind}/{name}")
        return JSONResponse({"message": f"gone: {name}"}, 202)

    @app.middleware("http")
    async def refuse(request: Request, serve: Any) -> Any:
        if stub.wanted_key and request.headers.get("authorization") != f"Bearer {stub.wanted_key}":
            return problem(401, "unauthorized", "Send a valid API key in the header `Authorization: …`.")
        return await serve(request)

    @app.get("/livez")
    @app.get("/readyz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/api/v1/search")
    async def search(request: Request) -> Any:
        stub.searches.append(await request.json())
        if stub.searches[-1]["collection"] == "absent":
            return problem(404, "not_found", "no such collection")
        return {"hits": stub.hits}

    return app


def add_uploads(app: FastAPI, stub: Stub) -> None:
    @app.post("/api/v1/documents/upload")
    async def upload(request: Request) -> Any:
        stub.keys.add(request.headers.get("authorization", ""))
        stub.at_once += 1
        stub.most_at_once = max(stub.most_at_once, stub.at_once)
        async with request.form() as form:
            stub.at_once -= 1
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            file: Any = form["file"]
            fields |= {"bytes": await file.read(), "filename": file.filename}
        key = str(fields["document_key"])
        stub.uploads.append((key, time.monotonic()))
        if "refused" in key:
            return problem(422, "empty_file", "the file has no bytes")
        is_first = [name for name, _ in stub.uploads].count(key) == 1
        if is_first and "busy" in key:
            return problem(503, "queue_full", "the queue is full", Retry_After="1")
        if is_first and "limited" in key:
            return problem(429, "too_many_documents", "your key is at its limit", Retry_After="1")
        identifier = document_id("default", str(fields["collection"]), key)
        stub.forms[key] = {**fields, "id": identifier}
        task = f"task-{identifier}"
        body = {"task_id": task, "document_id": identifier, "status": "PENDING", "message": stub.message}
        return JSONResponse(body, 202)

    @app.get("/api/v1/documents/{identifier}")
    def document(identifier: str) -> Any:
        return stub.document(identifier) if stub.knows(identifier) else problem(404, "not_found", "none")


def add_tasks(app: FastAPI, stub: Stub) -> None:
    @app.get("/api/v1/tasks/")
    def tasks(status: str, limit: int) -> Any:
        name = "embedfleet.documents.process_document_task"
        found = [{"task_id": "t", "task_name": name}] if status == "STARTED" else []
        return {"tasks": found, "total": {"STARTED": 1, "SUCCESS": 7}.get(status, 0)}

    @app.get("/api/v1/tasks/{task_id}")
    def task(task_id: str) -> Any:
        identifier = task_id.removeprefix("task-")
        if identifier == task_id or not stub.knows(identifier):
            return problem(404, "not_found", "no such task")
        stub.polls[identifier] += 1
        if any("expired" in key for key, form in stub.forms.items() if form["id"] == identifier):
            stub.polls[identifier] = 9
            return problem(410, "expired", "its details have expired")
        return {"task_id": task_id, "status": "STARTED", "document": stub.document(identifier), "error": None}

    @app.post("/api/v1/tasks/{task_id}/revoke")
    def revoke(task_id: str) -> Any:
        if task_id == "done":
            return problem(409, "already_ended", "Nothing to stop: the document is READY already.")
        return {"success": True, "task_id": task_id, "message": f"revoke of {task_id}"}


@contextmanager
def serving(stub: Stub) -> Iterator[None]:
    """Serve the stub on a free loopback port."""
    # It listens before the thread begins: who calls early waits for the answer, and nobody polls.
    with socket.create_server((LOOPBACK, 0)) as listening:
        stub.url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(create(stub), log_level="error", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
