import errno
import os
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import numpy as np
import pytest

from embedfleet import janitor as module
from embedfleet.contracts.documents import Document, point_id
from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, Job
from embedfleet.janitor import Janitor
from embedfleet.runtime import intake
from embedfleet.runtime.blobs import Blobs, pending_key, record_key, revoked_key
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.ledger.views import views
from embedfleet.runtime.revocations import Mark, Revocations
from embedfleet.runtime.settings import LedgerSettings, VectorSettings
from embedfleet.vectors import VectorStore
from tests.runtime.uploads import claim, upload

COLLECTION = "default__notes"


def make_old(blobs: Blobs, key: str) -> None:
    past = time.time() - 3600
    os.utime(Path(blobs.address) / key, (past, past))


class House:
    """A janitor with all that it looks after, and what it published."""

    def __init__(self, ledger: Ledger, blobs: Blobs, store: VectorStore) -> None:
        self.ledger, self.blobs, self.store = ledger, blobs, store
        self.published: list[Job] = []
        self.intake = Intake(ledger, blobs, self.published.extend)
        self.revocations = Revocations(ledger, blobs)
        self.janitor = Janitor(ledger, blobs, store, self.published.extend, LedgerSettings())

    def take(self, document: Document) -> Document:
        self.blobs.put(document.blob, b"the file")
        self.intake.accept(document)
        return document

    def embed(self, document: Document, points: int, *, finish: bool = True) -> None:
        """Bring the newest generation through both pools, as the workers would."""
        job = self.published.pop()
        record = claim(self.ledger, job).document
        file = f"chunks/default/{document.id}/{record.generation}/0"
        self.blobs.put(file, b"chunks")
        part = Part(f"{job.task_id}-part", 0, points, file)
        jobs = self.ledger.chunked(claim(self.ledger, job), [part], {"success": True})
        assert jobs
        self.store.ensure_collection(COLLECTION, 2)
        ids = [point_id(document.id, record.generation, index) for index in range(points)]
        payloads = [{"document_id": document.id, "generation": record.generation} for _ in ids]
        self.store.upsert(COLLECTION, ids, np.ones((points, 2), np.float32), payloads)
        if finish:
            assert self.ledger.embedded(claim(self.ledger, jobs[0]), {}) is True

    def write_late(self, document: Document, generation: int) -> None:
        """Store a point as a writer that lost its claim does, and is killed before it takes it back."""
        late, payload = point_id(document.id, generation, 7), {"generation": generation}
        self.store.upsert(
            COLLECTION, [late], np.ones((1, 2), np.float32), [payload | {"document_id": document.id}]
        )

    def rounds_until(self, found: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not found():
            assert time.monotonic() < deadline, "it never came"
            self.janitor.round()

    def age(self, key: str) -> None:
        """Make a file older than what may be swept."""
        past = time.time() - 2 * intake.ORPHAN_GRACE_SECONDS
        os.utime(Path(self.blobs.address) / key, (past, past))

    def sweep(self) -> None:
        """Run a round that looks at every file."""
        self.janitor._swept_at = -inf
        self.janitor.round()

    def points(self, document: Document) -> int:
        return self.store.count(COLLECTION, document.id)


@pytest.fixture
def house(
    ledger: Ledger, qdrant_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    store = VectorStore(VectorSettings(url=qdrant_url))
    store.ensure_collection(COLLECTION, 2)
    house = House(ledger, Blobs(tmp_path), store)
    monkeypatch.setattr(module, "SETTLE_GRACE_SECONDS", -5)
    for name in ("one", "two"):
        store.delete_generations(COLLECTION, upload(key=f"{name}.txt").id)
    yield house
    store.close()


def test_a_ready_document_is_settled(house: House) -> None:
    document = house.take(upload(key="one.txt"))
    house.embed(document, points=3)
    house.janitor.round()
    durable = Document.model_validate_json(house.blobs.get(record_key(document.tenant, document.id)))
    assert (durable.state, durable.live_generation) == ("READY", 1)
    assert list(house.blobs.keys("pending")) == []
    assert list(house.blobs.keys("chunks")) == []
    assert house.blobs.get(document.blob) == b"the file"
    assert house.ledger.unsettled(10) == []
    assert house.points(document) == 3


def test_points_of_the_generation_before_go_when_the_next_is_ready(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3)
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2)
    assert house.points(document) == 5
    house.janitor.round()
    assert house.points(document) == 2
    assert house.store.count(COLLECTION, document.id, generation=2) == 2


def test_a_revoked_generation_leaves_nothing_and_the_live_one_stays(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3)
    house.janitor.round()
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2, finish=False)
    house.ledger.revoke("default", "t2")
    house.janitor.round()
    assert house.points(document) == house.store.count(COLLECTION, document.id, generation=1) == 3
    assert list(house.blobs.keys("pending")) == list(house.blobs.keys("chunks")) == []


