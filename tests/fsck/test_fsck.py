"""What the check promises as a whole: filters, repeated repairs, refusals, renewal beside users."""

import json
import os
from pathlib import Path

import pytest

from embedfleet.cli.doctor.embedded import other_models
from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.fsck.findings import Kind, Patience, Scope
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import pending_key, record_key
from tests.fsck.house import COLLECTION, House, document
from tests.runtime.uploads import claim


def break_points(house: House, name: str = "one") -> None:
    one = document(name)
    house.store.delete_generations(COLLECTION, one.id)


def test_a_lost_collection_is_every_document_of_it(house: House) -> None:
    for name in ("one", "two"):
        house.settled(document(name))
    house.store._client.delete_collection(COLLECTION)
    assert house.kinds() == [Kind.POINTS_MISSING] * 2
    house.repair()
    for name in ("one", "two"):
        house.embed(document(name))  # the last published, whichever of the two that is
    for name in ("one", "two"):
        house.janitor.settle(house.row(document(name)))
    assert house.kinds() == []


def test_the_old_generation_is_live_until_the_renewed_one_is_ready(house: House) -> None:
    one = house.settled(document())
    house.put_points(one, range(3), model_key="another")
    assert house.repair() == {Kind.WRONG_MODEL: "processed again as its next generation"}
    row = house.row(one)
    assert (row.state, row.generation, row.live_generation, row.model_key) == ("QUEUED", 2, 1, "model")
    assert house.store.count(COLLECTION, one.id, generation=1) == 3
    assert house.blobs.get(row.blob) == b"the file" != row.blob
    assert house.blobs.exists(pending_key(row.task_id))


def test_the_file_of_the_live_generation_is_no_orphan_when_a_newer_one_failed(house: House) -> None:
    live = house.settled(document())
    newer = {
        "task_id": "newer",
        "content_hash": "two",
        "blob": live.blob.replace(live.task_id, "newer"),
    }
    house.take(document().model_copy(update=newer))
    house.ledger.fail(claim(house.ledger, house.published.pop()), EmbeddingError("no"), retryable=False)
    os.utime(Path(house.blobs.address) / live.blob, (1, 1))
    assert Kind.ORPHAN_UPLOAD not in house.kinds()


def test_repairing_again_while_a_document_is_in_work_changes_nothing(house: House) -> None:
    house.settled(document())
    break_points(house)
    (finding,) = house.findings()
    house.repair()
    row, published = house.row(document()), list(house.published)
    house.repair()
    assert house.row(document()) == row
    assert house.published == published
    assert finding.kind is Kind.POINTS_MISSING


def test_a_renewal_whose_answer_was_lost_is_taken_once(house: House) -> None:
    before = house.settled(document())
    assert house.intake.renew(before, "model")
    row = house.row(before)
    assert house.intake.renew(before, "model")
    assert house.row(before) == row
    assert len(house.published) == 1


def test_a_renewal_never_brings_back_what_was_deleted(house: House) -> None:
    before = house.settled(document())
    house.deletion.document("default", before.id)
    assert not house.intake.renew(before, "model")
    assert house.ledger.document("default", before.id) is None
    house.janitor._deletions.round(house.janitor._each)
    assert list(house.blobs.keys("")) == []


def test_a_renewal_never_takes_the_place_of_a_newer_upload(house: House) -> None:
    before = house.settled(document())
    newer = house.take(document(content="two"))
    assert not house.intake.renew(before, "model")
    assert house.row(newer).task_id == newer.task_id
    assert not [key for key in house.blobs.keys("uploads") if key not in (before.blob, newer.blob)]


def test_the_same_upload_is_unchanged_after_a_renewal(house: House) -> None:
    one = house.settled(document())
    house.intake.renew(one, "model")
    house.embed(one)
    again = document().model_copy(update={"task_id": "again", "blob": f"uploads/default/{one.id}/again.txt"})
    assert house.intake.accept(again).unchanged


def test_without_its_upload_a_document_with_missing_points_says_so(house: House) -> None:
    one = house.settled(document())
    break_points(house)
    house.blobs.delete(one.blob)
    said = house.repair()
    assert "upload it again" in said[Kind.POINTS_MISSING]
    assert house.kinds() == [Kind.POINTS_MISSING, Kind.UPLOAD_MISSING]


def test_a_failed_upload_is_judged_by_the_generation_that_is_live(house: House) -> None:
    one = house.settled(document())
    house.take(document(content="two"))
    house.ledger.revoke("default", document(content="two").task_id)
    house.janitor.settle(house.row(one))
    assert house.kinds() == []
    break_points(house)
    assert house.kinds() == [Kind.POINTS_MISSING]
    assert "upload it again" in house.repair()[Kind.POINTS_MISSING]


def test_what_comes_to_light_by_a_repair_is_repaired_too(house: House) -> None:
    one = house.settled(document())
    redis = house.ledger._redis
    redis.delete(f"document:default:{one.id}", "index:documents:default", "index:documents:default:notes")
    break_points(house)
    assert house.kinds() == [Kind.ROW_MISSING]
    assert set(house.repair()) == {Kind.ROW_MISSING, Kind.POINTS_MISSING}
    assert house.row(one).state == "QUEUED"


