"""Search over HTTP, with a real encoder, a real vector store and the ledger's live generations."""

import subprocess
import sys
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from embedfleet.api.retrieval import QueryEncoder, live_hits
from embedfleet.contracts.documents import point_id, qdrant_collection
from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.records import Claim, Part
from embedfleet.runtime.settings import EngineSettings, ModelSettings, VectorSettings
from embedfleet.vectors import Generation, ScoredChunk, VectorStore
from tests.api.serving import (
    ALPHA_KEY,
    BETA_KEY,
    TINY_MODEL,
    Api,
    base_env,
    fetch,
    keys_json,
    send,
    serving,
    wait_until,
)

SEARCH = "/api/v1/search"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """The embedded Qdrant as a process of its own."""
    port = free_ports(1)[0]
    folder = tmp_path_factory.mktemp("qdrant")
    command = [sys.executable, "-m", "embedfleet.local.qdrant", "--path", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", LOOPBACK, "--port", str(port)], stdout=log, stderr=log
        )
    url = f"http://{LOOPBACK}:{port}"
    client = VectorStore(VectorSettings(url=url))
    try:
        wait_until(lambda: process.poll() is not None or _is_up(url), 30)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def _is_up(url: str) -> bool:
    try:
        return fetch(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def api(store: VectorStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on it, for the tenants alpha and beta."""
    folder = tmp_path_factory.mktemp("search")
    with RedisServer(folder / "redis") as redis:
        env = base_env(redis.url, folder) | {"FLEET_API_KEYS": keys_json(), "QDRANT_URL": store.address}
        with serving(env, folder, {"X-API-Key": ALPHA_KEY}) as running:
            yield running


@pytest.fixture(scope="module")
def encoder() -> QueryEncoder:
    return QueryEncoder.load(ModelSettings(model_path=TINY_MODEL), EngineSettings())


class Worker:
    """Does both pools' work on what was uploaded."""

    def __init__(self, api: Api, store: VectorStore, encoder: QueryEncoder) -> None:
        self.ledger, self.store, self.encoder = api.ledger, store, encoder

    def claim(self, job: ProcessDocument | GenerateEmbeddings) -> Claim:
        claimed = self.ledger.claim(job, "worker")
        assert isinstance(claimed, Claim), claimed
        return claimed

    def embed(self, task_id: str, texts: Sequence[str], model_key: str | None = None) -> Claim:
        """Store a document's points, but don't end its embedding task."""
        part = Part(str(uuid.uuid4()), 0, len(texts), "chunks/0")
        claim = self.claim(ProcessDocument(task_id=task_id))
        assert self.ledger.chunked(claim, [part], {"success": True})
        document = claim.document
        name = qdrant_collection(document.tenant, document.collection)
        vector_of = {text: self.encoder.encode(text) for text in set(texts)}
        vectors = np.stack([vector_of[text] for text in texts])
        self.store.ensure_collection(name, vectors.shape[1])
        payloads: list[dict[str, Any]] = [
            {
                "document_id": document.id,
                "generation": document.generation,
                "chunk_index": index,
                "text": text,
                "filename": document.filename,
                "page": index + 1,
                "heading": None,
                "metadata": document.metadata,
                "model_key": model_key or document.model_key,
            }
            for index, text in enumerate(texts)
        ]
        ids = [point_id(document.id, document.generation, index) for index in range(len(texts))]
        self.store.upsert(name, ids, vectors, payloads)
        return self.claim(GenerateEmbeddings(task_id=part.task_id))

    def finish(self, claim: Claim) -> None:
        assert self.ledger.embedded(claim, {"success": True}) is True


@pytest.fixture
def worker(api: Api, store: VectorStore, encoder: QueryEncoder) -> Worker:
    return Worker(api, store, encoder)


@pytest.fixture
def alpha(api: Api) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


def search(client: httpx.Client, collection: str, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = client.post(SEARCH, json={"collection": collection, "query": query, **more})
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


def test_search_shows_the_live_generation_and_no_other(alpha: httpx.Client, worker: Worker) -> None:
    first = send(alpha, "ferry.txt", b"one", collection="live", metadata='{"year": 2024}').json()
    claim = worker.embed(first["task_id"], ["the ferry leaves at noon", "tickets cost four coins"])
    assert search(alpha, "live", "the ferry leaves at noon") == []
    worker.finish(claim)
    hits = search(alpha, "live", "the ferry leaves at noon")
    assert [hit["chunk_index"] for hit in hits] == [0, 1]
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert {
        key: hits[0][key] for key in ("text", "document_id", "filename", "page", "heading", "metadata")
    } == {
        "text": "the ferry leaves at noon",
        "document_id": first["document_id"],
        "filename": "ferry.txt",
        "page": 1,
        "heading": None,
        "metadata": {"year": 2024},
    }

    second = send(alpha, "ferry.txt", b"two", collection="live").json()
    claim = worker.embed(second["task_id"], ["the ferry leaves at one"])
    assert {hit["text"] for hit in search(alpha, "live", "the ferry")} == {hit["text"] for hit in hits}
    worker.finish(claim)
    assert [hit["text"] for hit in search(alpha, "live", "the ferry")] == ["the ferry leaves at one"]


def test_a_large_upload_in_progress_hides_no_ready_document(alpha: httpx.Client, worker: Worker) -> None:
    small = send(alpha, "small.txt", collection="crowd").json()
    worker.finish(worker.embed(small["task_id"], [f"ferry {number}" for number in range(5)]))
    big = send(alpha, "big.txt", collection="crowd").json()
    worker.embed(big["task_id"], ["the ferry leaves at noon"] * 2500)
    hits = search(alpha, "crowd", "the ferry leaves at noon", limit=5)
    assert [hit["filename"] for hit in hits] == ["small.txt"] * 5


def test_a_flip_between_the_two_reads_loses_no_document(
    api: Api, alpha: httpx.Client, worker: Worker
) -> None:
    texts = {1: ["the ferry leaves at noon"] * 5, 2: ["the ferry leaves at one"] * 5}
    worker.finish(worker.embed(send(alpha, content=b"one", collection="flip").json()["task_id"], texts[1]))
    pending = [send(alpha, content=b"two", collection="flip").json()["task_id"]]

    def nearest(limit: int, without: Collection[Generation]) -> Sequence[ScoredChunk]:
        name, vector = qdrant_collection("alpha", "flip"), worker.encoder.encode("the ferry leaves at noon")
        found = worker.store.search(name, vector, limit, without=without)
        if pending:
            worker.finish(worker.embed(pending.pop(), texts[2]))
        return found

    hits = live_hits(nearest, lambda ids: api.ledger.live_generations("alpha", ids), 5)
    assert [hit.text for hit in hits] == texts[2]


def test_vectors_of_another_model_are_no_hits(alpha: httpx.Client, worker: Worker) -> None:
    for name, model_key in (("old.txt", "another-model"), ("new.txt", None)):
        ids = send(alpha, name, collection="models").json()
        worker.finish(worker.embed(ids["task_id"], ["the ferry"], model_key))
    assert [hit["filename"] for hit in search(alpha, "models", "the ferry")] == ["new.txt"]


def test_vectors_of_another_length_are_409(alpha: httpx.Client, store: VectorStore) -> None:
    send(alpha, collection="longer")
    store.ensure_collection(qdrant_collection("alpha", "longer"), 7)
    answer = alpha.post(SEARCH, json={"collection": "longer", "query": "the ferry"})
    assert (answer.status_code, answer.json()["code"]) == (409, "dimension_mismatch")
    assert "use the model that filled it (FLEET_MODEL_ID)" in answer.json()["detail"]
    assert not answer.json()["retryable"]


def test_revoked_generation_is_never_seen(alpha: httpx.Client, worker: Worker) -> None:
    ids = send(alpha, collection="revoked").json()
    worker.embed(ids["task_id"], ["never to be seen"])
    assert alpha.post(f"/api/v1/tasks/{ids['task_id']}/revoke").json()["success"]
    assert search(alpha, "revoked", "never to be seen") == []


def test_filters(alpha: httpx.Client, worker: Worker) -> None:
    documents = {}
    for year in (2023, 2024):
        ids = send(alpha, f"{year}.txt", collection="filtered", metadata=f'{{"year": {year}}}').json()
        worker.finish(worker.embed(ids["task_id"], [f"report of {year}"]))
        documents[year] = ids["document_id"]

    def found(**filter: Any) -> set[str]:
        return {hit["filename"] for hit in search(alpha, "filtered", "report", filter=filter)}

    assert found() == {"2023.txt", "2024.txt"}
    assert found(document_ids=None) == {"2023.txt", "2024.txt"}
    assert found(document_ids=[documents[2023]]) == {"2023.txt"}
    # The documents that someone may see, and there are none: never all of them.
    assert found(document_ids=[]) == set()
    assert found(document_ids=[], metadata={"year": 2024}) == set()
    assert found(metadata={"year": 2024}) == {"2024.txt"}
    assert found(metadata={"year": 2025}) == set()
    assert found(document_ids=[documents[2023]], metadata={"year": 2024}) == set()
    assert len(search(alpha, "filtered", "report", limit=1)) == 1


def test_another_tenant_finds_nothing(api: Api, alpha: httpx.Client, worker: Worker) -> None:
    ids = send(alpha, collection="private").json()
    worker.finish(worker.embed(ids["task_id"], ["for alpha alone"]))
    with api.client(**{"X-API-Key": BETA_KEY}) as beta:
        foreign = {"document_ids": [ids["document_id"]]}
        for more in ({}, {"filter": foreign}):
            body = {"collection": "private", "query": "for alpha alone", **more}
            answer = beta.post(SEARCH, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_collection")


def test_collection_without_vectors_yet_has_no_hits(alpha: httpx.Client) -> None:
    send(alpha, collection="waiting")
    assert search(alpha, "waiting", "anything") == []


def test_server_is_ready(alpha: httpx.Client) -> None:
    answer = alpha.get("/readyz")
    assert answer.status_code == 200
    checks = dict.fromkeys(("redis", "blobs", "qdrant", "encoder"), "ok")
    assert answer.json() == {"status": "ok", "checks": checks, "problems": []}


@pytest.mark.parametrize("query", ["\u0000", "🚢" * 2000, "ế" * 8000, "a " * 4000])
def test_odd_queries_are_answered(alpha: httpx.Client, query: str) -> None:
    send(alpha, collection="odd")
    assert search(alpha, "odd", query) == []
