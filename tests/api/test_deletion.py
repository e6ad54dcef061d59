"""Deleting over HTTP; the tests play the workers and, where it matters, the janitor."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedfleet.deletions import Deletions
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.tombstones import Tombstones
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import VectorStore
from tests.api.serving import ALPHA_KEY, BETA_KEY, Api, base_env, keys_json, send, serving, wait_until


@pytest.fixture(scope="module")
def api(qdrant_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with an embedded Qdrant, for the tenants alpha and beta."""
    folder = tmp_path_factory.mktemp("deletion")
    with RedisServer(folder / "redis") as redis:
        env = base_env(redis.url, folder) | {"FLEET_API_KEYS": keys_json(), "QDRANT_URL": qdrant_url}
        with serving(env, folder, {"X-API-Key": ALPHA_KEY}) as running:
            wait_until(running.ledger.is_rebuilt, 10)
            yield running


@pytest.fixture
def beta(api: Api) -> Iterator[httpx.Client]:
    with api.client(**{"X-API-Key": BETA_KEY}) as client:
        yield client


def collection() -> str:
    return f"c-{uuid.uuid4()}"


def finish(api: Api, qdrant_url: str) -> None:
    """Do the janitor's part, as if the grace had passed."""
    ledger = api.ledger
    for key in api.redis.scan_iter("deleted:*"):
        api.redis.hset(key, "quiet_at", 0)
    store = VectorStore(VectorSettings(url=qdrant_url))
    deletions, tombstones = Deletions(ledger, api.blobs, store), Tombstones(api.blobs)
    for tombstone in tombstones.at(sorted(api.blobs.keys("deleted"))):
        deletions.carry_out(tombstone)
    store.close()


def test_a_document_is_gone_at_once_and_404_when_all_is_removed(
    api: Api, alpha: httpx.Client, qdrant_url: str
) -> None:
    name = collection()
    ids = send(alpha, collection=name).json()
    path = f"/api/v1/documents/{ids['document_id']}"
    answer = alpha.delete(path)
    assert (answer.status_code, answer.json()["document_id"]) == (202, ids["document_id"])
    assert alpha.get(path).status_code == 404
    assert alpha.get("/api/v1/documents", params={"collection": name}).json()["total"] == 0
    task = alpha.get(f"/api/v1/tasks/{ids['task_id']}").json()
    assert (task["status"], task["error"]["code"], task["document"]) == ("REVOKED", "deleted", None)
    search = alpha.post("/api/v1/search", json={"collection": name, "query": "words"})
    assert (search.status_code, search.json()["code"]) == (404, "no_collection")
    assert alpha.delete(path).status_code == 202
    finish(api, qdrant_url)
    gone = alpha.delete(path)
    assert (gone.status_code, gone.json()["code"]) == (404, "document_not_found")
    assert not [key for key in api.blobs.keys("") if ids["document_id"] in key or ids["task_id"] in key]


def test_an_upload_under_the_key_of_a_deleted_document_is_a_new_one(
    api: Api, alpha: httpx.Client, qdrant_url: str
) -> None:
    name = collection()
    first = send(alpha, collection=name).json()
    alpha.delete(f"/api/v1/documents/{first['document_id']}")
    second = send(alpha, collection=name).json()
    assert second["document_id"] == first["document_id"]
    assert second["task_id"] != first["task_id"]
    finish(api, qdrant_url)
    shown = alpha.get(f"/api/v1/documents/{first['document_id']}").json()
    assert (shown["state"], shown["generation"]) == ("QUEUED", 2)
    assert [key for key in api.blobs.keys("uploads") if second["task_id"] in key]


def test_a_collection_is_deleted_with_all_its_documents(
    api: Api, alpha: httpx.Client, qdrant_url: str
) -> None:
    name, other = collection(), collection()
    for key in ("a", "b", "c"):
        send(alpha, collection=name, document_key=key)
    kept = send(alpha, collection=other).json()["document_id"]
    answer = alpha.delete(f"/api/v1/collections/{name}")
    assert (answer.status_code, answer.json()["documents"]) == (202, 3)
    assert alpha.get("/api/v1/documents", params={"collection": name}).json()["total"] == 0
    again = alpha.delete(f"/api/v1/collections/{name}")
    assert (again.status_code, again.json()["documents"]) == (202, 0)
    finish(api, qdrant_url)
    gone = alpha.delete(f"/api/v1/collections/{name}")
    assert (gone.status_code, gone.json()["code"]) == (404, "no_collection")
    assert alpha.get(f"/api/v1/documents/{kept}").status_code == 200


def test_foreign_and_unknown_are_404_and_stay(alpha: httpx.Client, beta: httpx.Client) -> None:
    name = collection()
    identifier = send(alpha, collection=name).json()["document_id"]
    for path in (f"documents/{identifier}", f"documents/{uuid.uuid4()}", "documents/%2e%2e", "documents/x"):
        assert beta.delete(f"/api/v1/{path}").status_code == 404, path
    assert beta.delete(f"/api/v1/collections/{name}").status_code == 404
    assert alpha.get(f"/api/v1/documents/{identifier}").status_code == 200
    alpha.delete(f"/api/v1/documents/{identifier}")
    assert beta.delete(f"/api/v1/documents/{identifier}").status_code == 404


@pytest.mark.parametrize("name", ["a%20b", "-a", "a" * 64, "%00"])
def test_what_can_not_be_a_collection_is_422(alpha: httpx.Client, name: str) -> None:
    assert alpha.delete(f"/api/v1/collections/{name}").status_code == 422


def test_without_a_key_nothing_is_deleted(api: Api) -> None:
    with api.client(**{"X-API-Key": "wrong"}) as client:
        for path in (f"documents/{uuid.uuid4()}", "collections/notes"):
            assert client.delete(f"/api/v1/{path}").status_code == 401


def test_with_redis_down_it_is_503_and_nothing_is_deleted(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        env = base_env(redis.url, tmp_path)
        with serving(env, tmp_path) as running, running.client() as client:
            identifier = send(client).json()["document_id"]
            redis.stop()
            answer = client.delete(f"/api/v1/documents/{identifier}")
            assert (answer.status_code, answer.json()["code"]) == (503, "dependency_down")
            assert answer.headers["Retry-After"]
            assert list(running.blobs.keys("deleted")) == []
