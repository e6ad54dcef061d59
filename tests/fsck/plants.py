"""Damage by hand, one function a way: each returns the document that it is about."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from embedfleet.contracts.documents import Document, point_id
from embedfleet.runtime.blobs import pending_key, record_key
from tests.fsck.house import COLLECTION, House, document

Plant = Callable[[House], Document]


def in_work(house: House) -> Document:
    return house.take(document())


def ready(house: House) -> Document:
    return house.settled(document())


def row_missing(house: House) -> Document:
    one = ready(house)
    house.ledger._redis.delete(f"document:default:{one.id}", "to_settle")
    for index in ("index:documents:default", "index:documents:default:notes"):
        house.ledger._redis.zrem(index, one.id)
    return one


def record_missing(house: House) -> Document:
    one = ready(house)
    house.blobs.delete(record_key(one.tenant, one.id))
    return one


def record_outdated(house: House) -> Document:
    ready(house)
    old = house.blobs.get(record_key("default", document().id))
    two = house.settled(document(content="two"))
    house.blobs.put(record_key(two.tenant, two.id), old)
    return two


def record_unreadable(house: House) -> Document:
    one = ready(house)
    house.blobs.put(record_key(one.tenant, one.id), b"{")
    return one


def orphan_record(house: House) -> Document:
    one = ready(house)
    copy = house.blobs.get(record_key(one.tenant, one.id))
    house.deletion.document("default", one.id)
    house.janitor._deletions.round(house.janitor._each)
    house.blobs.put(record_key(one.tenant, one.id), copy)
    return one


def upload_missing(house: House) -> Document:
    one = ready(house)
    house.blobs.delete(one.blob)
    return one


def orphan_upload(house: House) -> Document:
    house.blobs.put("uploads/default/nobody/task.txt", b"x")
    os.utime(Path(house.blobs.address) / "uploads/default/nobody/task.txt", (1, 1))
    return document()


def old_chunks(house: House, one: Document, generation: int) -> None:
    """Leave a chunk file that no sweep has taken."""
    key = f"chunks/default/{one.id}/{generation}/0"
    house.blobs.put(key, b"x")
    os.utime(Path(house.blobs.address) / key, (1, 1))


def orphan_chunks(house: House) -> Document:
    one = ready(house)
    old_chunks(house, one, 1)
    return one


def chunks_of_nobody(house: House) -> Document:
    old_chunks(house, document(), 3)
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
    fields = {"task_id": "older", "blob": f"uploads/default/{one.id}/older.txt", "uploaded_at": 5}
    house.blobs.put(pending_key("older"), one.model_copy(update=fields).model_dump_json().encode())
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
    house.janitor._deletions.round(house.janitor._each)
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
    house.ledger._redis.zadd("to_settle", {f"default:{document().id}": 1})
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
