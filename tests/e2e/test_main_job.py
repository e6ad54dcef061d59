"""The main job, for real: upload over HTTP, two pools of Celery workers, Qdrant, search."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.fleet import EXAMPLES, ROOT, Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]


def test_documents_uploaded_at_once_become_searchable(fleet: Fleet) -> None:
    files = sorted(EXAMPLES.iterdir())
    assert len(files) >= 10
    with ThreadPoolExecutor(len(files)) as pool:
        answers = list(pool.map(lambda file: fleet.upload(file, "all"), files))
    assert {answer["status"] for answer in answers} == {"PENDING"}
    documents = [fleet.ended(answer["document_id"]) for answer in answers]
    assert {document["state"] for document in documents} == {"READY"}
    for answer, document in zip(answers, documents, strict=True):
        task = fleet.task(answer["task_id"])
        assert task["status"] == "SUCCESS"
        assert task["document"]["state"] == "READY"
        assert task["created_at"] <= task["started_at"] <= task["completed_at"]
        result = task["result"]
        assert result["chunk_count"] == document["progress"]["total"]
        assert result["embedding_task_id"] == result["embedding_task_ids"][0]
        for part in result["embedding_task_ids"]:
            assert fleet.task(part)["status"] == "SUCCESS"
        inserted = sum(
            fleet.task(part)["result"]["vectors_inserted"] for part in result["embedding_task_ids"]
        )
        assert inserted == fleet.points("all", answer["document_id"]) == document["progress"]["total"]
    assert fleet.points("all") == sum(document["progress"]["total"] for document in documents)
    for search in json.loads((ROOT / "examples" / "searches.json").read_text("utf-8")):
        assert fleet.search(search["query"], "all")[0]["filename"] == search["expect"]


def test_the_states_of_a_task_move_in_order(fleet: Fleet) -> None:
    answer = fleet.upload(EXAMPLES / "ferry-operations-handbook.pdf", "states")
    seen: list[str] = []

    def look() -> bool:
        task = fleet.task(answer["task_id"])
        if not seen or seen[-1] != task["status"]:
            seen.append(task["status"])
        return task["status"] == "SUCCESS"

    until(look, "the document task ends")
    assert seen[-2:] == ["STARTED", "SUCCESS"]
    assert seen in (["PENDING", "STARTED", "SUCCESS"], ["STARTED", "SUCCESS"])
    assert fleet.ended(answer["document_id"])["state"] == "READY"


def test_the_same_upload_again_changes_nothing(fleet: Fleet) -> None:
    file = EXAMPLES / "rim-brake-adjustment.txt"
    first = fleet.upload(file, "again")
    before = fleet.ended(first["document_id"])
    points = fleet.points("again")
    second = fleet.upload(file, "again")
    assert (second["task_id"], second["document_id"]) == (first["task_id"], first["document_id"])
    assert second["status"] == "SUCCESS"
    assert fleet.document(first["document_id"]) == before
    assert fleet.points("again") == points


def test_a_changed_file_under_the_same_key_leaves_only_its_new_points(fleet: Fleet) -> None:
    long, short = "Cà phê phin cần nước nóng. " * 200, "Trà xanh cần nước ấm hơn. " * 10
    first = fleet.upload(("notes.txt", long.encode()), "changed", document_key="notes")
    assert fleet.ended(first["document_id"])["progress"]["total"] > 1
    second = fleet.upload(("notes.txt", short.encode()), "changed", document_key="notes")
    assert second["document_id"] == first["document_id"]
    changed = fleet.ended(second["document_id"])
    assert (changed["state"], changed["generation"], changed["progress"]["total"]) == ("READY", 2, 1)
    until(lambda: fleet.points("changed") == 1, "the old generation's points are gone")
    assert "Trà xanh" in fleet.search("trà xanh", "changed")[0]["text"]


def test_a_file_that_cannot_be_read_fails_with_a_code_and_no_retry(fleet: Fleet) -> None:
    answer = fleet.upload(("torn.pdf", b"%PDF-1.7\nnothing that a reader would know"), "bad")
    document = fleet.ended(answer["document_id"])
    task = fleet.task(answer["task_id"])
    assert (document["state"], task["status"]) == ("FAILED", "FAILURE")
    assert task["error"]["code"] == "corrupt"
    assert task["error"]["retryable"] is False
    good = fleet.upload(("fine.txt", b"The worker reads on."), "bad")
    assert fleet.ended(good["document_id"])["state"] == "READY"


def test_a_revoked_document_stops_and_leaves_no_points(fleet: Fleet) -> None:
    text = "\n\n".join(f"Paragraph {n} about the tides and the ferry." for n in range(20_000))
    answer = fleet.upload(("long.txt", text.encode()), "revoked")
    until(lambda: fleet.document(answer["document_id"])["progress"]["done"] > 0, "some chunks are embedded")
    revoked = fleet.http.post(f"/tasks/{answer['task_id']}/revoke").raise_for_status().json()
    assert revoked["success"]
    assert fleet.ended(answer["document_id"])["state"] == "REVOKED"
    for part in fleet.task(answer["task_id"])["result"]["embedding_task_ids"]:
        assert fleet.task(part)["status"] in ("REVOKED", "SUCCESS")
    until(lambda: fleet.points("revoked") == 0, "its points are gone")
    again = fleet.http.post(f"/tasks/{answer['task_id']}/revoke").raise_for_status().json()
    assert "before" in again["message"]