def test_a_document_of_another_model_than_the_fleets_is_found(house: House) -> None:
    house.settled(document())
    assert house.findings(model_key="model") == []
    (finding,) = house.findings(model_key="newer")
    assert finding.kind is Kind.WRONG_MODEL


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        (Scope("default"), 2),
        (Scope("default", "notes"), 2),
        (Scope("", "notes"), 2),
        (Scope("other"), 0),
        (Scope("default", "others"), 0),
    ],
)
def test_filters(house: House, scope: Scope, count: int) -> None:
    house.settled(document())
    break_points(house)
    house.put_points(document("unknown"), range(2))
    house.ledger._redis.zadd("leases:embeddings", {"gone": 1})
    assert len(house.findings(scope)) == count
    assert len(house.findings()) == 3


def test_what_has_changed_within_a_lease_is_no_finding(house: House) -> None:
    house.settled(document())
    break_points(house)
    assert house.findings(patience=Patience(change=30, look=0)) == []


def test_what_changes_between_the_looks_is_no_finding(house: House) -> None:
    one = house.settled(document())
    house.blobs.delete(record_key(one.tenant, one.id))
    house.ledger._redis.zadd("leases:embeddings", {"gone": 1})
    waited: list[float] = []

    def mend(seconds: float) -> None:
        waited.append(seconds)
        house.take(document(content="two"))
        house.ledger._redis.delete("leases:embeddings")

    assert house.findings(wait=mend) == []
    assert waited == [0, 0] or waited == [0]


def test_a_clean_fleet_is_looked_at_once(house: House) -> None:
    house.settled(document())
    waited: list[float] = []
    assert house.findings(wait=waited.append) == []
    assert waited == []


def test_an_empty_redis_is_no_proof_that_all_points_are_orphans(house: House) -> None:
    house.settled(document())
    house.ledger._redis.flushall()
    with pytest.raises(DependencyDown, match="started anew"):
        house.findings()
    with pytest.raises(DependencyDown, match="started anew"):
        house.repair()
    assert house.store.count(COLLECTION) == 3


def test_uploads_of_a_document_whose_row_is_lost_are_not_swept(house: House) -> None:
    one = house.settled(document())
    house.ledger._redis.delete(f"document:default:{one.id}")
    house.janitor.sweep.upload(one.blob)
    assert house.blobs.get(one.blob) == b"the file"


def test_a_repair_writes_no_record_without_what_a_newer_version_knows(house: House) -> None:
    one = house.settled(document())
    house.ledger._redis.hset(f"document:default:{one.id}", "language", "vi")
    house.blobs.delete(record_key(one.tenant, one.id))
    (said,) = house.repair().values()
    assert "newer version" in said
    assert not house.blobs.exists(record_key(one.tenant, one.id))


def test_a_repair_puts_no_row_back_without_what_a_newer_version_knows(house: House) -> None:
    one = house.settled(document())
    newer = json.dumps(one.model_dump(mode="json") | {"language": "vi"}).encode()
    house.blobs.put(record_key(one.tenant, one.id), newer)
    house.ledger._redis.delete(f"document:default:{one.id}")
    assert any("newer version" in said for said in house.repair().values())
    assert house.blobs.get(record_key(one.tenant, one.id)) == newer
    assert house.ledger.document("default", one.id) is None
    assert house.store.count(COLLECTION, one.id) == 3


def test_the_same_documents_in_other_generations_are_another_fleets(house: House) -> None:
    """Ids are made of tenant, collection and key: two fleets with the same files have the same ids."""
    for name in "ab":
        one = house.settled(document(name))
        house.store.delete_generations(COLLECTION, one.id)
        house.put_points(one.model_copy(update={"generation": 4}), range(3))
    assert "holds 2 documents" in house.fsck().obstacle(Scope())


def test_leftovers_of_documents_whose_live_generation_is_there_are_no_obstacle(house: House) -> None:
    for name in "ab":
        one = house.settled(document(name))
        house.put_points(one.model_copy(update={"generation": 4}), range(3))
    in_work = house.take(document("c"))
    house.put_points(in_work, range(1))
    house.put_points(document("unknown"), range(1))
    assert house.fsck().obstacle(Scope()) == ""
    house.repair()
    assert house.kinds() == []


def test_the_doctor_says_that_search_leaves_out_what_another_model_embedded(
    house: House, empty_redis: RedisServer, qdrant_url: str
) -> None:
    house.settled(document())
    house.put_points(document("foreign"), range(1), document_id=None, model_key=None)
    assert other_models(empty_redis.url, qdrant_url) is None
    house.ledger.note_served("model", 2, starts=True)
    assert other_models(empty_redis.url, qdrant_url) == ("all were embedded by model", "")
    house.ledger.note_served("newer", 2, starts=True)
    said = other_models(empty_redis.url, qdrant_url)
    assert said
    assert said[0] == f"3 points of {COLLECTION} were embedded by another model than newer"
    assert "fsck --repair" in said[1]
    assert other_models(empty_redis.url, "http://127.0.0.1:1") is None
