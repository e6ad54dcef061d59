"""What the stand-in lacks it names; what is wrong it refuses; nothing gets past its limits."""

import gzip
import http.client
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client.qdrant_remote import QdrantRemote
from tests.qdrant_process import QdrantProcess

POINTS = "/collections/c/points"
VECTOR = [1.0, 0.0, 0.0]
ID = str(uuid.UUID(int=5))
QUERY = f"{POINTS}/query"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An HTTP client of a stand-in with the collection `c`, in which there is one point."""
    with (
        QdrantProcess(tmp_path_factory.mktemp("qdrant")) as process,
        httpx.Client(base_url=process.url, timeout=30) as client,
    ):
        client.put("/collections/c", json={"vectors": {"size": 3, "distance": "Cosine"}}).raise_for_status()
        client.put(POINTS, json={"points": [{"id": ID, "vector": VECTOR, "payload": {"a": 1}}]})
        yield client


def reason(response: httpx.Response, status: int) -> str:
    """Return the reason of a refusal with this status."""
    assert response.status_code == status, response.text
    return str(response.json()["status"]["error"])


LACKING: list[tuple[str, str, dict[str, Any], str]] = [
    ("GET", "/telemetry", {}, "route GET /telemetry"),
    ("POST", f"{QUERY}/batch", {"searches": []}, f"route POST {QUERY}/batch"),
    ("POST", f"{QUERY}/groups", {}, f"route POST {QUERY}/groups"),
    ("PATCH", "/collections/c", {}, "route PATCH /collections/c"),
    ("POST", f"{POINTS}/payload", {}, f"route POST {POINTS}/payload"),
    ("PUT", "/collections/c/snapshots", {}, "route PUT /collections/c/snapshots"),
    ("POST", f"{POINTS}/count?shard=1", {}, "parameter `shard`"),
    ("PUT", "/collections/d", {"vectors": {"size": 3, "distance": "Dot"}}, "distance Dot"),
    ("PUT", "/collections/d", {"vectors": {"n": {"size": 3, "distance": "Cosine"}}}, "named vectors"),
    (
        "PUT",
        "/collections/d",
        {"vectors": {"size": 3, "distance": "Cosine"}, "quantization_config": {}},
        "field `quantization_config`",
    ),
    (
        "PUT",
        "/collections/d",
        {"vectors": {"size": 3, "distance": "Cosine"}, "sparse_vectors": {"s": {}}},
        "field `sparse_vectors`",
    ),
    ("PUT", "/collections/c/index", {"field_name": "a", "field_schema": "text"}, "index of type text"),
    (
        "PUT",
        "/collections/c/index",
        {"field_name": "a", "field_schema": {"type": "keyword", "is_tenant": True}},
        "field `is_tenant`",
    ),
    ("PUT", POINTS, {"points": [{"id": 1, "vector": {"n": VECTOR}}]}, "vectors that are named"),
    ("PUT", POINTS, {"points": [{"id": 1, "vector": [VECTOR]}]}, "multivectors"),
    ("PUT", POINTS, {"batch": {"ids": [1], "vectors": {"n": [VECTOR]}}}, "vectors that are named"),
    ("PUT", POINTS, {"points": [], "update_mode": "insert_only"}, "field `update_mode`"),
    ("POST", QUERY, {"query": VECTOR, "prefetch": {"limit": 3}}, "field `prefetch`"),
    ("POST", QUERY, {"query": VECTOR, "using": "image"}, "field `using`"),
    ("POST", QUERY, {"query": ID}, "query by point id"),
    ("POST", QUERY, {"query": {"recommend": {"positive": [1]}}}, "query `recommend`"),
    ("POST", QUERY, {"query": {"fusion": "rrf"}}, "query `fusion`"),
    ("POST", QUERY, {"query": {"nearest": {"indices": [1], "values": [1.0]}}}, "sparse"),
    ("POST", QUERY, {"query": VECTOR, "params": {"quantization": {}}}, "field `quantization`"),
    ("POST", f"{POINTS}/count", {"filter": {"min_should": {}}}, "field `min_should`"),
    ("POST", f"{POINTS}/count", {"filter": {"must": {"nested": {}}}}, "field `nested`"),
    ("POST", f"{POINTS}/count", {"filter": {"must": [{"key": "a", "geo_radius": {}}]}}, "field `geo_radius`"),
    (
        "POST",
        f"{POINTS}/count",
        {"filter": {"should": [{"must_not": [{"key": "a", "match": {"text": "x"}}]}]}},
        "field `text`",
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "named"), LACKING)
def test_what_is_lacking_is_named(
    client: httpx.Client, method: str, path: str, body: dict[str, Any], named: str
) -> None:
    assert named in reason(client.request(method, path, json=body), 501)
    assert client.get("/collections/d/exists").json()["result"] == {"exists": False}


WRONG: list[tuple[str, str, bytes, int]] = [
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2,NaN]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2,1e999]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2,"x"]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":-1,"vector":[1,2,3]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":"no-uuid","vector":[1,2,3]}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2,3],"payload":{"a":"\\ud800"}}]}', 400),
    ("PUT", POINTS, b'{"points":[{"id":1,"vector":[1,2,3],"payload":' + b'{"a":' * 5000, 400),
    ("PUT", POINTS, b'{"batch":{"ids":[1,2],"vectors":[[1,2,3]]}}', 400),
    ("PUT", POINTS, b"{}", 400),
    ("PUT", POINTS, b"\xff\xfe", 400),
    ("PUT", POINTS, b"[]", 400),
    ("POST", QUERY, b'{"query":[1,2]}', 400),
    ("POST", QUERY, b'{"query":[1,2,3],"limit":0}', 400),
    ("POST", QUERY, b'{"query":[1,2,3],"limit":1e18}', 400),
    ("POST", f"{POINTS}/scroll", b'{"order_by":"not_indexed"}', 400),
    ("POST", f"{POINTS}/scroll", b'{"offset":1,"order_by":"a"}', 400),
    ("POST", f"{POINTS}/count", b'{"filter":{"must":[{"key":"a[","match":{"value":1}}]}}', 400),
    ("POST", f"{POINTS}/count", b'{"filter":{"must":[{"key":"a"}]}}', 400),
    ("POST", f"{POINTS}/delete", b"{}", 400),
    ("POST", f"{POINTS}/delete", b'{"points":[1],"filter":{}}', 400),
    ("GET", f"{POINTS}/no-uuid", b"", 400),
    ("GET", f"{POINTS}/77", b"", 404),
    ("PUT", "/collections/c", b'{"vectors":{"size":3,"distance":"Cosine"}}', 409),
    ("PUT", "/collections/e", b'{"vectors":{"size":0,"distance":"Cosine"}}', 400),
    ("POST", "/collections/absent/points/count", b"{}", 404),
    ("GET", "/collections/absent", b"", 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRONG)
def test_what_is_wrong_is_refused_and_changes_nothing(
    client: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    assert reason(client.request(method, path, content=body), status)
    assert client.post(f"{POINTS}/count").json()["result"] == {"count": 1}


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "..%2f..%2fx",
        "a%2fb",
        ".hidden",
        "-dash",
        "a%00b",
        "a%0a",
        "%c3%a9",
        "a%20b",
        "x" * 129,
    ],
)
def test_names_can_not_leave_the_folder(client: httpx.Client, name: str) -> None:
    body = {"vectors": {"size": 3, "distance": "Cosine"}}
    # As raw bytes: httpx would tidy the dots away.
    request = client.build_request("PUT", "/", json=body)
    request.url = request.url.copy_with(raw_path=f"/collections/{name}".encode())
    assert client.send(request).status_code in {422, 501}
    assert client.get("/collections").json()["result"] == {"collections": [{"name": "c"}]}


def test_bodies_are_bounded(client: httpx.Client) -> None:
    large = b"x" * 1_000_000
    # By hand: httpx would not declare more than it sends.
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    connection.request("POST", f"{POINTS}/count", headers={"content-length": "64000001"})
    declared = connection.getresponse()
    assert declared.status == 413
    assert b"64000000 bytes" in declared.read()
    connection.close()
    try:
        streamed = client.post(f"{POINTS}/count", content=(large for _ in range(70)))
    except (httpx.WriteError, httpx.ReadError):
        return  # it hung up before it had all of it
    assert "64000000 bytes" in reason(streamed, 413)


def test_a_large_upsert_below_the_bound_is_taken(client: httpx.Client) -> None:
    point = {"id": ID, "vector": VECTOR, "payload": {"a": 1, "text": "x" * 40_000_000}}
    assert client.put(POINTS, json={"points": [point]}).json()["status"] == "ok"
    assert len(client.get(f"{POINTS}/{ID}").json()["result"]["payload"]["text"]) == 40_000_000
    client.put(POINTS, json={"points": [{"id": ID, "vector": VECTOR}]}).raise_for_status()


def test_compressed_bodies_and_web_pages_are_refused(client: httpx.Client) -> None:
    body = gzip.compress(b"{}")
    compressed = client.post(f"{POINTS}/count", content=body, headers={"content-encoding": "gzip"})
    assert "content encoding gzip" in reason(compressed, 501)
    page = client.post(f"{POINTS}/count", content=b"{}", headers={"origin": "https://example.org"})
    assert "web pages" in reason(page, 403)


def test_an_answer_on_a_kept_connection_waits_for_no_timer(client: httpx.Client) -> None:
    # Without TCP_NODELAY every answer waits for the client's delayed acknowledgement, 40 ms.
    answers = [client.post(f"{POINTS}/count") for _ in range(20)]
    assert min(answer.elapsed.total_seconds() for answer in answers) < 0.03


def test_it_says_what_it_is_and_qdrant_client_takes_it(client: httpx.Client) -> None:
    assert "Embedfleet's embedded stand-in on Qdrant's storage engine" in client.get("/").json()["title"]
    for probe in ("/healthz", "/livez", "/readyz"):
        assert client.get(probe).status_code == 200
    url = str(client.base_url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QdrantRemote._check_compatibility(url, {}, None, 5)
    ours = QdrantClient(url=url, check_compatibility=False)
    assert ours.get_collection("c").config.params.vectors.size == 3
    assert ours.info().version == client.get("/").json()["version"]
    ours.close()


def test_scroll_goes_by_an_indexed_field(client: httpx.Client, tmp_path: Path) -> None:
    client.put("/collections/s", json={"vectors": {"size": 3, "distance": "Cosine"}}).raise_for_status()
    client.put("/collections/s/index", json={"field_name": "n", "field_schema": "integer"})
    points = [{"id": n, "vector": VECTOR, "payload": {"n": (n * 7) % 10}} for n in range(10)]
    client.put("/collections/s/points", json={"points": points}).raise_for_status()
    order = {"key": "n", "direction": "desc", "start_from": 6}
    page = client.post("/collections/s/points/scroll", json={"order_by": order, "limit": 3}).json()["result"]
    assert [(point["payload"]["n"], point["order_value"]) for point in page["points"]] == [
        (6, 6),
        (5, 5),
        (4, 4),
    ]
    schema = client.get("/collections/s").json()["result"]["payload_schema"]
    assert schema == {"n": {"data_type": "integer", "points": 10}}
    assert client.delete("/collections/s").json()["result"] is True
    assert client.delete("/collections/s").json()["result"] is False
