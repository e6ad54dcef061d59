"""The comparison of Redis with the blobs: it comes to an end, whatever meets it on the way."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown, NewerVersion
from embedfleet.contracts.states import DocumentState
from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import durable
from embedfleet.runtime.ledger.durable import durable_record
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload
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
        janitor._durable.run(janitor._each)
    else:
        janitor._take_up_pending()
    assert [number for number in range(9) if number not in looks] == [], "tasks are woken between any two"


def test_an_older_end_never_takes_the_place_of_a_newer_record(house: House) -> None:
    old = ready(house, upload("t1", key="one.txt"))
    come_back = snapshot(house)
    ready(house, upload("t2", key="one.txt", content="two"), points=2)
    come_back()
    house.janitor.settle(old)
    durable = durable_record(house.blobs, record_key(old.tenant, old.id))
    assert isinstance(durable, Document)
    assert (durable.generation, record(house, old).live_generation) == (2, 2)
    assert house.points(old) == 2


def test_nothing_is_settled_by_what_another_redis_holds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.janitor.round()
    settled: list[str] = []
    monkeypatch.setattr(house.janitor.sweep, "run", lambda each: settled.append("swept"))
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


DAMAGED: dict[str, Callable[[Any, str, Document], object]] = {
    "few fields": lambda redis, key, one: redis.hset(
        key,
        mapping={"tenant": "default", "id": one.id, "generation": 0, "state": "PARSING", "task_id": "gone"},
    ),
    "no number": lambda redis, key, one: redis.hset(key, mapping={"generation": "x", "state": "READY"}),
    "no hash": lambda redis, key, one: redis.set(key, "1"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_row_that_cannot_be_compared_holds_up_no_other(house: House, what: str) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(3)]
    bad = documents[0]
    house.ledger._redis.flushall()
    DAMAGED[what](house.ledger._redis, f"document:default:{bad.id}", bad)
    house.janitor.round()
    assert all(house.ledger.document("default", one.id) for one in documents[1:])
    assert not house.ledger.is_rebuilt()
    house.ledger._redis.delete(f"document:default:{bad.id}")
    house.janitor.round()
    assert house.ledger.document("default", bad.id)
    assert house.ledger.is_rebuilt()


def test_a_record_without_a_number_ends_no_round(house: House) -> None:
    document = upload("t1", key="one.txt").model_copy(update={"generation": 0})
    house.blobs.put(record_key(document.tenant, document.id), document.model_dump_json().encode())
    other = ready(house, upload("t2", key="two.txt"))
    house.ledger._redis.flushall()
    house.janitor.round()
    assert record(house, other) == other
    assert house.ledger.is_rebuilt()


NEWER: dict[str, dict[str, Any]] = {
    "field": {"language": "vi"},
    "state": {"state": "TRANSLATED"},
    "option": {"options": {"window": 3}},
}


def write_as_newer(house: House, key: str, change: dict[str, Any]) -> bytes:
    """Write what a newer version would; return what was there."""
    before = house.blobs.get(key)
    house.blobs.put(key, json.dumps(json.loads(before) | change).encode())
    return before


@pytest.mark.parametrize("what", NEWER)
def test_a_record_of_a_newer_version_is_left_to_its_janitor_and_holds_up_no_other(
    house: House, what: str
) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(3)]
    key = record_key(documents[1].tenant, documents[1].id)
    before = write_as_newer(house, key, NEWER[what])
    newer = house.blobs.get(key)
    house.ledger._redis.flushall()
    for _ in range(2):
        house.janitor.round()
        assert [bool(house.ledger.document("default", one.id)) for one in documents] == [True, False, True]
        assert house.blobs.get(key) == newer
        assert not house.ledger.is_rebuilt()
    house.blobs.put(key, before)  # this process is the newer janitor now
    house.janitor.round()
    assert record(house, documents[1]) == documents[1]
    assert house.ledger.is_rebuilt()


def test_an_older_janitor_passes_the_role_on_so_that_a_newer_one_gets_its_turn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = (
        Janitor(house.ledger, house.blobs, house.store, house.published.extend, LedgerSettings())
        for _ in range(2)
    )
    newer._name = "newer"
    document = ready(house, upload("t1", key="one.txt"), points=1)
    waiting = house.take(upload("waiting", key="waiting.txt"))
    before = write_as_newer(house, record_key(document.tenant, document.id), NEWER["field"])
    house.ledger._redis.set("rebuilt", "another run")
    house.ledger._redis.delete(f"document:default:{document.id}")
    older._take_turn()
    assert house.ledger._redis.get("role:janitor") == older._name
    house.ledger._redis.pexpire("role:janitor", 3_600_000)
    house.ledger._redis.hset("task:waiting", "published_at", 1)
    house.ledger._redis.delete("grace")
    house.published.clear()
    older._take_turn()
    assert house.ledger._redis.pttl("role:janitor") > 15_000, "it is not renewed"
    assert [job.task_id for job in house.published] == [waiting.task_id], "tasks are woken all the same"
    assert older._rests_until - time.monotonic() > 3 * older._interval, "others come before it"
    house.ledger._redis.delete("role:janitor")  # it has expired
    house.blobs.put(record_key(document.tenant, document.id), before)  # as the newer one reads it
    for _ in range(2):
        newer._take_turn()
    assert house.ledger.is_rebuilt()
    older._rests_until = 0
    older._take_turn()
    assert house.ledger._redis.get("role:janitor") == "newer", "it left nothing, and keeps the role"
    assert newer._rests_until == 0


@pytest.mark.parametrize("what", NEWER)
def test_a_record_of_a_newer_version_that_redis_knows_does_not_put_off_the_end(
    house: House, what: str
) -> None:
    document = ready(house, upload("t1", key="one.txt"), points=1)
    write_as_newer(house, record_key(document.tenant, document.id), NEWER[what])
    if "state" in NEWER[what]:
        house.ledger._redis.hset(f"document:default:{document.id}", mapping=NEWER[what])
    house.ledger._redis.set("rebuilt", "another run")
    house.janitor.round()
    assert house.ledger.is_rebuilt()


def test_what_a_newer_version_deletes_is_not_put_back(house: House) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(2)]
    tombstone = Tombstone.of(documents[0])
    Tombstones(house.blobs).put(tombstone)
    before = write_as_newer(house, tombstone.key, {"reason": "expired"})
    house.ledger._redis.flushall()
    house.janitor.round()
    assert [bool(house.ledger.document("default", one.id)) for one in documents] == [False, True]
    assert not house.ledger.is_rebuilt()
    house.blobs.put(tombstone.key, before)
    house.janitor.round()
    assert house.ledger.deleted_through("default", documents[0].id) == 1
    assert house.ledger.is_rebuilt()


def test_a_manifest_of_a_newer_version_is_waited_for_after_a_loss(house: House) -> None:
    waiting = [house.take(upload(f"t{number}", key=f"{number}.txt")) for number in range(2)]
    for one in waiting:
        make_old(house.blobs, pending_key(one.task_id))
    before = write_as_newer(house, pending_key("t0"), {"language": "vi"})
    make_old(house.blobs, pending_key("t0"))
    house.ledger._redis.flushall()
    house.janitor.round()
    assert [bool(house.ledger.document("default", one.id)) for one in waiting] == [False, True]
    assert not house.ledger.is_rebuilt(), "a deletion of it would find nothing"
    house.blobs.put(pending_key("t0"), before)
    make_old(house.blobs, pending_key("t0"))
    house.janitor.round()
    assert house.ledger.is_rebuilt()


def test_an_upload_does_not_overtake_a_record_that_only_a_newer_version_knows(house: House) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    before = write_as_newer(house, record_key(document.tenant, document.id), NEWER["field"])
    newer = house.blobs.get(record_key(document.tenant, document.id))
    house.ledger._redis.flushall()
    with pytest.raises(NewerVersion):
        house.take(upload("t2", key="one.txt", content="two"))
    make_old(house.blobs, pending_key("t2"))
    other = house.take(upload("t3", key="two.txt"))
    house.janitor.round()
    assert house.blobs.get(record_key(document.tenant, document.id)) == newer
    assert house.points(document) == 3
    assert record(house, other).state == "QUEUED"
    house.blobs.put(record_key(document.tenant, document.id), before)
    house.janitor.round()
    assert (record(house, document).generation, record(house, document).live_generation) == (2, 1)


def test_a_ready_row_of_a_newer_version_is_not_written_down_without_what_it_holds(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=1)
    house.ledger._redis.hset(f"document:default:{document.id}", "language", "vi")
    house.janitor.take_up(document)
    assert not house.blobs.exists(record_key(document.tenant, document.id))
    house.take(upload("t2", key="one.txt", content="two"))
    assert not house.blobs.exists(record_key(document.tenant, document.id))


@pytest.mark.parametrize(("through", "is_left"), [(1, True), (2, False)])
def test_a_record_of_a_newer_version_goes_only_with_its_generation(
    house: House, through: int, is_left: bool
) -> None:
    document = ready(house, upload("t1", key="one.txt"))
    write_as_newer(
        house,
        record_key(document.tenant, document.id),
        {"generation": 2, "options": {"chunker_type": "semantic"}},
    )
    house.janitor._deletions.remove_record("default", document.id, through)
    assert house.blobs.exists(record_key(document.tenant, document.id)) == is_left


def test_an_end_that_a_newer_record_knows_more_of_stays_unsettled(house: House) -> None:
    document = house.take(upload("t1", key="one.txt"))
    house.embed(document, points=3, finish=False)
    live = document.model_copy(update={"state": DocumentState.READY, "live_generation": 1})
    house.blobs.put(record_key(live.tenant, live.id), live.model_dump_json().encode())
    write_as_newer(house, record_key(live.tenant, live.id), NEWER["field"])
    newer = house.blobs.get(record_key(live.tenant, live.id))
    house.ledger.revoke("default", "t1")
    other = house.take(upload("t2", key="two.txt"))
    house.ledger.revoke("default", "t2")
    house.janitor.round()
    assert house.blobs.get(record_key(live.tenant, live.id)) == newer
    assert house.points(document) == 3
    assert [one.task_id for one in house.ledger.unsettled(9)] == ["t1"]
    assert not house.blobs.exists(pending_key(other.task_id))


def unreadable(house: House, keys: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    get = Blobs.get

    def refused(blobs: Blobs, key: str) -> bytes:
        if key in keys:
            raise DependencyDown("Blob folder", blobs.address, "Permission denied")
        return get(blobs, key)

    monkeypatch.setattr(Blobs, "get", refused)


@pytest.mark.parametrize("folder", ["documents", "deleted", "pending", "revoked", "handed_back"])
def test_a_file_that_the_disk_refuses_holds_up_no_other_and_no_task(
    house: House, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(3)]
    waiting = house.take(upload("waiting", key="waiting.txt"))
    make_old(house.blobs, pending_key("waiting"))
    bad = (
        record_key(documents[0].tenant, documents[0].id)
        if folder == "documents"
        else f"{folder}/default/notes/a/1"
    )
    if folder not in ("documents", "deleted"):
        bad = f"{folder}/bad"
    house.blobs.put(bad, house.blobs.get(record_key(documents[0].tenant, documents[0].id)))
    make_old(house.blobs, bad)
    house.ledger._redis.flushall()
    house.published.clear()
    with monkeypatch.context() as patch:
        unreadable(house, {bad}, patch)
        house.janitor.round()
        found = [bool(house.ledger.document("default", one.id)) for one in [*documents, waiting]]
        assert found == [folder != "documents", True, True, True]
        assert [job.task_id for job in house.published] == ["waiting"]
        assert house.ledger.is_rebuilt() == (folder == "handed_back"), (
            "a note is of a run, and of no document"
        )
        assert house.blobs.exists(bad)
        house.published.clear()
        house.ledger._redis.hset("task:waiting", "published_at", 1)
        house.ledger._redis.delete("grace")
        house.janitor.round()
        assert [job.task_id for job in house.published] == ["waiting"]


@pytest.mark.parametrize("folder", ["documents", "deleted", "pending", "revoked", "handed_back"])
def test_a_folder_that_the_disk_refuses_is_not_taken_for_an_empty_one_and_holds_up_no_task(
    house: House, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = ready(house, upload("t1", key="one.txt"), points=1)
    waiting = house.take(upload("waiting", key="waiting.txt"))
    bad = Path(house.blobs.address, folder)
    bad.mkdir(exist_ok=True)
    house.ledger._redis.set("rebuilt", "another run")
    house.ledger._redis.hset("task:waiting", "published_at", 1)
    house.ledger._redis.delete("grace")
    house.published.clear()
    scan = os.scandir

    def refused(path: Any) -> Any:
        if Path(path) == bad:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        house.janitor.round()
        with pytest.raises(DependencyDown, match="Permission denied"):
            list(house.blobs.keys(folder))
    assert [job.task_id for job in house.published] == [waiting.task_id]
    assert house.ledger.is_rebuilt() == (folder == "handed_back")
    house.janitor.round()
    assert house.ledger.is_rebuilt()
    assert record(house, live) == live


def test_a_note_that_the_disk_refuses_holds_up_no_other_note(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = HandBacks(house.ledger, house.blobs)
    jobs = house.ledger.accept(upload("t1")).publish
    for key in ("handed_back/0", "handed_back/z"):
        house.blobs.put(key, b"any")
    notes.note(claim(house.ledger, jobs[0]))
    unreadable(house, {"handed_back/0"}, monkeypatch)
    house.janitor.round()
    assert house.ledger.task("default", "t1").state == "PENDING"  # type: ignore[union-attr]
    assert notes.noted() == ["handed_back/0"], "and one that is no note is put aside"


def test_a_disk_that_refuses_all_ends_the_round(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt"), points=1) for number in range(3)]
    house.ledger._redis.flushall()
    asked: list[str] = []

    def refused(blobs: Blobs, key: str, *data: bytes) -> bytes:
        asked.append(key)
        raise DependencyDown("Blob folder", blobs.address, "Input/output error")

    monkeypatch.setattr(Blobs, "get", refused)
    monkeypatch.setattr(Blobs, "put", refused)
    with pytest.raises(DependencyDown):
        house.janitor.round()
    assert asked.count(".check") == 1, "after the first record, whether the disk serves anything"
    assert not house.ledger.is_rebuilt()
    assert not any(house.ledger.document("default", one.id) for one in documents)


def test_records_are_read_side_by_side(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [ready(house, upload(f"t{number}", key=f"{number}.txt")) for number in range(2)]
    house.ledger._redis.flushall()
    # Where one takes tens of milliseconds, a hundred thousand in a row would take an hour.
    meeting, get = threading.Barrier(2), Blobs.get

    def met(blobs: Blobs, key: str) -> bytes:
        if key.startswith("documents/"):
            meeting.wait(10)
        return get(blobs, key)

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "get", met)
        assert house.janitor._durable.run(house.janitor._each)
    assert all(house.ledger.document("default", one.id) for one in documents)


def test_a_long_list_is_taken_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "RECORDS_A_PAGE", 2)
    asked: list[int] = []

    def numbers(folder: str) -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    steps: list[int] = []

    def each(step: Callable[[Any], object], items: Iterable[Any]) -> bool:
        for item in items:
            step(item)
            steps.append(len(asked))
        return True

    assert durable.listed(each, "documents", numbers) == ([0, 1, 2, 3, 4], True)
    assert steps == [2, 4, 5], "tasks are woken between two pages"
