"""What search refuses before it asks the vector store, and in which words."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.serving import send

SEARCH = "/api/v1/search"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "x"}, "invalid_request"),
        ({"collection": "../x", "query": "x"}, "invalid_collection"),
        ({"collection": "c\n", "query": "x"}, "invalid_collection"),
        ({"collection": "c" * 64, "query": "x"}, "invalid_collection"),
        ({"collection": "c", "query": ""}, "empty_query"),
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
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"query": "\\ud800", "collection": "c"}',
        b'{"query": "q", "collection": "c", "filter": {"document_ids": ["\\ud800"]}}',
        b'{"query": "q", "collection": "c", "filter": {"metadata": {"a": "\\ud800"}}}',
    ],
)
def test_broken_json_is_4xx(alpha: httpx.Client, content: bytes) -> None:
    answer = alpha.post(SEARCH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "invalid_request"


def test_what_is_no_json_is_told_where(alpha: httpx.Client) -> None:
    answer = alpha.post(SEARCH, content=b"{bad", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"] == (
        "body: this is no JSON, from character 1 on: Expecting property name enclosed in double quotes"
    )


@pytest.mark.parametrize("content", [b'{"collection": "c", "query": "x"}', b"{bad", b""])
@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain", "text/json"])
def test_a_body_that_does_not_say_json_is_told_which_header(
    alpha: httpx.Client, content: bytes, kind: str | None
) -> None:
    answer = alpha.post(SEARCH, content=content, headers={"content-type": kind} if kind else {})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), answer.text
    assert "`content-type: application/json`" in answer.json()["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
)
def test_a_body_that_is_no_object_is_told_so(alpha: httpx.Client, kind: str) -> None:
    answer = alpha.post(SEARCH, content=b"[]", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["detail"]) == (422, "body: it must be a JSON object")
    inner = alpha.post(SEARCH, json={"collection": "c", "query": "x", "filter": 1})
    assert (inner.status_code, inner.json()["detail"]) == (422, "filter: it must be a JSON object")


def test_a_query_without_words_is_one_code(alpha: httpx.Client) -> None:
    answers = [alpha.post(SEARCH, json={"collection": "c", "query": text}).json() for text in ("", "   ")]
    assert answers[0] == answers[1]
    assert (answers[0]["code"], answers[0]["detail"]) == ("empty_query", "query: it has no words")


def test_an_unknown_field_of_a_form_is_told_alike(alpha: httpx.Client) -> None:
    assert send(alpha, chunksize="500").json()["detail"] == (
        "chunksize: there is no such field; /docs lists those that are taken here"
    )


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
    sent = send(alpha, collection=name)
    answers = [searched, listed, sent]
    if "/" not in name and name:  # those are other paths
        answers.append(alpha.delete(f"/api/v1/collections/{quote(name)}"))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_collection")
        assert answer.json()["detail"].startswith("collection: a name has 1 to 63 of the characters")
