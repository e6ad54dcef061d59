"""The comparison of Redis with the blobs: it comes to an end, whatever meets it on the way."""

import threading

import pytest

from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import pending_key, record_key
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import upload
from tests.test_janitor import House, house, make_old
from tests.test_restart import ready, record, snapshot

__all__ = ["house"]


@pytest.mark.parametrize("what", ["deleted", "pending"])
def test_the_role_is_kept_while_much_is_read(
    house: House, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        document = upload(f"t{number}", key=f"{number}.txt")
        if what == "deleted":
            Tombstones(house.blobs).put(Tombstone.of(document))
        else:
            house.blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
            make_old(house.blobs, pending_key(document.task_id))
    janitor = Janitor(house.ledger, house.blobs, house.store, lambda jobs: None, LedgerSettings())
    janitor._interval = 0
    looks, reads = [], []
    wake, read = janitor._wake, house.blobs.read
    monkeypatch.setattr(janitor, "_wake", lambda: (wake(), looks.append(len(reads))))
    monkeypatch.setattr(house.blobs, "read", lambda kind, key: (reads.append(key), read(kind, key))[1])
    if what == "deleted":
        janitor._rebuild()
    else:
        janitor._take_up_pending()
    assert [number for number in range(9) if number not in looks] == [], "tasks are woken between any two"


def test_an_older_end_never_takes_the_place_of_a_newer_record(house: House) -> None:
    old = ready(house, upload("t1", key="one.txt"))
    come_back = snapshot(house)
    ready(house, upload("t2", key="one.txt", content="two"), points=2)
    come_back()
    house.janitor.settle(old)
    durable = house.intake.record(record_key(old))
    assert durable
    assert (durable.generation, record(house, old).live_generation) == (2, 2)
    assert house.points(old) == 2


def test_nothing_is_settled_by_what_another_redis_holds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.janitor.round()
    settled: list[str] = []
    monkeypatch.setattr(house.janitor, "_sweep", lambda: settled.append("swept"))
    house.janitor._swept_at = -1e9
    house.take(upload("t1", key="one.txt"))
    assert house.ledger.revoke("default", "t1")
    run_id = house.ledger.run_id
    ids = iter([run_id()])
    monkeypatch.setattr(house.ledger, "run_id", lambda: next(ids, "another"))
    house.janitor.round()
    assert (len(house.ledger.unsettled(9)), settled) == (1, [])
    monkeypatch.setattr(house.ledger, "run_id", run_id)
    house.janitor.round()
    assert (len(house.ledger.unsettled(9)), settled) == (0, ["swept"])


def test_a_row_that_cannot_be_compared_holds_up_no_other(house: House) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(3)]
    bad = documents[0]
    house.ledger._redis.flushall()
    # A row without most of its fields.
    damaged = {"tenant": "default", "id": bad.id, "generation": 0, "state": "PARSING", "task_id": "gone"}
    house.ledger._redis.hset(f"document:default:{bad.id}", mapping=damaged)
    house.janitor.round()
    assert all(house.ledger.document("default", one.id) for one in documents[1:])
    assert not house.ledger.is_rebuilt()
    house.ledger._redis.delete(f"document:default:{bad.id}")
    house.janitor.round()
    assert house.ledger.document("default", bad.id)
    assert house.ledger.is_rebuilt()


def test_records_are_read_side_by_side(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt")) for number in range(2)]
    house.ledger._redis.flushall()
    # Where one takes tens of milliseconds, a hundred thousand in a row would take an hour.
    meeting, read = threading.Barrier(2), house.janitor._intake.record
    monkeypatch.setattr(house.janitor._intake, "record", lambda key: (meeting.wait(10), read(key))[1])
    assert house.janitor._rebuild()
    assert all(house.ledger.document("default", one.id) for one in documents)
