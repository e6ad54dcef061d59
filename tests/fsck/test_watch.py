"""The check as metrics: when it runs, and what every api shows."""

import pytest
from prometheus_client import REGISTRY

from embedfleet.fsck.findings import Kind
from embedfleet.fsck.watch import SHOWN, Watch
from embedfleet.runtime.ledger import audit
from embedfleet.runtime.ledger.audit import Summary
from tests.fsck.house import COLLECTION, House, document


def shown() -> dict[str, float | None]:
    return {kind: REGISTRY.get_sample_value("fleet_fsck_findings", {"kind": kind}) for kind in Kind}


def last_run() -> float | None:
    return REGISTRY.get_sample_value("fleet_fsck_last_run_timestamp_seconds")


def interval() -> float | None:
    return REGISTRY.get_sample_value("fleet_fsck_interval_seconds")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has read nothing yet."""
    monkeypatch.setattr(SHOWN, "summary", None)
    monkeypatch.setattr(SHOWN, "interval", 0.0)


def test_before_the_first_check_all_is_zero(house: House) -> None:
    assert house.ledger.elect("fsck", "another", 60)
    Watch(house.fsck(), 3600, "model", 2).round()
    assert set(shown().values()) == {0}
    assert last_run() == 0


def test_an_api_that_has_just_started_ends_no_alert(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ledger.note_summary(Summary(7, {"orphan_points": 7}))
    watch = Watch(house.fsck(), 3600, "model", 2)
    assert {*shown().values(), last_run(), interval()} == {None}, "a zero would"
    monkeypatch.setattr(watch._stopping, "wait", lambda _: watch._stopping.set())
    watch.start()
    watch._thread.join(timeout=10)
    assert (shown()[Kind.ORPHAN_POINTS], last_run()) == (7, 7), "at once, and nobody waits for a check"
    assert interval() == 3600


def test_a_finding_is_shown_and_stays_until_the_next_check(house: House) -> None:
    house.settled(document())
    house.store.delete_generations(COLLECTION, document().id)
    watch = Watch(house.fsck(), 3600, "model", 2)
    assert watch.round().counts == {"points_missing": 1}
    assert shown() == dict.fromkeys(Kind, 0) | {Kind.POINTS_MISSING: 1}
    assert abs(last_run() - house.ledger.now()) < 60
    house.deletion.document("default", document().id)
    house.janitor._deletions.round(house.janitor._each)
    assert watch.round().counts == {"points_missing": 1}
    house.ledger.note_summary(Summary())  # as if an hour had passed
    assert watch.round().counts == {}
    assert set(shown().values()) == {0}


def test_another_api_shows_the_same_without_checking(house: House) -> None:
    house.ledger.note_summary(Summary(house.ledger.now(), {"orphan_points": 7}))
    Watch(house.fsck(), 3600, "model", 2).round()
    assert shown()[Kind.ORPHAN_POINTS] == 7


def test_one_api_checks_at_a_time(house: House) -> None:
    assert house.ledger.elect("fsck", "another", 60)
    assert Watch(house.fsck(), 3600, "model", 2).round() == Summary()


def test_a_check_that_is_stopped_is_no_result(house: House) -> None:
    house.ledger._redis.zadd("leases:embeddings", {"gone": 1})
    watch = Watch(house.fsck(), 3600, "model", 2)
    watch.stop()
    assert watch.round() == Summary()
    assert house.ledger.summary() == Summary()


def serve(house: House, monkeypatch: pytest.MonkeyPatch, model_key: str, dim: int, ticks: int = 1) -> None:
    """An api of this model that serves for some ticks, and never checks."""
    watch, waits = Watch(house.fsck(), 0, model_key, dim), iter(range(1, ticks))
    monkeypatch.setattr(watch._stopping, "wait", lambda _: next(waits, None) or watch._stopping.set())
    watch.start()
    watch._thread.join(timeout=10)
    assert not watch._thread.is_alive()


def test_the_commands_learn_the_fleets_model_from_its_apis(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.settled(document())
    assert house.ledger.served().model_key == ""
    serve(house, monkeypatch, "model", 2)
    Watch(house.fsck(), 3600, "model", 2).round()
    serve(house, monkeypatch, "newer", 3)  # the fleet was started anew, and the next check is an hour away
    assert house.ledger.served().model_key == "newer"
    said = house.repair()
    assert "2 dimensions, the fleet's model makes 3" in said[Kind.WRONG_MODEL]
    serve(house, monkeypatch, "newer", 2)
    house.repair()
    assert house.row(document()).model_key == "newer"


def test_an_api_that_never_checks_says_which_model_it_serves(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(house, monkeypatch, "model", 2, ticks=3)
    assert (house.ledger.served().model_key, house.ledger.served().dim) == ("model", 2)
    assert last_run() is None


def test_while_two_models_are_served_it_is_that_of_the_api_which_started_last(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(house, monkeypatch, "newer", 2)
    house.ledger.note_served("old", 2, starts=False)
    assert house.ledger.served().model_key == "newer"
    monkeypatch.setattr(audit, "MODEL_SECONDS", -1.0)  # as if that api had gone long ago
    house.ledger.note_served("old", 2, starts=False)
    assert house.ledger.served().model_key == "old"


def test_a_redis_that_has_lost_the_model_is_told_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ledger.note_served("model", 2, starts=True)
    house.ledger._redis.delete("model")
    house.ledger.note_served("model", 2, starts=False)
    assert house.ledger.served().model_key == "model"


def test_what_another_version_wrote_is_read(house: House) -> None:
    house.ledger._redis.set("fsck", '{"at": 7, "counts": {}, "model_key": "model", "dim": 2}')
    assert house.ledger.summary() == Summary(7, {})
