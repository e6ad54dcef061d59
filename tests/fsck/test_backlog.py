"""What is merely under way is no finding, however long the janitor takes; what it leaves undone is one."""

import os
import time
from pathlib import Path

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.fsck.findings import Kind, Patience
from tests.fsck import plants
from tests.fsck.house import COLLECTION, House, document

STUCK = Patience(change=-1, look=0, stuck=600, file=3600)
AGO = 1200.0
# How long ago the janitor got on, and how long ago the last pass began that is over: the document came AGO.
CASES = {
    "the janitor is at it": ({"at": 1.0, "settled": AGO + 60, "deleted": AGO + 60}, False),
    "the first pass": ({"at": 1.0}, False),
    "it was passed by, but was young then": ({"at": 1.0, "settled": 900.0, "deleted": 900.0}, False),
    "it was passed by": ({"at": 1.0, "settled": 100.0, "deleted": 100.0}, True),
    "the janitor gets on with nothing": ({"at": 900.0, "settled": AGO + 60, "deleted": AGO + 60}, True),
    "there is none": ({}, True),
}


def note(house: House, passes: dict[str, float]) -> None:
    now = house.ledger.now()
    house.ledger._redis.delete("passes")
    for field, ago in passes.items():
        house.ledger._redis.hset("passes", field, now - ago)


def ended_long_ago(house: House) -> Document:
    one = plants.unsettled_stuck(house)
    house.ledger._redis.zadd("to_settle", {f"default:{one.id}": house.ledger.now() - AGO})
    return one


def deleted_long_ago(house: House) -> Document:
    one = plants.deletion_stuck(house)
    (key,) = house.blobs.keys("deleted")
    os.utime(Path(house.blobs.address) / key, (time.time() - AGO, time.time() - AGO))
    return one


@pytest.mark.parametrize("name", CASES)
def test_a_document_that_waits_to_be_settled(house: House, name: str) -> None:
    ended_long_ago(house)
    passes, is_found = CASES[name]
    note(house, passes)
    found = [finding.kind for finding in house.findings(patience=STUCK)]
    assert found == [Kind.UNSETTLED_STUCK] * is_found


@pytest.mark.parametrize("name", CASES)
def test_a_deletion_that_waits_for_its_turn(house: House, name: str) -> None:
    deleted_long_ago(house)
    passes, is_found = CASES[name]
    note(house, passes)
    found = [finding.kind for finding in house.findings(patience=STUCK)]
    assert found == [Kind.DELETION_STUCK] * is_found


def test_what_is_settled_once_more_later_is_not_judged_until_then(house: House) -> None:
    house.ledger._quiet_after = 3600
    one = house.take(document())
    house.ledger.revoke("default", one.task_id)
    house.janitor.settle(house.row(one))
    house.put_points(house.row(one), range(2))  # of a late writer
    assert house.findings(patience=STUCK) == []
    house.ledger._quiet_after = 0
    house.janitor.settle(house.row(one))
    assert house.store.count(COLLECTION, one.id) == 0


@pytest.mark.parametrize("has_row", [True, False])
def test_chunk_files_of_a_late_parser_are_left_to_the_sweep(house: House, has_row: bool) -> None:
    one = house.settled(document()) if has_row else document()
    key = f"chunks/default/{one.id}/1/0"
    house.blobs.put(key, b"late")
    assert house.findings() == []
    plants.old_chunks(house, one, 1)
    assert house.kinds() == [Kind.ORPHAN_CHUNKS]
    house.janitor.sweep.run(house.janitor._each)
    assert not house.blobs.exists(key)


def test_a_janitor_at_work_notes_how_far_he_is(house: House) -> None:
    ended_long_ago(house)
    began = house.ledger.now()
    house.janitor.round()
    passes = house.ledger.passes()
    assert began <= passes.settled <= passes.at
    assert began <= passes.deleted <= passes.at <= house.ledger.now()
