"""What search refuses before it asks the vector store, and in which words."""

from typing import Any

import httpx
import pytest

SEARCH = "/api/v1/search"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "x"}, "invalid_request"),
        ({"collection": "../x", "query": "x"}, "invalid_collection"),
        ({"collection": "c\n", "query": "x"}, "invalid_collection"),
        ({"collection": "c" * 64, "query": "x"}, "invalid_collection"),
        ({"collection": "c", "query": ""}, "invalid_request"),
        ({"collection": "c", "query": " \n"}, "empty_query"),
        ({"collection": "c", "query": "x" * 8001}, "invalid_request"),
        ({"collection": "c", "query": "x", "limit": 0}, "invalid_request"),
        ({"collection": "c", "query": "x", "limit": 101}, "invalid_request"),
        ({"collection": "c", "query": "x", "offset": 1}, "invalid_request"),
        ({"collection": "c", "query": "x", "filter": {"metadata": {"a.b": 1}}}, "invalid_metadata"),
        ({"collection": "c", "query": "x", "filter": {"metadata": {"a": [1]}}}, "invalid_request"),
        ({"collection": "c", "query": "x", "filter": {"metadata": {"a": None}}}, "invalid_request"),
        ({"collection": "c", "query": "x", "filter": {"metadata": {"a": 2**70}}}, "invalid_request"),
        ({"collection": "c", "query": "x", "filter": {"document_ids": ["a"] * 101}}, "invalid_request"),
        ([], "invalid_request"),
        ("x", "invalid_request"),
    ],
)
def test_bad_query_is_422(alpha: httpx.Client, body: Any, code: str) -> None:
    answer = alpha.post(SEARCH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"query": "\\ud800", "collection": "c"}']
)
def test_broken_json_is_4xx(alpha: httpx.Client, content: bytes) -> None:
    answer = alpha.post(SEARCH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize("value", [1.5, 1.0, -0.0])
def test_a_fractional_filter_is_refused_in_one_sentence(alpha: httpx.Client, value: float) -> None:
    body = {"collection": "c", "query": "x", "filter": {"metadata": {"price": value}}}
    answer = alpha.post(SEARCH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"] == (
        "filter.metadata.price: only a string, an integer, true or false can be filtered by"
    )


@pytest.mark.parametrize("name", ["a\n", "../x", "", "c" * 64, "é"])
def test_a_bad_collection_is_one_code_in_one_sentence(alpha: httpx.Client, name: str) -> None:
    searched = alpha.post(SEARCH, json={"collection": name, "query": "x"})
    listed = alpha.get("/api/v1/documents", params={"collection": name})
    for answer in (searched, listed):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_collection")
        assert answer.json()["detail"].startswith("collection: a name has 1 to 63 of the characters")
