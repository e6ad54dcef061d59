"""Uploads above a limit: refused before anything is stored, with a code and a time to come back."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedfleet.api.uploads.admission import RETRY_SECONDS, refusal
from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.records import Claim, Load, Part
from embedfleet.runtime.settings import AdmissionSettings
from tests.api.serving import ALPHA_KEY, BETA_KEY, Api, base_env, fetch, keys_json, send, serving

LIMITS = AdmissionSettings(
    max_queued_documents=5,
    max_documents_per_key=3,
    max_queued_tokens=100,
    redis_memory_limit=0.7,
    min_free_disk=1000,
)
WAIT_SECONDS = 20
NONE = AdmissionSettings(
    max_queued_documents=0,
    max_documents_per_key=0,
    max_queued_tokens=0,
    redis_memory_limit=0,
    min_free_disk=0,
)


@pytest.mark.parametrize(
    ("load", "free", "code"),
    [
        (Load(4, 2, 99, 0.69), 1000, ""),
        (Load(5, 3, 100, 0.7), 999, "too_many_documents"),
        (Load(5, 2, 100, 0.7), 999, "queue_full"),
        (Load(4, 2, 100, 0.7), 999, "backlog_full"),
        (Load(4, 2, 99, 0.7), 999, "redis_full"),
        (Load(4, 2, 99, 0.69), 999, "disk_full"),
    ],
)
def test_the_first_limit_that_is_reached_is_told(load: Load, free: int, code: str) -> None:
    error = refusal(load, free, "office", LIMITS)
    assert (error.code if error else "") == code
    if error:
        assert error.status == (429 if code == "too_many_documents" else 503)
        assert error.retryable
        assert "send this file again" in error.detail
    assert refusal(load, free, "office", NONE) is None


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis whose memory the tests limit."""
    with RedisServer(tmp_path_factory.mktemp("admission") / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def server(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that takes three documents of a key, and four in all."""
    folder = tmp_path_factory.mktemp("admission-api")
    env = base_env(redis.url, folder) | {
        "FLEET_API_KEYS": keys_json(),
        "FLEET_MAX_DOCUMENTS_PER_KEY": "3",
        "FLEET_MAX_QUEUED_DOCUMENTS": "4",
        "FLEET_MAX_QUEUED_TOKENS": "100",
    }
    with serving(env, folder) as running:
        yield running


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    """The same with nothing under way."""
    server.redis.delete("load")
    yield server
    server.redis.flushall()


def client(api: Api, key: str) -> httpx.Client:
    return api.client(**{"X-API-Key": key})


def expect(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["retryable"]
    assert RETRY_SECONDS[code] <= int(answer.headers["retry-after"]) <= 2 * RETRY_SECONDS[code]


def until_taken(upload: Callable[[], httpx.Response]) -> dict[str, Any]:
    """Send until it is taken: a refusal may be by a reading of a second ago."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (answer := upload()).status_code != 202:
        assert time.monotonic() < deadline, answer.text
        assert int(answer.headers["retry-after"]) > 0
    body: dict[str, Any] = answer.json()
    return body


def metrics(api: Api) -> dict[str, float]:
    families = text_string_to_metric_families(fetch(f"{api.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    found = {s.labels["reason"]: s.value for s in samples if s.name == "fleet_admission_refusals_total"}
    return found | {s.name: s.value for s in samples if s.name == "fleet_queue_tokens"}


def counted(api: Api) -> dict[tuple[str, str], float]:
    """Return what the api exports of each queue."""
    families = text_string_to_metric_families(fetch(f"{api.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    names = ("fleet_queue_depth", "fleet_queue_inflight")
    return {(s.name, s.labels["queue"]): s.value for s in samples if s.name in names}


def test_a_key_has_its_limit_and_the_fleet_another(api: Api) -> None:
    before = metrics(api)
    with client(api, ALPHA_KEY) as alpha, client(api, BETA_KEY) as beta:
        first, *_ = [until_taken(lambda n=n: send(alpha, f"{n}.txt")) for n in range(3)]
        stored = api.stored()
        expect(send(alpha, "4.txt"), 429, "too_many_documents")
        assert "alpha's key" in send(alpha, "4.txt").json()["detail"]
        assert api.stored() == stored
        until_taken(lambda: send(beta, "1.txt"))
        stored = api.stored()
        expect(send(beta, "2.txt"), 503, "queue_full")
        assert api.stored() == stored
        after = metrics(api)
        assert after["too_many_documents"] == before["too_many_documents"] + 2
        assert after["queue_full"] == before["queue_full"] + 1
        # What makes room is never refused.
        assert alpha.post(f"/api/v1/tasks/{first['task_id']}/revoke").json()["success"]
        document = alpha.get("/api/v1/documents").json()["documents"][0]
        assert alpha.delete(f"/api/v1/documents/{document['id']}").status_code == 202
        assert until_taken(lambda: send(alpha, "4.txt"))
        assert until_taken(lambda: send(beta, "2.txt"))


def test_an_unchanged_upload_is_refused_like_any_other_and_then_answered_as_such(api: Api) -> None:
    with client(api, ALPHA_KEY) as alpha:
        ids = [until_taken(lambda n=n: send(alpha, f"same-{n}.txt")) for n in range(3)]
        expect(send(alpha, "same-0.txt"), 429, "too_many_documents")
        alpha.post(f"/api/v1/tasks/{ids[2]['task_id']}/revoke")
        again = until_taken(lambda: send(alpha, "same-0.txt"))
        assert again["task_id"] == ids[0]["task_id"]
        assert "nothing to do" in again["message"]


def test_the_body_of_a_refused_upload_is_not_waited_for(api: Api) -> None:
    with client(api, ALPHA_KEY) as alpha:
        for number in range(3):
            until_taken(lambda number=number: send(alpha, f"body-{number}.txt"))
        expect(send(alpha, "body.txt"), 429, "too_many_documents")
    address = urlsplit(api.url)
    assert address.hostname
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        head = f"POST /api/v1/documents/upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {ALPHA_KEY}\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(65_536).decode()
    assert answer.startswith("HTTP/1.1 429")
    assert "retry-after: " in answer.lower()


def test_tokens_that_wait_refuse_uploads_until_they_are_embedded(api: Api) -> None:
    with client(api, ALPHA_KEY) as alpha:
        task_id = until_taken(lambda: send(alpha, "long.txt"))["task_id"]
        claim = api.ledger.claim(ProcessDocument(task_id=task_id), "w")
        assert isinstance(claim, Claim)
        # What an autoscaler counts, zeros included; the messages of other tests wait here, too.
        assert counted(api)["fleet_queue_inflight", "documents"] == 1
        assert counted(api)["fleet_queue_inflight", "embeddings"] == 0
        assert counted(api)["fleet_queue_depth", "documents"] == api.ledger.queued("documents") > 0
        assert counted(api)["fleet_queue_depth", "embeddings"] == 0
        assert api.ledger.chunked(claim, [Part("part", 0, 1, "f", 100)], {})
        assert metrics(api)["fleet_queue_tokens"] == 100
        expect(send(alpha, "other.txt"), 503, "backlog_full")
        claim = api.ledger.claim(GenerateEmbeddings(task_id="part"), "w")
        assert isinstance(claim, Claim)
        assert api.ledger.embedded(claim, {})
        assert until_taken(lambda: send(alpha, "other.txt"))


def test_a_redis_that_fills_up_refuses_uploads_and_serves_the_rest(api: Api, redis: RedisServer) -> None:
    with client(api, ALPHA_KEY) as alpha:
        task_id = until_taken(lambda: send(alpha, "early.txt"))["task_id"]
        api.redis.set("ballast", "x" * 5_000_000)  # so that a connection more or less makes no difference
        used = int(api.redis.info("memory")["used_memory"])
        api.redis.config_set("maxmemory", int(used / 0.8))
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while (answer := send(alpha, "late.txt")).status_code == 202:  # by the INFO of a second ago
                assert time.monotonic() < deadline
            expect(answer, 503, "redis_full")
            assert alpha.get(f"/api/v1/tasks/{task_id}").status_code == 200
            assert alpha.post(f"/api/v1/tasks/{task_id}/revoke").json()["success"]
        finally:
            api.redis.config_set("maxmemory", 0)
        assert until_taken(lambda: send(alpha, "late.txt"))


def test_a_disk_that_fills_up_refuses_uploads(tmp_path: Path, redis: RedisServer) -> None:
    env = base_env(redis.url, tmp_path) | {"FLEET_MIN_FREE_DISK": str(10**18)}
    with serving(env, tmp_path) as api, api.client() as anyone:
        expect(send(anyone), 503, "disk_full")
        assert [*api.blobs.keys("uploads"), *api.blobs.keys("pending")] == []


def test_a_backlog_is_told_as_what_a_document_waits_for(api: Api) -> None:
    with client(api, ALPHA_KEY) as alpha:
        ids = until_taken(lambda: send(alpha, "waits.txt"))
        api.ledger.beat("documents", "worker", [])
        api.redis.hset("load", "resume_at", 50)
        task = alpha.get(f"/api/v1/tasks/{ids['task_id']}").json()
        assert task["wait_reason"] == task["document"]["wait_reason"] == "EMBEDDINGS_BACKLOG"
        assert isinstance(api.ledger.claim(ProcessDocument(task_id=ids["task_id"]), "w"), str)
        api.redis.hdel("load", "resume_at")
        assert isinstance(api.ledger.claim(ProcessDocument(task_id=ids["task_id"]), "w"), Claim)
        api.redis.hset("load", "resume_at", 50)
        document = alpha.get(f"/api/v1/documents/{ids['document_id']}").json()
        assert (document["state"], document["wait_reason"]) == ("PARSING", None)
