"""Redis comes back as it was some time ago: durable records are newer, and what came since is newer still."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings
from embedfleet.runtime.blobs import pending_key, record_key
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger.calls import SLICE
from embedfleet.runtime.ledger.records import Claim, Part, Pulse
from embedfleet.runtime.ledger.tombstones import Deletion, Tombstone, Tombstones
from tests.runtime.uploads import claim, upload
from tests.test_janitor import COLLECTION, House, house, make_old

__all__ = ["house"]

PART = GenerateEmbeddings(task_id="t1-part")


def snapshot(house: House) -> Callable[[], None]:
    """Keep what Redis holds; the answer brings it back once, as another run of Redis."""
    redis: Any = house.ledger._redis
    for key in redis.keys("*"):
        redis.copy(key, key, destination_db=1)

    def come_back() -> None:
        redis.flushdb()
        redis.swapdb(0, 1)
        redis.set("rebuilt", "another run")
        house.published.clear()

    return come_back


def record(house: House, document: Document) -> Document:
    found = house.ledger.document("default", document.id)
    assert found
    return found


def ready(house: House, document: Document, points: int = 3) -> Document:
    """Upload, embed and settle a document."""
    house.take(document)
    house.embed(document, points)
    house.janitor.round()
    return record(house, document)


def test_a_document_that_is_ready_does_not_go_back_to_work(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    come_back = snapshot(house)
    assert house.ledger.embedded(claim(house.ledger, PART), {}) is True
    house.janitor.round()
    before = record(house, document)
    come_back()
    assert record(house, document).state == "EMBEDDING"
    house.janitor.round()
    assert record(house, document) == before
    assert house.ledger.claim(PART, "w") == "finished"
    assert house.points(document) == 3
    assert house.ledger.load("default", "default").documents == 0
    assert house.ledger.load("default", "default").tokens == 0
    assert house.ledger.unsettled(9) == []
    assert list(house.blobs.keys("pending")) == list(house.blobs.keys("chunks")) == []
    assert house.ledger.is_rebuilt()


@pytest.mark.parametrize("is_settled_first", [False, True])
def test_a_run_that_found_no_chunk_file_does_not_cost_a_ready_document_its_points(
    house: House, is_settled_first: bool
) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    come_back = snapshot(house)
    house.ledger.embedded(claim(house.ledger, PART), {})
    house.janitor.round()
    before = record(house, document)
    come_back()
    error = EmbeddingError("no chunk file", code="no_blob")
    house.ledger.fail(claim(house.ledger, PART), error, retryable=False)
    failed = record(house, document)
    assert failed.state == "FAILED"
    if is_settled_first:
        house.janitor.settle(failed)
    house.janitor.round()
    assert record(house, document) == before
    assert house.points(document) == 3


def test_a_generation_that_the_snapshot_does_not_know_is_live_again(house: House) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    come_back = snapshot(house)
    before = ready(house, upload("t2", key="one.txt", content="two"), points=2)
    other = ready(house, upload("t3", key="two.txt"))
    come_back()
    house.janitor.round()
    assert record(house, document) == before
    assert record(house, other) == other
    assert house.ledger.live_generations("default", [document.id]) == {document.id: 2}
    assert house.points(document) == 2
    assert house.ledger.documents("default", "notes", 9)[1] == 2


def test_what_was_in_work_before_a_newer_generation_was_ready_is_stopped(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    come_back = snapshot(house)
    before = ready(house, upload("t2", key="one.txt", content="two"), points=2)
    come_back()
    running = claim(house.ledger, PART)
    house.janitor.round()
    assert record(house, document) == before
    assert house.ledger.embedded(running, {}) is None
    assert house.points(document) == 2


def test_an_upload_before_the_comparison_is_a_generation_above_all_others(house: House) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    come_back = snapshot(house)
    ready(house, upload("t2", key="one.txt", content="two"), points=5)
    come_back()
    house.take(upload("t3", key="one.txt", content="three"))
    assert (record(house, document).generation, record(house, document).live_generation) == (3, 2)
    house.janitor.round()
    assert record(house, document).task_id == "t3", "never in the place of a newer truth"
    house.embed(document, points=2)
    house.janitor.round()
    assert house.points(document) == house.store.count(COLLECTION, document.id, generation=3) == 2


def test_an_upload_after_a_loss_is_above_generations_that_were_in_work(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=9, finish=False)
    house.ledger._redis.flushall()
    house.published.clear()
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2)
    assert record(house, document).live_generation == 2
    house.janitor.round()
    assert house.points(document) == 2


def test_a_revocation_since_then_holds_and_its_record_goes(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    come_back = snapshot(house)
    house.ledger.embedded(claim(house.ledger, PART), {})
    house.janitor.round()
    come_back()
    assert house.revocations.revoke(record(house, document))
    for _ in range(2):
        house.janitor.round()
        assert record(house, document).state == "REVOKED"
        assert house.points(document) == 0
        assert not house.blobs.exists(record_key(document.tenant, document.id)), (
            "the next loss of Redis would bring it back"
        )
        house.ledger._redis.set("rebuilt", "yet another run")


def test_a_revocation_in_flight_meets_the_document_that_is_ready(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    come_back = snapshot(house)
    asked = record(house, document)
    house.ledger.embedded(claim(house.ledger, PART), {})
    house.janitor.round()
    come_back()
    house.janitor.round()
    assert not house.revocations.revoke(asked)
    assert record(house, document).state == "READY"


def test_a_deletion_since_then_is_refused_and_one_before_holds(house: House) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    come_back, deletion = snapshot(house), Deletion(house.ledger, house.blobs)
    assert deletion.document("default", document.id)
    come_back()
    with pytest.raises(DependencyDown):
        deletion.document("default", document.id)
    house.janitor.round()
    assert house.ledger.document("default", document.id) is None
    assert not house.ledger.restore(document)


def test_a_restart_that_lost_nothing_changes_nothing(house: House) -> None:
    settled = ready(house, upload("t1", key="one.txt"))
    running = house.take(upload("t2", key="two.txt"))
    house.embed(running, points=1, finish=False)
    revoked = house.take(upload("t3", key="three.txt"))
    house.ledger.revoke("default", "t3")
    house.janitor.round()
    rows = {one.id: record(house, one) for one in (settled, running, revoked)}
    house.ledger._redis.set("rebuilt", "another run")
    calls: list[str] = []
    call = house.ledger._call

    def noted(edge: str, arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(edge)
        return call(edge, arguments)

    house.ledger._call = noted  # type: ignore[method-assign]
    house.janitor.round()
    assert house.ledger.is_rebuilt()
    assert "restore" not in calls
    assert {one.id: record(house, one) for one in (settled, running, revoked)} == rows


def test_uploads_that_come_meanwhile_do_not_put_off_the_end_of_the_comparison(house: House) -> None:
    house.ledger._redis.set("rebuilt", "another run")
    house.janitor._lost_at = 0.0001  # noticed long ago
    coming = upload("t1", key="one.txt")
    house.blobs.put(pending_key("t1"), coming.model_dump_json().encode())  # its row comes in a moment
    house.janitor.round()
    assert house.ledger.is_rebuilt()


def test_a_generation_that_is_overtaken_as_soon_as_it_is_ready_is_durable(house: House) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    house.take(upload("t2", key="one.txt", content="two"))
    house.embed(document, points=2)
    live = record(house, document)
    house.take(upload("t3", key="one.txt", content="three"))  # before the janitor has settled the second
    house.ledger.revoke("default", "t3")
    house.janitor.round()
    house.ledger._redis.flushall()
    house.blobs.delete_folder("pending")
    house.janitor.round()
    assert (record(house, document).task_id, record(house, document).live_generation) == (live.task_id, 2)
    assert house.points(document) == 2


def test_a_damaged_record_holds_up_no_other(house: House) -> None:
    ready(house, upload("t1", key="one.txt"))
    other = ready(house, upload("t2", key="two.txt"))
    damaged = upload(key="one.txt")
    house.blobs.put(record_key(damaged.tenant, damaged.id), b"{")
    house.ledger._redis.flushall()
    house.janitor.round()
    assert record(house, other).state == "READY"
    assert house.ledger.document("default", upload(key="one.txt").id) is None


def test_a_tombstone_that_redis_refuses_holds_up_no_other(house: House) -> None:
    bad, good = (ready(house, upload(name, key=f"{name}.txt"), points=1) for name in ("one", "two"))
    for document in (bad, good):
        Tombstones(house.blobs).put(Tombstone.of(document))
    house.ledger._redis.flushall()
    house.ledger._redis.set(f"deleted:default:{bad.id}", "no hash")
    house.janitor.round()
    assert house.ledger.deleted_through("default", good.id) == 1


WRITES: dict[str, Callable[[House, Claim], object]] = {
    "beat": lambda house, held: (
        not house.ledger.beat(
            "embeddings", "w", [Pulse(held.task_id, held.fence, held.owner, "encode", 1, 3)]
        )
    ),
    "embedded": lambda house, held: house.ledger.embedded(held, {}),
    "fail": lambda house, held: house.ledger.fail(held, EmbeddingError("no"), retryable=False),
    "hand_back": lambda house, held: house.ledger.hand_back(held),
    "note": lambda house, held: (HandBacks(house.ledger, house.blobs).note(held), house.janitor.round())[1],
}


@pytest.mark.parametrize("write", WRITES)
def test_a_run_from_before_a_loss_is_refused_though_its_number_comes_again(house: House, write: str) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    old = claim(house.ledger, PART, "old")
    house.ledger._redis.flushall()
    house.published.clear()
    make_old(house.blobs, pending_key("t1"))
    house.janitor.round()
    held = claim(house.ledger, house.published.pop())
    house.ledger.chunked(held, [Part("t1-part", 0, 3, "f")], {})
    new = claim(house.ledger, PART, "new")
    assert new.fence == old.fence
    assert not WRITES[write](house, old)
    assert house.ledger.embedded(new, {}) is True


def test_a_parser_from_before_a_loss_takes_no_plan_of_another_away(house: House) -> None:
    house.take(upload("t1", key="one.txt"))
    come_back = snapshot(house)
    job = house.published.pop()
    old = claim(house.ledger, job, "old")
    come_back()
    new = claim(house.ledger, job, "new")
    parts = [Part(f"p{number}", number, 1, "f") for number in range(60)]
    house.ledger._plan(new, [asdict(part) for part in parts[SLICE:]])
    assert house.ledger.chunked(old, parts[:1], {}) is None
    house.ledger._plan(old, [asdict(part) for part in parts[1 : 61 - SLICE]])
    plan = house.ledger._redis.lrange(f"plan:t1:{new.owner}", 0, -1)
    assert [json.loads(row)["task_id"] for row in plan] == [part.task_id for part in parts[SLICE:]]
