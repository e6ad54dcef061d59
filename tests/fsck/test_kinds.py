"""Every kind of finding is planted, found alone, and repaired; what can't be repaired says so."""

import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedfleet.contracts.documents import Document, point_id
from embedfleet.fsck.findings import MEANINGS, Kind
from embedfleet.runtime.blobs import pending_key, record_key
from tests.fsck.house import COLLECTION, House, document

Plant = Callable[[House], Document]


def in_work(house: House) -> Document:
    return house.take(document())


def ready(house: House) -> Document:
    return house.settled(document())


def row_missing(house: House) -> Document:
    one = ready(house)
    house.ledger._redis.delete(f"document:default:{one.id}", "unsettled")
    for index in ("index:documents:default", "index:documents:default:notes"):
        house.ledger._redis.zrem(index, one.id)
    return one


def record_missing(house: House) -> Document:
    one = ready(house)
    house.blobs.delete(record_key(one))
    return one


def record_outdated(house: House) -> Document:
    ready(house)
    old = house.blobs.get(record_key(house.row(document())))
    two = house.settled(document(content="two"))
    house.blobs.put(record_key(two), old)
    return two


def record_unreadable(house: House) -> Document:
    one = ready(house)
    house.blobs.put(record_key(one), b"{")
    return one


def orphan_record(house: House) -> Document:
    one = ready(house)
    copy = house.blobs.get(record_key(one))
    house.deletion.document("default", one.id)
    house.janitor._deletions.round()
    house.blobs.put(record_key(one), copy)
    return one


def upload_missing(house: House) -> Document:
    one = ready(house)
    house.blobs.delete(one.blob)
    return one


def orphan_upload(house: House) -> Document:
    house.blobs.put("uploads/default/nobody/task.txt", b"x")
    os.utime(house.blobs.path("uploads/default/nobody/task.txt"), (1, 1))
    return document()


def orphan_chunks(house: House) -> Document:
    one = ready(house)
    house.blobs.put(f"chunks/default/{one.id}/1/0", b"x")
    return one


def chunks_of_nobody(house: House) -> Document:
    house.blobs.put(f"chunks/default/{document().id}/3/0", b"x")
    return document()


def manifest_missing(house: House) -> Document:
    one = in_work(house)
    house.blobs.delete(pending_key(one.task_id))
    return one


def manifest_of_ended(house: House) -> Document:
    one = ready(house)
    house.blobs.put(pending_key(one.task_id), one.model_dump_json().encode())
    return one


def manifest_of_overtaken(house: House) -> Document:
    one = ready(house)
    older = one.model_copy(update={"task_id": "older", "blob": f"uploads/default/{one.id}/older.txt"})
    house.blobs.put(pending_key("older"), older.model_dump_json().encode())
    redis, key = house.ledger._redis, f"document:default:{one.id}"
    redis.hset(key, "upload", json.dumps(json.loads(redis.hget(key, "upload")) | {"uploaded_at": 5}))
    return one


def manifest_without_row(house: House) -> Document:
    one = document()
    house.blobs.put(one.blob, b"x")
    house.blobs.put(pending_key(one.task_id), one.model_dump_json().encode())
    return one


def points_missing(house: House) -> Document:
    one = ready(house)
    house.store._client.delete(COLLECTION, [_id(one, 1)])
    return one


def last_point_missing_and_a_hole_filled(house: House) -> Document:
    one = ready(house)
    house.store._client.delete(COLLECTION, [_id(one, 1)])
    house.put_points(one, range(7, 8))
    return one


def points_extra(house: House) -> Document:
    one = ready(house)
    house.put_points(one, range(1), ids=[str(uuid.uuid4())])
    return one


def wrong_model(house: House) -> Document:
    one = ready(house)
    house.put_points(one, range(3), model_key="another")
    return one


def dead_generation(house: House) -> Document:
    one = ready(house)
    house.put_points(one.model_copy(update={"generation": 4}), range(2))
    return one


def points_of_a_revoked_document(house: House) -> Document:
    one = in_work(house)
    house.ledger.revoke("default", one.task_id)
    house.janitor.settle(house.row(one))
    house.put_points(house.row(one), range(2))
    return one


def orphan_points(house: House) -> Document:
    house.put_points(document(), range(2))
    return document()


def points_of_a_deleted_document(house: House) -> Document:
    one = ready(house)
    house.deletion.document("default", one.id)
    house.janitor._deletions.round()
    house.put_points(one, range(2))
    return one


def foreign_points(house: House) -> Document:
    house.put_points(document(), range(1), document_id=None)
    return document()


def document_stuck(house: House) -> Document:
    one = house.take(document())
    house.embed(one, finish=False)
    redis = house.ledger._redis
    redis.hset(f"task:{one.task_id}-part", "state", "SUCCESS")
    redis.zrem("index:tasks:default:STARTED", f"{one.task_id}-part")
    redis.zrem("index:tasks:default:PENDING", f"{one.task_id}-part")
    redis.zrem("due", f"{one.task_id}-part")
    redis.zrem("waiting:embeddings", f"{one.task_id}-part")
    return one


def document_unlisted(house: House) -> Document:
    one = ready(house)
    house.ledger._redis.zrem("index:documents:default:notes", one.id)
    return one


def unsettled_stuck(house: House) -> Document:
    one = house.take(document())
    house.embed(one)
    return one


def unsettled_without_row(house: House) -> Document:
    house.ledger._redis.sadd("unsettled", f"default:{document().id}")
    return document()


def deletion_stuck(house: House) -> Document:
    one = ready(house)
    house.deletion.document("default", one.id)
    return one


def stale_lease(house: House) -> Document:
    house.ledger._redis.zadd("leases:embeddings", {"gone": 1})
    return document()