def test_settling_an_old_end_never_touches_a_newer_generation(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3)
    (ended,) = house.ledger.unsettled(10)
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2)
    house.janitor.settle(ended)
    assert house.points(document) == 5
    assert [record.generation for record in house.ledger.unsettled(10)] == [2]


def test_settling_twice_changes_nothing(house: House) -> None:
    document = house.take(upload(key="one.txt"))
    house.embed(document, points=3)
    (ended,) = house.ledger.unsettled(10)
    house.janitor.settle(ended)
    before = house.blobs.get(record_key(document.tenant, document.id))
    house.janitor.settle(ended)
    assert house.blobs.get(record_key(document.tenant, document.id)) == before
    assert house.points(document) == 3


def test_an_upload_whose_row_was_never_written_is_taken_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    document = upload(key="one.txt")
    house.blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
    house.janitor.round()
    assert [job.task_id for job in house.published] == [document.task_id]
    house.janitor.round()
    assert len(house.published) == 1


def test_after_a_loss_of_redis_what_was_accepted_is_driven_again_and_what_was_ready_is_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3)
    house.janitor.round()
    house.take(upload("t2", key="one.txt", content="two"))
    house.published.clear()
    house.ledger._redis.flushall()
    house.janitor.round()
    assert [job.task_id for job in house.published] == ["t2"]
    record = house.ledger.document("default", document.id)
    assert record
    assert (record.generation, record.live_generation, record.state) == (2, 1, "QUEUED")


def test_a_document_that_runs_again_is_not_settled(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.ledger.revoke("default", "t1")
    house.published.clear()
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2, finish=False)
    house.janitor.round()
    assert house.points(document) == 2
    assert list(house.blobs.keys("chunks")) != []
    assert list(house.blobs.keys("pending")) != []


def test_an_older_upload_never_takes_the_place_of_a_newer_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    refused = upload("t1", key="one.txt").model_copy(update={"uploaded_at": 1.0})
    house.blobs.put(pending_key("t1"), refused.model_dump_json().encode())
    newer = upload("t2", key="one.txt", content="two").model_copy(update={"uploaded_at": 2.0})
    house.take(newer)
    house.embed(newer, points=1)
    house.janitor.round()
    record = house.ledger.document("default", newer.id)
    assert record
    assert (record.task_id, record.generation) == ("t2", 1)
    assert list(house.blobs.keys("pending")) == []


def test_one_damaged_manifest_holds_up_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    house.blobs.put(pending_key("aaaa"), b"{}")
    document = upload(key="one.txt")
    house.blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
    house.janitor.round()
    assert [job.task_id for job in house.published] == [document.task_id]
    assert list(house.blobs.keys("damaged")) == ["damaged/pending/aaaa"]


def test_after_a_total_loss_of_redis_what_was_ready_is_still_found(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3)
    house.janitor.round()
    house.ledger._redis.flushall()
    house.janitor.round()
    assert house.ledger.live_generations("default", [document.id]) == {document.id: 1}


def test_points_of_a_lost_generation_do_not_mix_with_its_successor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=10, finish=False)
    house.published.clear()
    house.ledger._redis.flushall()
    house.janitor.round()
    house.embed(document, points=2)
    record = house.ledger.document("default", document.id)
    assert record
    assert (record.generation, record.live_generation) == (2, 2)
    assert house.store.count(COLLECTION, document.id, generation=2) == 2
    house.janitor.settle(record)
    assert house.points(document) == 2


def test_an_upload_that_nothing_names_is_swept_after_an_hour(house: House) -> None:
    kept = house.take(upload("t1", key="one.txt"))
    for key in ("uploads/default/nobody/young.txt", "uploads/default/nobody/old.txt"):
        house.blobs.put(key, b"x")
    for key in (kept.blob, "uploads/default/nobody/old.txt"):
        house.age(key)
    house.janitor.round()
    assert sorted(house.blobs.keys("uploads")) == sorted([kept.blob, "uploads/default/nobody/young.txt"])


