import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.serving import MAX_UPLOAD_BYTES, Api, send

UPLOAD = "/api/v1/documents/upload"
SAMPLES = Path(__file__).parents[2] / "examples" / "documents"


def test_upload_is_queued_at_once(api: Api, alpha: httpx.Client) -> None:
    content, queued = b"Words to be found.", api.redis.llen("documents")
    answer = send(alpha, "first.txt", content, collection="queued", metadata='{"year": 2024, "draft": false}')
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/tasks/{body['task_id']}"
    assert body["status"] == "PENDING"
    assert api.redis.llen("documents") == queued + 1

    document = alpha.get(f"/api/v1/documents/{body['document_id']}").json()
    assert document["filename"] == document["document_key"] == "first.txt"
    assert document["content_hash"] == hashlib.sha256(content).hexdigest()
    assert document["metadata"] == {"year": 2024, "draft": False}
    assert document["options"] == {"chunk_size": 1000, "chunk_overlap": 200, "chunker_type": "sentence"}
    assert (document["state"], document["generation"], document["live_generation"]) == ("QUEUED", 1, 0)
    record = api.ledger.document("alpha", body["document_id"])
    assert record is not None
    assert api.blobs.get(record.blob) == content


def test_the_same_upload_again_has_the_same_ids(api: Api, alpha: httpx.Client) -> None:
    first = send(alpha, "again.txt").json()
    before = api.stored()
    second = send(alpha, "again.txt").json()
    assert (second["task_id"], second["document_id"]) == (first["task_id"], first["document_id"])
    assert second["status"] == "PENDING"
    assert "already" in second["message"]
    assert api.stored() == before
    logged = [line for line in api.log.read_text("utf-8").splitlines() if first["task_id"] in line]
    assert ["unchanged" in line for line in logged if "accepted" in line or "unchanged" in line] == [
        False,
        True,
    ]


def test_the_same_upload_many_times_at_once_is_one_document(api: Api, alpha: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(alpha, collection="rush").json(), range(24)))
    assert len({(answer["task_id"], answer["document_id"]) for answer in answers}) == 1
    assert sum("queued" in answer["message"] for answer in answers) == 1
    document = alpha.get(f"/api/v1/documents/{answers[0]['document_id']}").json()
    assert document["generation"] == 1
    assert len(list(api.blobs.keys(f"uploads/alpha/{document['id']}"))) == 1
    pending = {f"pending/{answer['task_id']}" for answer in answers}
    assert pending <= set(api.blobs.keys("pending"))


@pytest.mark.parametrize(
    "change",
    [{"content": b"Other words."}, {"chunk_size": "500"}, {"metadata": '{"a": 1}'}],
    ids=["content", "options", "metadata"],
)
def test_a_change_under_the_same_key_is_a_new_generation(
    alpha: httpx.Client, change: dict[str, str], request: pytest.FixtureRequest
) -> None:
    key = request.node.name
    first = send(alpha, document_key=key).json()
    second = send(alpha, document_key=key, **change).json()
    assert second["document_id"] == first["document_id"]
    assert second["task_id"] != first["task_id"]
    assert alpha.get(f"/api/v1/documents/{first['document_id']}").json()["generation"] == 2
    assert alpha.get(f"/api/v1/tasks/{first['task_id']}").json()["status"] == "REVOKED"


def test_the_same_file_under_another_key_is_another_document(alpha: httpx.Client) -> None:
    ids = {send(alpha, document_key=key).json()["document_id"] for key in ("key one", "key two")}
    assert len(ids) == 2


def test_name_loses_its_path_and_fields_left_empty_take_their_default(alpha: httpx.Client) -> None:
    answer = send(alpha, "../../etc/Cafe\u0301.txt", document_key="", chunk_size="", metadata="")
    document = alpha.get(f"/api/v1/documents/{answer.json()['document_id']}").json()
    assert document["filename"] == document["document_key"] == "Café.txt"


@pytest.mark.parametrize("name", ["delta-locks.txt", "x.md", "x.pdf", "x.docx"])
def test_every_type_is_taken(alpha: httpx.Client, name: str) -> None:
    content = {".pdf": b"%PDF-1.7\n", ".docx": b"PK\x03\x04rest"}.get(Path(name).suffix, b"text")
    assert send(alpha, name, content, collection="types").status_code == 202


