"""Every kind of finding is planted, found alone, and repaired; what can't be repaired says so."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedfleet.fsck.findings import MEANINGS, Kind
from tests.fsck import plants
from tests.fsck.house import COLLECTION, House, document


@dataclass(frozen=True)
class Case:
    plant: plants.Plant
    kind: Kind
    ends: str = "clean"


CASES = [
    Case(plants.row_missing, Kind.ROW_MISSING),
    Case(plants.record_missing, Kind.RECORD_MISSING),
    Case(plants.record_outdated, Kind.RECORD_OUTDATED),
    Case(plants.record_unreadable, Kind.RECORD_UNREADABLE),
    Case(plants.orphan_record, Kind.ORPHAN_RECORD),
    Case(plants.upload_missing, Kind.UPLOAD_MISSING, "unrepairable"),
    Case(plants.orphan_upload, Kind.ORPHAN_UPLOAD),
    Case(plants.orphan_chunks, Kind.ORPHAN_CHUNKS),
    Case(plants.chunks_of_nobody, Kind.ORPHAN_CHUNKS),
    Case(plants.manifest_missing, Kind.MANIFEST_MISSING),
    Case(plants.manifest_of_ended, Kind.MANIFEST_OF_ENDED),
    Case(plants.manifest_of_overtaken, Kind.MANIFEST_OF_ENDED),
    Case(plants.manifest_without_row, Kind.MANIFEST_WITHOUT_ROW),
    Case(plants.points_missing, Kind.POINTS_MISSING, "renewed"),
    Case(plants.last_point_missing_and_a_hole_filled, Kind.POINTS_MISSING, "renewed"),
    Case(plants.points_extra, Kind.POINTS_EXTRA, "renewed"),
    Case(plants.wrong_model, Kind.WRONG_MODEL, "renewed"),
    Case(plants.dead_generation, Kind.DEAD_GENERATION),
    Case(plants.points_of_a_revoked_document, Kind.DEAD_GENERATION),
    Case(plants.orphan_points, Kind.ORPHAN_POINTS),
    Case(plants.points_of_a_deleted_document, Kind.ORPHAN_POINTS),
    Case(plants.foreign_points, Kind.FOREIGN_POINTS, "unrepairable"),
    Case(plants.document_stuck, Kind.DOCUMENT_STUCK, "renewed"),
    Case(plants.document_unlisted, Kind.DOCUMENT_UNLISTED),
    Case(plants.unsettled_stuck, Kind.UNSETTLED_STUCK),
    Case(plants.unsettled_without_row, Kind.UNSETTLED_STUCK),
    Case(plants.deletion_stuck, Kind.DELETION_STUCK),
    Case(plants.stale_lease, Kind.STALE_LEASE),
    Case(plants.lease_of_a_waiting_task, Kind.STALE_LEASE),
    Case(plants.stale_due, Kind.STALE_DUE),
    Case(plants.stale_index, Kind.STALE_INDEX),
    Case(plants.index_of_nobody, Kind.STALE_INDEX),
    Case(plants.task_unwatched, Kind.TASK_UNWATCHED),
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
