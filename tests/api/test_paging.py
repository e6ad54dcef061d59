"""Lists that are longer than a page."""

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from embedfleet.local.redis import RedisServer
from tests.api.serving import Api, base_env, send, serving

LISTS = {"documents": "id", "tasks": "task_id"}


def walk(client: httpx.Client, kind: str, **query: Any) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(f"/api/v1/{kind}", params={**query, **cursor})
        assert answer.status_code == 200, answer.text
        yield answer.json()
        if answer.json()["next_cursor"] is None:
            return
        cursor = {"cursor": answer.json()["next_cursor"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of its own: what others upload would be in the lists."""
    folder = tmp_path_factory.mktemp("paging")
    with RedisServer(folder / "redis") as redis, serving(base_env(redis.url, folder), folder) as running:
        yield running


@pytest.fixture
def client(place: Api) -> Iterator[httpx.Client]:
    with place.client() as found:
        yield found


@pytest.mark.parametrize("kind", LISTS)
def test_pages_hold_everything_once_though_more_arrives(client: httpx.Client, kind: str) -> None:
    collection = f"paged-{kind}"
    there = [send(client, document_key=str(uuid.uuid4()), collection=collection).json() for _ in range(5)]
    met: list[str] = []
    query = {"collection": collection} if kind == "documents" else {"status": "PENDING"}
    for page in walk(client, kind, limit=2, **query):
        met += [one[LISTS[kind]] for one in page[kind]]
        assert page["total"] >= 5
        send(client, document_key=str(uuid.uuid4()), collection=collection)
    wanted = {one["document_id" if kind == "documents" else "task_id"] for one in there}
    assert len(met) == len(set(met))
    assert wanted <= set(met)
    if kind == "documents":
        assert wanted == set(met)


@pytest.mark.parametrize("kind", LISTS)
def test_a_bad_cursor_says_so(client: httpx.Client, kind: str) -> None:
    def made(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    for _ in range(2):
        send(client, document_key=str(uuid.uuid4()))
    other = "tasks" if kind == "documents" else "documents"
    foreign = client.get(f"/api/v1/{other}", params={"limit": 1}).json()["next_cursor"]
    good = client.get(f"/api/v1/{kind}", params={"limit": 1}).json()["next_cursor"]
    bad = ["", "x", "%00", "é", "a" * 5000, good[:-2], good + "=", f" {good}", foreign]
    some = str(uuid.uuid4())
    times = ("nan", "inf", "1", "x", "1.50", "")
    bad += [
        made(f"{kind}:{text}")
        for text in ("1.5:é", "1.5:a", "1.5", "", *(f"{each}:{some}" for each in times))
    ]
    for cursor in bad:
        answer = client.get(f"/api/v1/{kind}", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), cursor
        assert answer.json()["detail"] == (
            f"cursor: this is no next_cursor of a list of {kind}; leave it out to begin with the first page."
        )


def test_a_cursor_shows_nothing_of_another_tenant(alpha: httpx.Client, beta: httpx.Client) -> None:
    for _ in range(3):
        send(alpha, document_key=str(uuid.uuid4()), collection="paged")
    cursor = alpha.get("/api/v1/documents", params={"limit": 1}).json()["next_cursor"]
    mine = {one["id"] for one in alpha.get("/api/v1/documents", params={"limit": 1000}).json()["documents"]}
    answer = beta.get("/api/v1/documents", params={"cursor": cursor, "limit": 1000})
    assert answer.status_code == 200
    assert not mine & {one["id"] for one in answer.json()["documents"]}
