"""A fleet whose processes share a bucket, Redis and Qdrant, and no folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from tests.api.serving import base_env, send, serving
from tests.e2e.fleet import EXAMPLES, until
from tests.e2e.workers import worker

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

OURS = {".check", ".clock"}
HOSTS = ("api", "documents", "embeddings")


@pytest.fixture
def client(
    bucket_url: str, empty_redis: RedisServer, qdrant_url: str, tmp_path: Path
) -> Iterator[httpx.Client]:
    """Start an api and a worker of each pool, each with a folder for temporary files of its own."""
    shared = base_env(empty_redis.url, tmp_path) | {
        "QDRANT_URL": qdrant_url,
        "FLEET_BLOB_URL": bucket_url,
        "FLEET_SCAN_SECONDS": "1",
        "FLEET_LEASE_SECONDS": "4",
        "FLEET_PROBE_HOST": "127.0.0.1",
    }
    del shared["FLEET_MODEL_PATH"]
    with ExitStack() as fleet:
        for queue, port in zip(HOSTS[1:], free_ports(2), strict=True):
            own = {"TMPDIR": host(tmp_path, queue), "FLEET_PROBE_PORT": str(port)}
            fleet.enter_context(worker(queue, shared | own, tmp_path / f"{queue}.log", concurrency=2))
        api = fleet.enter_context(serving(shared | {"TMPDIR": host(tmp_path, "api")}, tmp_path))
        yield fleet.enter_context(api.client())


def host(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return str(folder / name)


def get(client: httpx.Client, path: str) -> Any:
    return client.get(f"/api/v1{path}").raise_for_status().json()


def test_a_document_goes_through_a_fleet_that_shares_no_disk(
    client: httpx.Client, bucket_url: str, qdrant_url: str, tmp_path: Path
) -> None:
    blobs = Blobs(bucket_url)
    identifiers = []
    for name in ("phong-chay-gia-dinh.pdf", "noi-quy-chung-cu.txt"):
        answer = send(client, name, (EXAMPLES / name).read_bytes(), collection="nha")
        assert answer.status_code == 202, answer.text
        identifiers.append(answer.json()["document_id"])
    for identifier in identifiers:
        path = f"/documents/{identifier}"
        until(lambda path=path: get(client, path)["state"] == "READY", f"{identifier} is READY", 120)
    until(lambda: not list(blobs.keys("pending")), "both are settled")
    assert sorted(blobs.folders("uploads/default")) == sorted(identifiers)
    assert list(blobs.keys("chunks")) == []

    body = {"collection": "nha", "query": "bình chữa cháy trong nhà", "limit": 3}
    hits = client.post("/api/v1/search", json=body).raise_for_status().json()["hits"]
    assert hits[0]["document_id"] == identifiers[0]

    for identifier in identifiers:
        path = f"/api/v1/documents/{identifier}"
        assert client.delete(path).status_code == 202
        until(lambda path=path: client.delete(path).status_code == 404, "the deletion is done", 60)
    count = httpx.post(f"{qdrant_url}/collections/default__nha/points/count", json={"exact": True})
    assert count.status_code == 404 or count.json()["result"]["count"] == 0
    # A tombstone waits for writers that may be late.
    assert {key for key in blobs.keys("") if not key.startswith("deleted/")} <= OURS
    assert [left for name in HOSTS for left in (tmp_path / name).iterdir()] == []
