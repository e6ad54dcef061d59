import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument, Queue
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part
from tests.api.serving import GAMMA_KEY, Api, base_env, send, serving, wait_until


@pytest.fixture
def ledger(api: Api) -> Ledger:
    return api.ledger


def claim(
    ledger: Ledger, task_id: str, job: type[ProcessDocument | GenerateEmbeddings] = ProcessDocument
) -> Claim:
    claimed = ledger.claim(job(task_id=task_id), "worker")
    assert isinstance(claimed, Claim), claimed
    return claimed


def chunk(ledger: Ledger, task_id: str, chunks: int = 3) -> str:
    """Do a document task's work; return the id of its embedding task."""
    part = Part(str(uuid.uuid4()), 0, chunks, "chunks/0")
    result = {"success": True, "task_id": task_id, "chunk_count": chunks}
    assert ledger.chunked(claim(ledger, task_id), [part], result)
    return part.task_id


def upload(client: httpx.Client) -> dict[str, str]:
    answer: dict[str, str] = send(client, document_key=str(uuid.uuid4()), metadata='{"from": "test"}').json()
    return answer


def test_one_address_tells_the_whole_way(alpha: httpx.Client, ledger: Ledger) -> None:
    ids = upload(alpha)

    def now() -> dict[str, object]:
        task: dict[str, object] = alpha.get(f"/api/v1/tasks/{ids['task_id']}").json()
        return task

    task = now()
    assert (task["status"], task["stage"]) == ("PENDING", "queued")
    assert task["task_name"] == "embedfleet.documents.process_document_task"
    assert task["metadata"] == {"from": "test"}
    assert task["document"] == {
        "id": ids["document_id"],
        "state": "QUEUED",
        "progress": {"done": 0, "total": None},
        "error": None,
        "wait_reason": task["wait_reason"],
    }
    assert (task["result"], task["error"], task["started_at"], task["completed_at"]) == (None,) * 4

    embedding = chunk(ledger, ids["task_id"])
    task = now()
    assert (task["status"], task["wait_reason"]) == ("SUCCESS", None)
    assert task["result"] == {"success": True, "task_id": ids["task_id"], "chunk_count": 3}
    assert task["document"]["state"] == "EMBEDDING"  # type: ignore[index]
    assert task["document"]["progress"] == {"done": 0, "total": 3}  # type: ignore[index]
    times = [str(task[name]) for name in ("created_at", "started_at", "completed_at")]
    assert all(time.endswith("Z") for time in times)
    assert sorted(times, key=datetime.fromisoformat) == times
    assert datetime.fromisoformat(times[0]).utcoffset() == timedelta(0)

    assert ledger.embedded(claim(ledger, embedding, GenerateEmbeddings), {"success": True}) is True
    assert now()["document"]["state"] == "READY"  # type: ignore[index]
    assert now()["document"]["progress"] == {"done": 3, "total": 3}  # type: ignore[index]
    document = alpha.get(f"/api/v1/documents/{ids['document_id']}").json()
    assert (document["state"], document["live_generation"]) == ("READY", 1)
    assert document["ready_at"].endswith("Z")


def test_failure_has_a_code_and_a_sentence_and_no_traceback(alpha: httpx.Client, ledger: Ledger) -> None:
    ids = upload(alpha)
    ledger.fail(
        claim(ledger, ids["task_id"]), DocumentProcessingError("The file is damaged."), retryable=False
    )
    task = alpha.get(f"/api/v1/tasks/{ids['task_id']}").json()
    problem = {"code": "corrupt", "detail": "The file is damaged.", "retryable": False}
    assert (task["status"], task["error"]) == ("FAILURE", problem)
    assert (task["document"]["state"], task["document"]["error"]) == ("FAILED", problem)


def test_wait_reasons(api: Api, alpha: httpx.Client, ledger: Ledger) -> None:
    ids = upload(alpha)

    def reason() -> object:
        return alpha.get(f"/api/v1/tasks/{ids['task_id']}").json()["wait_reason"]

    try:
        assert reason() == "NO_WORKER"
        ledger.beat(Queue.DOCUMENTS, "worker", [])
        assert reason() == "QUEUED"
        ledger.beat(Queue.DOCUMENTS, "worker", [], parked="qdrant")
        assert reason() == "DEPENDENCY_DOWN"
        claimed = claim(ledger, ids["task_id"])
        assert reason() is None
        ledger.fail(claimed, DocumentProcessingError("odd"), retryable=True)
        assert reason() == "RETRY_SCHEDULED"
    finally:
        api.redis.delete("workers:documents", "parked_workers:documents", "parked:documents")


def test_revoke_stops_the_whole_document(alpha: httpx.Client, ledger: Ledger) -> None:
    ids = upload(alpha)
    embedding = chunk(ledger, ids["task_id"])
    answer = alpha.post(f"/api/v1/tasks/{ids['task_id']}/revoke")
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert answer.json()["task_id"] == ids["task_id"]
    task = alpha.get(f"/api/v1/tasks/{embedding}").json()
    assert (task["status"], task["document"]["state"]) == ("REVOKED", "REVOKED")

    again = alpha.post(f"/api/v1/tasks/{ids['task_id']}/revoke")
    assert (again.status_code, again.json()["success"]) == (200, True)
    assert "before" in again.json()["message"]


