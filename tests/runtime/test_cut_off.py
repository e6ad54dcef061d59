"""A run whose worker no longer hears of the ledger: it may have lost its claim, so it ends itself."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedfleet.contracts.jobs import Queue
from embedfleet.contracts.states import DocumentState
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings, VectorSettings
from embedfleet.runtime.worker import runs as runs_module
from embedfleet.runtime.worker import worker as worker_module
from embedfleet.runtime.worker.runs import Run, Stopped
from embedfleet.runtime.worker.worker import Worker
from tests.runtime.uploads import claim, upload

WAIT_SECONDS = 20


class Clock:
    """A clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (runs_module, worker_module):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def worker_of(ledger: Ledger, folder: Path, lease: float, hold: float) -> Worker:
    blobs, settings = Blobs(folder), LedgerSettings(lease_seconds=lease, hold_seconds=hold)
    revocations, hand_backs = Revocations(ledger, blobs), HandBacks(ledger, blobs)
    return Worker(Queue.DOCUMENTS, ledger, lambda jobs: None, settings, 600, revocations, hand_backs)


def test_a_run_goes_on_for_so_long_after_the_last_good_beat_was_asked_for(
    ledger: Ledger, clock: Clock
) -> None:
    (job,) = ledger.accept(upload()).publish
    run = Run(claim(ledger, job), threading.Event(), 600, late_after=90)
    clock.now += 90
    run.check()
    run.heard(clock.now - 30)  # asked for 30 s ago, and answered now
    clock.now += 60
    run.check()
    assert not run.is_lost
    clock.now += 1
    assert run.is_lost
    with pytest.raises(Stopped):
        run.check()


def test_the_time_that_a_claim_took_counts(
    ledger: Ledger, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(ledger, tmp_path, lease=30, hold=60)
    ask, lost = ledger.claim, list[bool]()

    def slow(*arguments: Any) -> object:
        answer = ask(*arguments)
        clock.now += 60
        return answer

    def work(run: Run) -> None:
        lost.append(run.is_lost)
        clock.now += 31
        lost.append(run.is_lost)

    monkeypatch.setattr(ledger, "claim", slow)
    (job,) = ledger.accept(upload()).publish
    worker.run(job, work, job.task_id)
    assert lost == [False, True]


def test_a_run_that_is_cut_off_from_redis_writes_nothing_any_more(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(ledger, tmp_path, lease=0.5, hold=0.25)
    healed, wrote = threading.Event(), list[str]()

    def silent(*_: Any, **__: Any) -> set[str]:
        healed.wait(WAIT_SECONDS)
        return set()

    def work(run: Run) -> None:
        until(lambda: run.is_lost)
        with pytest.raises(Stopped):
            worker.hold(run, lambda: wrote.append("points"))
        worker.end(run, lambda: wrote.append("the end"))

    monkeypatch.setattr(ledger, "beat", silent)
    worker.leases.start()
    (job,) = ledger.accept(upload()).publish
    worker.run(job, work, job.task_id)
    healed.set()
    worker.leases.stop()
    task = ledger.task("default", "t1")
    assert task
    assert (task.state, task.attempt, wrote) == ("PENDING", 0, [])


def test_good_beats_keep_a_run_for_longer_than_that(ledger: Ledger, tmp_path: Path) -> None:
    worker = worker_of(ledger, tmp_path, lease=1, hold=0)
    lost: list[bool] = []

    def work(run: Run) -> None:
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 1.5)
        lost.append(run.is_lost)

    worker.leases.start()
    (job,) = ledger.accept(upload()).publish
    worker.run(job, work, job.task_id)
    worker.leases.stop()
    assert lost == [False]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("end", ["settled", "deleted"])
def test_the_janitor_waits_until_what_such_a_run_has_sent_can_not_arrive_any_more(
    empty_redis: RedisServer, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_QDRANT_TIMEOUT", "7")
    settings, timeout = LedgerSettings(), VectorSettings().timeout
    ledger, document = Ledger(connect(empty_redis.url), settings), upload()
    (job,) = ledger.accept(document).publish
    claim(ledger, job)
    began = ledger.now()
    if end == "deleted":
        ledger.delete("default", document.id, 1)
        quiet_at = ledger._redis.hget(f"deleted:default:{document.id}", "quiet_at")
    else:
        assert ledger.revoke("default", "t1")
        (ended,) = ledger.unsettled(9)
        ledger.settled(ended, began)
        quiet_at = ledger._redis.zscore("settle_again", f"default:{document.id}")
    assert timeout == 7
    assert float(quiet_at) >= began + settings.late_seconds + 2 * timeout


@pytest.mark.parametrize("end", ["settled", "deleted"])
def test_a_record_that_took_the_place_of_work_is_waited_for_from_then_on(ledger: Ledger, end: str) -> None:
    document = upload()
    (job,) = ledger.accept(document).publish
    claim(ledger, job)
    began = ledger.now()
    ready = {"state": DocumentState.READY, "generation": 2, "live_generation": 2, "updated_at": 1.0}
    record = document.model_copy(update={"task_id": "t2", **ready})
    assert ledger.restore(record)
    if end == "deleted":
        ledger.delete("default", document.id, 2)
        quiet_at = ledger._redis.hget(f"deleted:default:{document.id}", "quiet_at")
    else:
        assert ledger.settled(record, began)
        quiet_at = ledger._redis.zscore("settle_again", f"default:{document.id}")
    assert float(quiet_at or 0) >= began + ledger._quiet_after
    found = ledger.document("default", document.id)
    assert found is None or found.updated_at == 1.0