@pytest.mark.parametrize("record", ["whole", "damaged"])
def test_the_file_of_the_live_generation_is_kept_until_another_is_ready(house: House, record: str) -> None:
    live = house.take(upload("t1", key="one.txt"))
    house.embed(live, points=1)
    house.janitor.round()
    if record == "damaged":
        house.blobs.put(record_key(live.tenant, live.id), b"{")
    failed = house.take(upload("t2", content="two", key="one.txt"))
    house.ledger.fail(claim(house.ledger, house.published.pop()), EmbeddingError("no"), retryable=False)
    house.age(live.blob)
    house.sweep()
    assert sorted(house.blobs.keys("uploads")) == sorted([live.blob, failed.blob])
    newest = house.take(upload("t3", content="three", key="one.txt"))
    house.embed(newest, points=1)
    house.janitor.round()
    house.age(live.blob)
    house.age(failed.blob)
    house.sweep()
    assert list(house.blobs.keys("uploads")) == [newest.blob]


def test_a_manifest_whose_document_has_ended_is_settled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    document = house.take(upload(key="one.txt"))
    house.embed(document, points=1)
    house.ledger._redis.delete("to_settle", "task:t1")  # its details expired while no janitor ran
    house.janitor.round()
    assert list(house.blobs.keys("pending")) == []
    assert house.published == []


def test_a_revocation_outlives_a_total_loss_of_redis(house: House) -> None:
    document = house.take(upload())
    record = house.ledger.document("default", document.id)
    assert record
    assert house.revocations.revoke(record)
    house.ledger._redis.flushall()
    house.published.clear()
    make_old(house.blobs, pending_key("t1"))
    house.janitor.round()
    assert house.published == []
    assert house.ledger.document("default", document.id) is None
    assert not house.blobs.exists(pending_key("t1"))


def test_a_revocation_that_redis_lost_with_the_end_of_its_log_is_repeated(house: House) -> None:
    document = house.take(upload())
    record = house.ledger.document("default", document.id)
    assert record
    house.blobs.put(revoked_key("t1"), Mark(tenant="default", task_id="t1").model_dump_json().encode())
    house.janitor.round()
    ended = house.ledger.document("default", document.id)
    assert ended
    assert ended.state == "REVOKED"
    make_old(house.blobs, revoked_key("t1"))
    house.janitor.round()
    assert not house.blobs.exists(revoked_key("t1"))


def test_what_a_draining_worker_could_not_hand_back_is_no_death(house: House) -> None:
    house.take(upload())
    house.janitor.round()  # Redis isn't away: leases that run out are deaths
    HandBacks(house.ledger, house.blobs).note(claim(house.ledger, house.published.pop()))
    house.ledger._redis.hset("task:t1", "lease_until", 1)
    house.ledger._redis.zadd("leases:documents", {"t1": 1})
    house.ledger._redis.delete("grace")
    house.janitor.round()
    assert house.ledger._redis.hmget("task:t1", "state", "deaths") == ["PENDING", "0"]
    assert [job.task_id for job in house.published] == ["t1"]


def test_a_mark_that_cannot_be_read_is_put_aside(house: House) -> None:
    house.blobs.put(revoked_key("t1"), b"{")
    house.janitor.round()
    assert list(house.blobs.keys("damaged")) == ["damaged/revoked/t1"]


def test_the_manifest_of_a_second_upload_costs_the_first_one_no_points(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PENDING_GRACE_SECONDS", 0)
    document = house.take(upload("t1"))
    house.embed(document, points=3, finish=False)
    again = upload("t2")
    house.blobs.put(again.blob, b"the file")
    house.blobs.put(pending_key("t2"), again.model_dump_json().encode())
    house.janitor.round()
    assert house.points(document) == 3
    assert not house.blobs.exists(pending_key("t2"))


def test_a_long_round_goes_on_waking_tasks(house: House) -> None:
    house.janitor._interval = 0
    woken: list[str] = []
    house.janitor._wake = lambda: woken.append("woken")  # type: ignore[method-assign]
    house.janitor._each(lambda _: None, range(3))
    assert woken == ["woken"] * 3


@pytest.mark.parametrize("state", ["REVOKED", "FAILED"])
def test_points_that_a_killed_writer_stored_after_the_settling_go_too(house: House, state: str) -> None:
    house.ledger._quiet_after = 0.5
    document = house.take(upload(key="one.txt"))
    house.embed(document, points=3, finish=False)
    held = claim(house.ledger, GenerateEmbeddings(task_id="t1-part"))
    if state == "REVOKED":
        house.ledger.revoke("default", "t1")
    else:
        house.ledger.fail(held, EmbeddingError("no"), retryable=False)
    house.janitor.round()
    assert house.points(document) == 0, "what is there goes at once"
    house.write_late(document, 1)
    house.rounds_until(lambda: house.points(document) == 0)
    house.rounds_until(lambda: list(house.ledger.due_to_settle(inf)) == [])


def test_points_of_an_overtaken_generation_go_though_its_writer_was_killed(house: House) -> None:
    house.ledger._quiet_after = 0.5
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2)
    house.janitor.round()
    house.write_late(document, 1)
    house.rounds_until(lambda: house.points(document) == 2)
    house.rounds_until(lambda: list(house.ledger.due_to_settle(inf)) == [])


