"""Deletions on real Redis, blobs and embedded Qdrant: each death, each race, each loss."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedfleet import deletions
from embedfleet import janitor as janitor_module
from embedfleet.contracts.documents import Document, point_id
from embedfleet.contracts.errors import DependencyDown
from embedfleet.deletions import Deletions
from embedfleet.janitor import Janitor
from embedfleet.runtime import intake
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.tombstones import Deletion, Tombstone, Tombstones
from embedfleet.runtime.settings import LedgerSettings, VectorSettings
from embedfleet.runtime.worker.runs import Run
from embedfleet.vectors import VectorStore
from tests.runtime.uploads import claim, upload
from tests.test_janitor import COLLECTION, House

STEPS = 6


class Place(House):
    """A house with the delete path of the API."""

    def __init__(self, ledger: Ledger, blobs: Blobs, store: VectorStore) -> None:
        super().__init__(ledger, blobs, store)
        self.tombstones = Tombstones(blobs)
        self.deletion = Deletion(ledger, blobs)
        self.restart()

    def restart(self) -> None:
        """Put new processes in the place of those that died."""
        self.janitor = Janitor(self.ledger, self.blobs, self.store, self.published.extend, LedgerSettings())
        self.deletions = Deletions(self.ledger, self.blobs, self.store)

    def settled(self, document: Document, points: int = 3) -> Document:
        """Upload a document, embed it, make it durable."""
        self.take(document)
        self.embed(document, points)
        self.janitor.round()
        return document

    def delete(self, document: Document) -> None:
        assert self.deletion.document(document.tenant, document.id)

    def tombstone(self, document: Document) -> Tombstone:
        found = self.tombstones.of_document(document.tenant, document.collection, document.id)
        return max(found, key=lambda tombstone: tombstone.generation)

    def left(self) -> list[str]:
        return list(self.blobs.keys(""))

    def is_gone(self, document: Document) -> bool:
        return self.points(document) == 0 and self.left() == []


@pytest.fixture
def place(
    ledger: Ledger, qdrant_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    store = VectorStore(VectorSettings(url=qdrant_url))
    store._client.delete_collection(COLLECTION)  # other tests leave points in it
    store.ensure_collection(COLLECTION, 2)
    ledger._durable_after = ledger._quiet_after = 0
    ledger.rebuilt(ledger.run_id())
    monkeypatch.setattr(janitor_module, "SETTLE_GRACE_SECONDS", -5)
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    yield Place(ledger, Blobs(tmp_path), store)
    store.close()


def newer(task_id: str, uploaded_at: float = 9.0) -> Document:
    return upload(task_id, key="one.txt").model_copy(update={"uploaded_at": uploaded_at})


def test_a_deleted_document_leaves_nothing(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    other = place.settled(upload("t2", key="two.txt"), points=2)
    place.delete(document)
    assert place.ledger.live_generations("default", [document.id]) == {}
    assert list(place.blobs.keys("deleted")) == [f"deleted/default/notes/{document.id}/1"]
    place.janitor.round()
    assert place.points(document) == 0
    assert place.points(other) == 2
    assert sorted(place.left()) == sorted([other.blob, record_key(other.tenant, other.id)])


def test_deleting_again_is_the_same_until_it_is_done(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    for _ in range(2):
        assert place.deletion.document("default", document.id)
        assert not place.deletion.document("other", document.id)
    place.janitor.round()
    assert not place.deletion.document("default", document.id)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../documents", "x" * 5000, "\x00", "*"])
def test_what_is_no_id_is_unknown(place: Place, name: str) -> None:
    place.delete(place.settled(upload(key="one.txt")))
    assert not place.deletion.document("default", name)


@pytest.mark.parametrize("taken", range(STEPS + 1))
def test_a_janitor_that_dies_after_any_step_is_followed_by_another(place: Place, taken: int) -> None:
    document = place.settled(upload(key="one.txt"))
    place.delete(document)
    assert len(place.deletions.steps) == STEPS
    for step in place.deletions.steps[:taken]:
        step(place.tombstone(document))
    assert place.is_gone(document) == (taken == STEPS)
    place.restart()
    place.janitor.round()
    assert place.is_gone(document)
    assert place.ledger.accept(newer("t2")).generation == 2


@pytest.mark.parametrize("taken", range(STEPS))
def test_a_loss_of_redis_after_any_step_brings_nothing_back(place: Place, taken: int) -> None:
    document = place.take(upload(key="one.txt"))
    place.embed(document, points=3)  # its manifest is still there
    place.blobs.put(
        record_key(document.tenant, document.id), place.ledger.unsettled(1)[0].model_dump_json().encode()
    )
    place.delete(document)
    place.published.clear()
    for step in place.deletions.steps[:taken]:
        step(place.tombstone(document))
    place.ledger._redis.flushall()
    place.restart()
    place.janitor.round()
    place.janitor.round()
    assert place.is_gone(document)
    assert place.published == []
    assert place.ledger.document("default", document.id) is None


def test_an_api_that_dies_after_the_tombstone_has_deleted_the_document(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    record = place.ledger.document("default", document.id)
    assert record
    place.tombstones.put(Tombstone.of(record))
    place.janitor.round()
    assert place.is_gone(document)
    assert place.ledger.document("default", document.id) is None


def test_an_upload_is_never_unchanged_against_a_document_with_a_tombstone(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    record = place.ledger.document("default", document.id)
    assert record
    place.tombstones.put(Tombstone.of(record))
    place.take(newer("t2"))  # the same content
    place.janitor.round()
    assert [job.task_id for job in place.published] == ["t2"]
    again = place.ledger.document("default", document.id)
    assert again
    assert (again.generation, again.live_generation) == (2, 0)


@pytest.mark.parametrize("taken", range(STEPS + 1))
def test_an_upload_while_the_deletion_goes_on_survives_it(place: Place, taken: int) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    tombstone = place.tombstone(document)
    for step in place.deletions.steps[:taken]:
        step(tombstone)
    again = place.take(newer("t2"))
    for step in place.deletions.steps[:taken]:
        step(tombstone)
    place.embed(again, points=2)
    place.janitor.round()
    place.janitor.round()
    assert place.points(document) == place.store.count(COLLECTION, document.id, generation=2) == 2
    assert sorted(place.left()) == sorted([again.blob, record_key(again.tenant, again.id)])
    assert place.ledger.live_generations("default", [document.id]) == {document.id: 2}


def test_a_loss_of_redis_during_both_keeps_the_upload_and_not_the_deleted(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    again = place.take(newer("t2"))
    place.published.clear()
    place.ledger._redis.flushall()
    place.restart()
    place.janitor.round()
    assert [job.task_id for job in place.published] == ["t2"]
    record = place.ledger.document("default", document.id)
    assert record
    assert (record.generation, record.live_generation) == (2, 0)
    place.embed(again, points=1)
    place.janitor.round()
    assert place.points(document) == 1
    assert sorted(place.left()) == sorted([again.blob, record_key(again.tenant, again.id)])


def test_a_newer_upload_that_is_ready_is_put_back_beside_an_unfinished_deletion(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    tombstone = place.tombstone(document)
    place.settled(newer("t2"), points=2)
    place.tombstones.put(tombstone)  # as if the deletion had not come to its end
    place.ledger._redis.flushall()
    place.restart()
    place.janitor.round()
    assert place.ledger.live_generations("default", [document.id]) == {document.id: 2}
    assert place.points(document) == 2


def test_superseded_uploads_go_with_the_document(place: Place) -> None:
    place.take(upload("t1", key="one.txt").model_copy(update={"uploaded_at": 1.0}))
    document = place.take(upload("t2", key="one.txt", content="two").model_copy(update={"uploaded_at": 2.0}))
    assert len(list(place.blobs.keys("uploads"))) == len(list(place.blobs.keys("pending"))) == 2
    place.ledger._redis.delete("task:t1")  # its details expired
    place.delete(document)
    place.janitor.round()
    assert place.is_gone(document)


def test_an_upload_that_has_no_manifest_yet_is_left_alone(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    coming = newer("t2")
    place.blobs.put(coming.blob, b"stored, and its manifest is about to be")
    place.delete(document)
    place.janitor.round()
    assert place.left() == [coming.blob]
    past = time.time() - 2 * intake.ORPHAN_GRACE_SECONDS
    os.utime(Path(place.blobs.address) / coming.blob, (past, past))
    place.tombstones.put(Tombstone.of(document))
    place.janitor.round()
    assert place.left() == []


def test_a_deletion_of_the_upload_again_is_one_of_its_own(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    first = place.tombstone(document)
    place.take(newer("t2"))
    place.delete(document)
    for step in place.deletions.steps:
        step(first)
    assert place.tombstone(document).generation == 2
    place.janitor.round()
    assert place.is_gone(document)


def test_the_tombstone_stays_while_a_writer_may_be_at_work(place: Place) -> None:
    place.ledger._quiet_after = 0.4
    document, began = place.take(upload(key="one.txt")), time.monotonic()
    place.embed(document, points=3, finish=False)
    place.delete(document)
    place.janitor.round()
    assert place.points(document) == 0
    assert place.left() == [place.tombstone(document).key]
    late = [point_id(document.id, 1, 7)]
    place.store.upsert(
        COLLECTION, late, np.ones((1, 2), np.float32), [{"document_id": document.id, "generation": 1}]
    )
    while place.left():
        assert time.monotonic() < began + 10
        place.janitor.round()
    assert time.monotonic() >= began + 0.4
    assert place.is_gone(document)


def test_what_is_gone_is_noted_only_where_the_deletion_is_known_and_never_for_less(place: Place) -> None:
    place.ledger.note_removed("default", "a", 2)
    assert place.ledger._redis.keys("deleted:*") == [], "it would stay for ever, and no deletion would go on"
    place.ledger.delete("default", "a", 10)
    for generation in (10, 9):
        place.ledger.note_removed("default", "a", generation)
    assert place.ledger.removed_through(["default:a"]) == [10]


def test_where_redis_has_forgotten_a_deletion_its_writers_are_waited_for(place: Place) -> None:
    place.ledger._quiet_after = 60
    document = place.settled(upload("t1"))
    place.tombstones.put(Tombstone.of(document))
    place.ledger._redis.flushall()
    place.ledger.rebuilt(place.ledger.run_id())
    place.janitor.round()
    assert list(place.blobs.keys("deleted"))


def test_what_is_gone_is_told_so_while_its_tombstone_still_waits_for_late_writers(place: Place) -> None:
    place.ledger._quiet_after = 60
    document = place.settled(upload("t1"))
    place.delete(document)
    assert place.deletion.document("default", document.id), "its points are there"
    place.janitor.round()
    assert not place.deletion.document("default", document.id)
    assert place.deletion.collection("default", document.collection) is None
    assert list(place.blobs.keys("deleted"))
    place.settled(upload("t2"))
    place.delete(document)
    assert place.deletion.document("default", document.id), "the generation after it is not gone yet"


@pytest.mark.parametrize("uploaded_again", [False, True])
def test_a_writer_that_comes_after_the_end_takes_back_what_it_stored(
    place: Place, uploaded_again: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", str(tmp_path))
    from embedfleet.embeddings import tasks

    monkeypatch.setattr(tasks, "_store", place.store)
    monkeypatch.setattr(tasks._worker, "ledger", place.ledger)
    document = place.take(upload(key="one.txt"))
    run = Run(claim(place.ledger, place.published[-1]), threading.Event(), 60)
    place.delete(document)
    place.janitor.round()
    if uploaded_again:
        place.published.clear()
        place.settled(newer("t2"), points=2)
    late = [point_id(document.id, 1, 7)]
    place.store.upsert(
        COLLECTION, late, np.ones((1, 2), np.float32), [{"document_id": document.id, "generation": 1}]
    )
    tasks._take_back(run, COLLECTION)
    assert place.points(document) == (2 if uploaded_again else 0)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_parser_that_comes_late_takes_back_its_chunk_files(
    place: Place, deleted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", str(tmp_path))
    from embedfleet.documents import tasks

    monkeypatch.setattr(tasks, "_blobs", place.blobs)
    monkeypatch.setattr(tasks._worker, "ledger", place.ledger)
    document = place.take(upload(key="one.txt"))
    run = Run(claim(place.ledger, place.published[-1]), threading.Event(), 60)
    if deleted:
        place.delete(document)
        place.janitor.round()
    place.blobs.put(f"chunks/default/{document.id}/1/0", b"late")
    tasks._take_back(run)
    assert list(place.blobs.keys("chunks")) == ([] if deleted else [f"chunks/default/{document.id}/1/0"])


def test_settling_late_does_not_bring_the_record_back(place: Place) -> None:
    document = place.take(upload(key="one.txt"))
    place.embed(document, points=1)
    (ended,) = place.ledger.unsettled(9)
    place.delete(document)
    place.janitor.round()
    place.janitor.settle(ended)
    assert place.is_gone(document)


def test_a_collection_goes_with_all_its_documents_and_no_other(place: Place) -> None:
    for number, key in enumerate(("one.txt", "two.txt")):
        place.settled(upload(f"t{number}", key=key))
    other = upload("t9", key="one.txt")
    elsewhere = place.take(other.model_copy(update={"collection": "other", "id": str(other.id)[::-1]}))
    assert place.deletion.collection("default", "nothing") is None
    assert place.deletion.collection("acme", "notes") is None
    assert place.deletion.collection("default", "notes") == 2
    assert place.deletion.collection("default", "notes") == 0
    assert place.ledger.documents("default", None, 9)[1] == 1
    place.janitor.round()
    assert place.deletion.collection("default", "notes") is None
    assert place.store.count(COLLECTION) == 0
    assert place.ledger.document("default", elsewhere.id)


def test_nothing_is_deleted_while_redis_may_not_know_it(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    place.ledger._redis.flushall()
    for refused in (
        lambda: place.deletion.document("default", document.id),
        lambda: place.deletion.collection("default", "notes"),
    ):
        with pytest.raises(DependencyDown, match="being put back"):
            refused()
    place.janitor.round()
    place.delete(document)


def test_redis_is_not_rebuilt_while_an_upload_is_too_young_to_be_taken_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = place.take(upload(key="one.txt"))
    place.ledger._redis.flushall()
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 3600)
    place.janitor.round()
    assert not place.ledger.is_rebuilt()
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    place.janitor.round()
    assert place.ledger.is_rebuilt()
    place.delete(document)
    place.janitor.round()
    assert place.is_gone(document)


def test_a_damaged_tombstone_holds_up_no_other(place: Place) -> None:
    place.blobs.put("deleted/default/notes/aaaa/1", b"{}")
    document = place.settled(upload(key="one.txt"))
    place.delete(document)
    place.janitor.round()
    assert place.points(document) == 0
    assert place.left() == ["damaged/deleted/default/notes/aaaa/1"]


def test_a_manifest_of_a_deleted_upload_is_not_driven(place: Place) -> None:
    document = place.take(upload(key="one.txt"))
    place.delete(document)
    place.published.clear()
    place.ledger._redis.delete("task:t1")
    assert place.blobs.exists(pending_key("t1"))
    place.janitor._take_up_pending()
    assert place.published == []
    assert not place.blobs.exists(pending_key("t1"))


def test_a_deleted_document_does_not_come_back_for_a_moment_after_a_loss_of_redis(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    place.delete(document)
    place.ledger._redis.flushall()
    place.janitor._durable.run(place.janitor._each)
    assert place.ledger.live_generations("default", [document.id]) == {}


def test_points_that_come_after_their_step_keep_the_tombstone(place: Place) -> None:
    document = place.settled(upload(key="one.txt"))
    place.delete(document)
    tombstone = place.tombstone(document)
    for step in place.deletions.steps[:-1]:
        step(tombstone)
    late = [point_id(document.id, 1, 7)]
    place.store.upsert(
        COLLECTION, late, np.ones((1, 2), np.float32), [{"document_id": document.id, "generation": 1}]
    )
    place.deletions.steps[-1](tombstone)
    assert place.left() == [tombstone.key]
    place.janitor.round()
    assert place.is_gone(document)


def test_nothing_of_a_newer_generation_is_removed(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    tombstone = place.tombstone(document)
    live = place.settled(newer("t2"), points=2)
    place.take(upload("t3", key="one.txt", content="three").model_copy(update={"uploaded_at": 10.0}))
    place.embed(document, points=1, finish=False)
    before = place.left()
    assert f"chunks/default/{document.id}/3/0" in before
    for step in place.deletions.steps:
        step(tombstone)
    assert sorted(place.left()) == sorted(before)
    assert live.blob in before
    assert place.points(document) == 3


def test_the_file_of_a_live_document_stays_however_old_it_is(place: Place) -> None:
    document = place.settled(upload("t1", key="one.txt"))
    place.delete(document)
    tombstone = place.tombstone(document)
    live = place.settled(newer("t2"))
    place.ledger._redis.delete("task:t2")  # its details expired
    past = time.time() - 2 * intake.ORPHAN_GRACE_SECONDS
    os.utime(Path(place.blobs.address) / live.blob, (past, past))
    for step in place.deletions.steps:
        step(tombstone)
    assert place.blobs.exists(live.blob)


def test_a_pass_takes_all_deletions_some_a_round(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "LIMIT", 1)
    documents = [place.settled(upload(name, key=f"{name}.txt"), points=1) for name in ("one", "two", "three")]
    for document in documents:
        place.delete(document)
    carried: list[str] = []
    place.deletions.steps = (lambda tombstone: carried.append(tombstone.document_id),)
    began = place.ledger.now()
    while place.ledger.passes().deleted < began:
        assert len(carried) < 9
        place.deletions.round(place.janitor._each)
        assert place.ledger.passes().at >= began
    assert sorted(carried) == sorted(document.id for document in documents)
    place.deletions.round(place.janitor._each)
    assert place.deletions.has_more, "the next pass begins anew"


def test_a_pass_that_breaks_off_is_not_taken_for_one(place: Place) -> None:
    place.delete(place.settled(upload(key="one.txt")))
    before = place.ledger.passes()

    def down(_: Tombstone) -> None:
        raise DependencyDown("Redis", "there", "it is down")

    place.deletions.steps = (down,)
    with pytest.raises(DependencyDown):
        place.deletions.round(place.janitor._each)
    assert place.ledger.passes() == before


def test_a_deletion_that_something_always_refuses_holds_up_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = sorted(
        (place.settled(upload(name, key=f"{name}.txt")) for name in ("one", "two")), key=lambda one: one.id
    )
    for document in documents:
        place.delete(document)
    remove = place.store.delete_generations

    def refused(name: str, document_id: str, keep: int | None = None, through: int | None = None) -> None:
        if document_id == documents[0].id:
            raise DependencyDown("Qdrant", "there", "it answered 500: this shard is broken")
        remove(name, document_id, keep, through)

    with monkeypatch.context() as patch:
        patch.setattr(place.store, "delete_generations", refused)
        place.janitor.round()
    assert [place.points(document) for document in documents] == [3, 0]
    assert list(place.blobs.keys("deleted")) == [place.tombstone(documents[0]).key]
    assert place.ledger.passes().deleted > 0
    place.janitor.round()
    assert place.points(documents[0]) == 0


def test_a_qdrant_that_is_down_is_not_asked_for_each_deletion(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        place.delete(place.settled(upload(name, key=f"{name}.txt")))
    before, asked = place.ledger.passes().deleted, list[str]()

    def refused(*arguments: object, **options: object) -> None:
        asked.append("asked")
        raise DependencyDown("Qdrant", "there", "connection refused")

    monkeypatch.setattr(place.store, "delete_generations", refused)
    monkeypatch.setattr(place.store, "ping", refused)
    with pytest.raises(DependencyDown):
        place.deletions.round(place.janitor._each)
    assert len(asked) == 2
    assert place.ledger.passes().deleted == before
    assert not place.deletions.has_more, "the next round begins again"