def lease_of_a_waiting_task(house: House) -> Document:
    one = in_work(house)
    house.ledger._redis.zadd("leases:documents", {one.task_id: 1})
    return one


def stale_due(house: House) -> Document:
    one = ready(house)
    house.ledger._redis.zadd("due", {one.task_id: 1})
    return one


def stale_index(house: House) -> Document:
    one = ready(house)
    house.ledger._redis.zadd("index:tasks:default:STARTED", {one.task_id: 1})
    return one


def index_of_nobody(house: House) -> Document:
    house.ledger._redis.zadd("index:documents:default:notes", {document().id: 1})
    return document()


def task_unwatched(house: House) -> Document:
    one = in_work(house)
    house.ledger._redis.zrem("waiting:documents", one.task_id)
    return one


def _id(one: Document, index: int) -> str:
    return point_id(one.id, one.generation, index)


@dataclass(frozen=True)
class Case:
    plant: Plant
    kind: Kind
    ends: str = "clean"


CASES = [
    Case(row_missing, Kind.ROW_MISSING),
    Case(record_missing, Kind.RECORD_MISSING),
    Case(record_outdated, Kind.RECORD_OUTDATED),
    Case(record_unreadable, Kind.RECORD_UNREADABLE),
    Case(orphan_record, Kind.ORPHAN_RECORD),
    Case(upload_missing, Kind.UPLOAD_MISSING, "unrepairable"),
    Case(orphan_upload, Kind.ORPHAN_UPLOAD),
    Case(orphan_chunks, Kind.ORPHAN_CHUNKS),
    Case(chunks_of_nobody, Kind.ORPHAN_CHUNKS),
    Case(manifest_missing, Kind.MANIFEST_MISSING),
    Case(manifest_of_ended, Kind.MANIFEST_OF_ENDED),
    Case(manifest_of_overtaken, Kind.MANIFEST_OF_ENDED),
    Case(manifest_without_row, Kind.MANIFEST_WITHOUT_ROW),
    Case(points_missing, Kind.POINTS_MISSING, "renewed"),
    Case(last_point_missing_and_a_hole_filled, Kind.POINTS_MISSING, "renewed"),
    Case(points_extra, Kind.POINTS_EXTRA, "renewed"),
    Case(wrong_model, Kind.WRONG_MODEL, "renewed"),
    Case(dead_generation, Kind.DEAD_GENERATION),
    Case(points_of_a_revoked_document, Kind.DEAD_GENERATION),
    Case(orphan_points, Kind.ORPHAN_POINTS),
    Case(points_of_a_deleted_document, Kind.ORPHAN_POINTS),
    Case(foreign_points, Kind.FOREIGN_POINTS, "unrepairable"),
    Case(document_stuck, Kind.DOCUMENT_STUCK, "renewed"),
    Case(document_unlisted, Kind.DOCUMENT_UNLISTED),
    Case(unsettled_stuck, Kind.UNSETTLED_STUCK),
    Case(unsettled_without_row, Kind.UNSETTLED_STUCK),
    Case(deletion_stuck, Kind.DELETION_STUCK),
    Case(stale_lease, Kind.STALE_LEASE),
    Case(lease_of_a_waiting_task, Kind.STALE_LEASE),
    Case(stale_due, Kind.STALE_DUE),
    Case(stale_index, Kind.STALE_INDEX),
    Case(index_of_nobody, Kind.STALE_INDEX),
    Case(task_unwatched, Kind.TASK_UNWATCHED),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.plant.__name__)
def test_what_is_planted_is_found_and_repaired(house: House, case: Case) -> None:
    whole = house.settled(document("whole"))
    one = case.plant(house)
    assert house.kinds() == [case.kind]
    said = house.repair()
    assert set(said) == {case.kind}
    if case.ends == "unrepairable":
        assert house.kinds() == [case.kind]
    else:
        assert house.kinds() == []
    if case.ends == "renewed":
        before = one.generation
        house.embed(one)
        house.janitor.settle(house.row(one))
        assert (house.row(one).state, house.row(one).live_generation) == ("READY", before + 1)
        assert house.store.count(COLLECTION, one.id) == 3
        house.janitor.round()
        assert {kind for kind in house.kinds()} <= {Kind.ORPHAN_UPLOAD}  # swept after an hour
    assert house.row(whole) == whole
    assert house.store.count(COLLECTION, whole.id) == 3


def test_every_kind_is_planted_and_explained() -> None:
    assert {case.kind for case in CASES} == set(Kind) == set(MEANINGS)
    assert [str(kind) for kind in Kind] == [kind.name.lower() for kind in Kind]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.plant.__name__)
def test_a_look_writes_nothing(house: House, case: Case) -> None:
    case.plant(house)
    redis = house.ledger._redis
    keys = sorted(redis.keys("*"))
    before = [redis.dump(key) for key in keys], list(house.blobs.keys("")), _points(house)
    redis.config_resetstat()
    house.findings()
    writes = {"eval", "evalsha", "set", "hset", "zadd", "zrem", "sadd", "srem", "del", "expire", "unlink"}
    called = {name.removeprefix("cmdstat_") for name in redis.info("commandstats")}
    assert called & writes == set()
    assert "scan" in called
    assert (
        [redis.dump(key) for key in sorted(redis.keys("*"))],
        list(house.blobs.keys("")),
        _points(house),
    ) == before


def _points(house: House) -> list[str]:
    if COLLECTION not in house.store.collections():
        return []
    return [json.dumps(point.model_dump()) for point in house.store._client.scroll(COLLECTION, limit=100)[0]]


def test_the_page_lists_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    rows = [f"| `{kind}` | {meaning} | {repair} |" for kind, (meaning, repair) in MEANINGS.items()]
    assert [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4] == rows