BAD_FORMS: dict[str, tuple[int, str, dict[str, str]]] = {
    "no collection": (422, "invalid_collection", {"collection": ""}),
    "collection with a path": (422, "invalid_collection", {"collection": "../other"}),
    "collection of another tenant": (422, "invalid_collection", {"collection": "beta__notes:x"}),
    "collection too long": (422, "invalid_collection", {"collection": "c" * 64}),
    "collection with a line break": (422, "invalid_collection", {"collection": "notes\n"}),
    "overlap as large as size": (422, "invalid_chunking", {"chunk_size": "300", "chunk_overlap": "300"}),
    "overlap above default size": (422, "invalid_chunking", {"chunk_overlap": "1000"}),
    "size too small": (422, "invalid_chunking", {"chunk_size": "1", "chunk_overlap": "0"}),
    "size too large": (422, "invalid_chunking", {"chunk_size": "1000000"}),
    "size no number": (422, "invalid_chunking", {"chunk_size": "many"}),
    "negative overlap": (422, "invalid_chunking", {"chunk_overlap": "-1"}),
    "unknown chunker": (422, "invalid_chunking", {"chunker_type": "guess"}),
    "metadata no JSON": (422, "invalid_metadata", {"metadata": "{"}),
    "metadata nested": (422, "invalid_metadata", {"metadata": '{"a": {"b": 1}}'}),
    "metadata deep": (422, "invalid_metadata", {"metadata": "[" * 8000}),
    "metadata large": (422, "invalid_metadata", {"metadata": json.dumps({"a": "x" * 9000})}),
    "key too long": (422, "invalid_document_key", {"document_key": "k" * 513}),
    "key with control characters": (422, "invalid_document_key", {"document_key": "a\x00b"}),
    "unknown field": (422, "invalid_request", {"chunksize": "500"}),
    "field over its limit": (400, "invalid_request", {"metadata": "x" * 20_000}),
    "too many fields": (400, "invalid_request", {f"field{number}": "x" for number in range(20)}),
}
BAD_FILES: dict[str, tuple[int, str, str, bytes]] = {
    "empty": (422, "empty_file", "a.txt", b""),
    "unknown extension": (422, "unsupported_type", "a.exe", b"MZ"),
    "no extension": (422, "unsupported_type", "README", b"text"),
    "program named as text": (422, "unsupported_type", "a.txt", b"\x7fELF" + b"\0" * 60),
    "text named as PDF": (422, "unsupported_type", "a.pdf", b"only text"),
    "text named as DOCX": (422, "unsupported_type", "a.docx", b"only text"),
    "encrypted DOCX": (
        422,
        "encrypted",
        "a.docx",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + "EncryptedPackage".encode("utf-16-le"),
    ),
    "name of a path only": (422, "invalid_filename", "folder/", b"text"),
    "name too long": (422, "invalid_filename", "a" * 300 + ".txt", b"text"),
    "a byte too large": (413, "too_large", "a.txt", b"x" * (MAX_UPLOAD_BYTES + 1)),
    "far too large": (413, "too_large", "a.txt", b"x" * (MAX_UPLOAD_BYTES * 4)),
}


def refused(api: Api, before: object, answer: httpx.Response, status: int, code: str) -> None:
    """Assert that an answer is this problem, and that the server holds what it held before."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "retryable", "instance"}
    assert answer.json()["status"] == status
    assert answer.json()["instance"] == UPLOAD
    assert not answer.json()["retryable"]
    assert api.stored() == before


@pytest.mark.parametrize("case", BAD_FORMS)
def test_bad_form_stores_nothing(api: Api, alpha: httpx.Client, case: str) -> None:
    status, code, fields = BAD_FORMS[case]
    before = api.stored()
    refused(api, before, send(alpha, **fields), status, code)


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_stores_nothing(api: Api, alpha: httpx.Client, case: str) -> None:
    status, code, name, content = BAD_FILES[case]
    before = api.stored()
    refused(api, before, send(alpha, name, content), status, code)


def test_a_file_of_exactly_the_limit_is_taken(alpha: httpx.Client) -> None:
    assert send(alpha, "limit.txt", b"x" * MAX_UPLOAD_BYTES).status_code == 202


def test_broken_multipart_stores_nothing(api: Api, alpha: httpx.Client) -> None:
    before = api.stored()
    file = ("a.txt", b"text")
    two = alpha.post(UPLOAD, data={"collection": "c"}, files=[("file", file), ("file", file)])
    refused(api, before, two, 400, "invalid_request")
    missing = alpha.post(UPLOAD, data={"collection": "c"}, files={"other": file})
    refused(api, before, missing, 422, "missing_file")
    no_file = alpha.post(UPLOAD, files={"collection": (None, b"c")})
    refused(api, before, no_file, 422, "missing_file")
    twice = [("collection", (None, b"c")), ("collection", (None, b"d")), ("file", file)]
    refused(api, before, alpha.post(UPLOAD, files=twice), 422, "invalid_request")
    refused(api, before, alpha.post(UPLOAD, json={"collection": "c"}), 415, "unsupported_media_type")
    refused(api, before, alpha.post(UPLOAD), 415, "unsupported_media_type")
    codec = {"content-type": "multipart/form-data; boundary=b; charset=unicode_escape"}
    refused(api, before, alpha.post(UPLOAD, content=b"--b--", headers=codec), 415, "unsupported_media_type")
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=b"):
        answer = alpha.post(UPLOAD, content=b"rubbish", headers={"content-type": content_type})
        refused(api, before, answer, 400, "invalid_request")
