"""Deleting on a real fleet: what is shown, what is left, and when."""

from pathlib import Path

import pytest

from embedfleet.runtime.blobs import Blobs
from tests.e2e.fleet import EXAMPLES, Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]

LINE = "The ferry leaves the northern pier at nine and the captain rings the bell. "


def files_of(fleet: Fleet, document_id: str) -> list[str]:
    """Return what is left of a document, but for the tombstone, which waits for writers that may be late."""
    blobs = Blobs(Path(fleet.env["FLEET_DATA_DIR"]) / "blobs")
    return [key for key in blobs.keys("") if document_id in key and not key.startswith("deleted/")]


def test_a_ready_document_is_gone_from_everywhere(fleet: Fleet) -> None:
    identifier = fleet.upload(EXAMPLES / "library-faq.md", "gone")["document_id"]
    assert fleet.ended(identifier)["state"] == "READY"
    assert fleet.search("opening hours", "gone")
    path = f"/documents/{identifier}"
    assert fleet.http.delete(path).status_code == 202
    search = fleet.http.post("/search", json={"collection": "gone", "query": "opening hours", "limit": 5})
    assert search.status_code == 404
    until(lambda: fleet.http.delete(path).status_code == 404, "the deletion is done", 60)
    assert fleet.points("gone", identifier) == 0
    assert files_of(fleet, identifier) == []


def test_a_collection_that_is_being_embedded_is_deleted_and_one_is_uploaded_again(fleet: Fleet) -> None:
    for number in range(3):
        text = (f"Part {number}. {LINE}" * 20_000).encode()
        fleet.upload((f"long-{number}.txt", text), "torn", chunk_size=300, chunk_overlap=0)
    until(lambda: fleet.points("torn") > 0, "vectors are being stored", 120)
    assert fleet.http.delete("/collections/torn").json()["documents"] == 3
    again = fleet.upload(("long-0.txt", LINE.encode()), "torn")["document_id"]
    document = fleet.ended(again)
    assert (document["state"], document["generation"]) == ("READY", 2)
    until(lambda: fleet.points("torn") == document["progress"]["total"], "the deletion is done", 120)
    assert fleet.points("torn", again) == document["progress"]["total"]
    assert [hit["document_id"] for hit in fleet.search("when does the ferry leave?", "torn")] == [again]