def test_a_first_generation_that_is_ready_is_settled_once(house: House) -> None:
    document = house.take(upload(key="one.txt"))
    house.embed(document, points=1)
    house.janitor.round()
    assert list(house.ledger.due_to_settle(inf)) == []


@pytest.mark.parametrize("name", ["bad", ".new-bad"])
def test_a_file_whose_age_the_disk_refuses_to_tell_holds_up_no_other(
    house: House, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.janitor.round()
    house.janitor._swept_at = -inf
    house.take(upload("good", key="one.txt"))
    house.ledger._redis.flushall()
    house.published.clear()
    orphan = "uploads/default/nobody/old.txt"
    for key in (pending_key("bad"), orphan, f"uploads/default/nobody/{name}", "uploads/default/a/.new-z"):
        house.blobs.put(key, b"x")
    for key in (pending_key("good"), pending_key("bad"), orphan, "uploads/default/a/.new-z"):
        make_old(house.blobs, key)
    age = house.blobs._store._age

    def told(path: Path) -> float:
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return age(path)

    monkeypatch.setattr(house.blobs._store, "_age", told)
    with pytest.raises(DependencyDown):
        house.blobs.age(f"uploads/default/nobody/{name}")
    house.janitor.round()
    assert [job.task_id for job in house.published] == ["good"]
    is_rebuilt = name != "bad"
    assert house.ledger.is_rebuilt() == is_rebuilt, "a deletion of its upload would find nothing"
    for key in (orphan, "uploads/default/a/.new-z"):
        assert house.blobs.exists(key) != is_rebuilt, "what a ledger with holes doesn't name may be in use"
    assert house.blobs.exists(f"uploads/default/nobody/{name}")


def test_the_end_of_a_round_is_noted_and_one_that_breaks_off_has_none(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(each: object) -> None:
        raise DependencyDown("Qdrant", "there", "it is down")

    began = house.ledger.now()
    with monkeypatch.context() as patch:
        patch.setattr(house.janitor._deletions, "round", down)
        with pytest.raises(DependencyDown):
            house.janitor.round()
    assert house.ledger.passes().at >= began
    assert house.ledger.overview().last_round == 0
    house.janitor.round()
    assert began <= house.ledger.overview().last_round <= house.ledger.now()


def test_a_settling_that_fails_holds_up_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [house.take(upload(name, key=f"{name}.txt")) for name in ("one", "two", "three")]
    for document in documents:
        house.ledger.revoke("default", document.task_id)
    monkeypatch.setattr(views, "SETTLE_PAGE", 1)
    house.blobs.delete = _refusing(house.blobs.delete, pending_key("one"))  # type: ignore[method-assign]
    house.janitor.round()
    assert [one.task_id for one in house.ledger.unsettled(9)] == ["one"]


def _refusing(call: Callable[[str], None], refused: str) -> Callable[[str], None]:
    def called(key: str) -> None:
        if key == refused:
            raise ValueError(key)
        call(key)

    return called


@pytest.mark.parametrize("error", [DependencyDown("Redis", "here", "gone"), ValueError("a defect")])
def test_a_pause_that_can_not_be_told_is_the_longest(
    house: House, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> float:
        raise error

    monkeypatch.setattr(house.ledger, "next_expiry", refuse)
    assert house.janitor._pause() == LedgerSettings().scan_seconds


def test_nothing_is_swept_before_the_ledger_is_rebuilt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = "chunks/default/somebody/1/0"
    house.blobs.put(chunks, b"x")
    house.age(chunks)
    monkeypatch.setattr(house.janitor._durable, "run", lambda each: False)
    house.sweep()
    assert house.blobs.exists(chunks)
    monkeypatch.undo()
    house.sweep()
    assert not house.blobs.exists(chunks)
