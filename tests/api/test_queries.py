"""A query parameter that a route doesn't know: ignored, it would answer what nobody asked."""

import httpx
import pytest

from tests.api.serving import ALPHA_KEY, Api, fetch, send

SOME = "7154634f-bff6-4d9d-a9a6-4504e7d2b538"


@pytest.mark.parametrize(
    ("method", "path", "unknown"),
    [
        ("GET", "/api/v1/documents?colection=demo", "colection"),
        ("GET", "/api/v1/documents/?state=FAILED&limit=5", "state"),
        ("GET", "/api/v1/tasks?state=FAILED", "state"),
        ("GET", "/api/v1/tasks/?status=FAILURE&collection=demo", "collection"),
        ("GET", f"/api/v1/documents/{SOME}?x", "x"),
        ("DELETE", f"/api/v1/documents/{SOME}?dry_run=true", "dry_run"),
        ("DELETE", "/api/v1/collections/none?dry_run=true", "dry_run"),
        ("GET", f"/api/v1/tasks/{SOME}?wait=1", "wait"),
        ("POST", f"/api/v1/tasks/{SOME}/revoke?force=1", "force"),
        ("GET", "/api/v1/queues?name=documents", "name"),
        ("POST", "/api/v1/search?limit=3", "limit"),
    ],
)
def test_an_unknown_parameter_is_refused(alpha: httpx.Client, method: str, path: str, unknown: str) -> None:
    body = {"collection": "c", "query": "x"} if "search" in path else None
    answer = alpha.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.json()["detail"] == (
        f"{unknown}: there is no such parameter; /docs lists those that are taken here"
    )


def test_nothing_is_deleted_or_stored_then(api: Api, alpha: httpx.Client) -> None:
    ids = send(alpha, document_key=SOME).json()
    assert alpha.delete(f"/api/v1/documents/{ids['document_id']}?dry_run=1").status_code == 422
    assert alpha.get(f"/api/v1/documents/{ids['document_id']}").status_code == 200
    before = api.stored()
    answer = alpha.post(
        "/api/v1/documents/upload?collection=other",
        data={"collection": "notes"},
        files={"file": ("a.txt", b"a")},
    )
    assert answer.status_code == 422
    assert api.stored() == before


def test_who_has_no_key_is_told_that_first(api: Api) -> None:
    for path in ("documents?colection=demo", "queues?name=x"):
        assert fetch(f"{api.url}/api/v1/{path}").status_code == 401
        answer = fetch(f"{api.url}/api/v1/{path}", headers={"X-API-Key": ALPHA_KEY})
        assert answer.status_code == 422


def test_an_unknown_field_of_a_body_is_told_alike(alpha: httpx.Client) -> None:
    answer = alpha.post("/api/v1/search", json={"collection": "c", "query": "x", "filter": {"ids": []}})
    assert answer.json()["detail"] == (
        "filter.ids: there is no such field; /docs lists those that are taken here"
    )