def test_revoke_of_a_finished_document_is_409_with_its_state(alpha: httpx.Client, ledger: Ledger) -> None:
    ids = upload(alpha)
    ledger.fail(claim(ledger, ids["task_id"]), DocumentProcessingError("odd"), retryable=False)
    answer = alpha.post(f"/api/v1/tasks/{ids['task_id']}/revoke")
    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (
        409,
        "already_ended",
        "FAILED",
    )


def test_revoke_of_a_replaced_upload_leaves_the_newer_alone(alpha: httpx.Client) -> None:
    key = str(uuid.uuid4())
    old = send(alpha, document_key=key, metadata='{"year": 2024}').json()
    new = send(alpha, document_key=key, content=b"newer", metadata='{"year": 2026}').json()
    answer = alpha.post(f"/api/v1/tasks/{old['task_id']}/revoke")
    assert (answer.status_code, answer.json()["code"]) == (409, "superseded")
    assert "newer upload" in answer.json()["detail"]
    assert alpha.get(f"/api/v1/tasks/{new['task_id']}").json()["status"] == "PENDING"
    told = [alpha.get(f"/api/v1/tasks/{one['task_id']}").json()["metadata"] for one in (old, new)]
    assert told == [{}, {"year": 2026}], "never that of another upload"


@pytest.fixture
def gamma(api: Api) -> Iterator[httpx.Client]:
    """A client of a tenant that nothing else uploads for."""
    with api.client(**{"X-API-Key": GAMMA_KEY}) as client:
        yield client


def test_lists_are_filtered_counted_and_limited(gamma: httpx.Client, ledger: Ledger) -> None:
    ids = [upload(gamma)["task_id"] for _ in range(3)]
    claim(ledger, ids[0])
    for path in ("/api/v1/tasks", "/api/v1/tasks/"):
        started = gamma.get(path, params={"status": "STARTED"}).json()
        assert ([task["task_id"] for task in started["tasks"]], started["total"]) == ([ids[0]], 1)
    some = gamma.get("/api/v1/tasks/", params={"status": ["PENDING", "STARTED"], "limit": 2}).json()
    assert len(some["tasks"]) == 2
    assert some["total"] == 3
    everything = gamma.get("/api/v1/tasks/").json()["tasks"]
    assert {task["task_id"] for task in everything} == set(ids)
    assert all(task["metadata"] == {"from": "test"} for task in everything)

    documents = gamma.get("/api/v1/documents", params={"collection": "notes", "limit": 2}).json()
    assert (len(documents["documents"]), documents["total"]) == (2, 3)
    assert gamma.get("/api/v1/documents/", params={"collection": "other"}).json() == {
        "documents": [],
        "total": 0,
        "next_cursor": None,
    }


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x"])
def test_bad_limits_say_which_field(alpha: httpx.Client, query: str) -> None:
    answer = alpha.get(f"/api/v1/tasks/?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"].startswith("limit: ")


@pytest.mark.parametrize("query", ["status=DONE", "status=", "limit=5&status=STARTED&status=X"])
def test_a_bad_status_is_told_the_known_ones(alpha: httpx.Client, query: str) -> None:
    answer = alpha.get(f"/api/v1/tasks/?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_status")
    assert answer.json()["detail"] == (
        "status: it is one of PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED."
    )


@pytest.mark.parametrize("method_and_path", ["GET /api/v1/tasks/{task}", "POST /api/v1/tasks/{task}/revoke"])
def test_unknown_and_foreign_tasks_are_404(
    alpha: httpx.Client, beta: httpx.Client, method_and_path: str
) -> None:
    method, path = method_and_path.split()
    foreign = upload(alpha)["task_id"]
    for task in (foreign, str(uuid.uuid4()), "x", "%00", "..%2f..", "x" * 2000):
        answer = beta.request(method, path.format(task=task))
        assert answer.status_code == 404, task
        assert answer.json()["code"] in ("task_not_found", "no_such_route")
    assert alpha.get(f"/api/v1/tasks/{foreign}").json()["status"] == "PENDING"


def test_foreign_document_is_404(alpha: httpx.Client, beta: httpx.Client) -> None:
    foreign = upload(alpha)["document_id"]
    answer = beta.get(f"/api/v1/documents/{foreign}")
    assert (answer.status_code, answer.json()["code"]) == (404, "document_not_found")


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Api]:
    """A server that keeps a finished task for a second."""
    with RedisServer(tmp_path / "redis") as redis:
        env = base_env(redis.url, tmp_path) | {"FLEET_RESULT_EXPIRES": "1"}
        with serving(env, tmp_path) as running:
            yield running


def test_expired_task_is_410_and_its_document_stays(forgetful: Api) -> None:
    with forgetful.client() as client:
        ids = upload(client)
        path = f"/api/v1/tasks/{ids['task_id']}"
        assert client.post(f"{path}/revoke").json()["success"]
        wait_until(lambda: client.get(path).status_code != 200, 10)
        for answer in (client.get(path), client.post(f"{path}/revoke")):
            assert (answer.status_code, answer.json()["code"]) == (410, "task_expired")
        assert client.get(f"/api/v1/documents/{ids['document_id']}").json()["state"] == "REVOKED"
