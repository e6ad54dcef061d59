"""What a worker's own watches take for a fault, and what they must not; Celery is not running."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedfleet.contracts.jobs import Queue
from embedfleet.documents import tasks as documents
from embedfleet.embeddings import tasks as embeddings
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker import lifecycle as module
from embedfleet.runtime.worker.lifecycle import Lifecycle
from embedfleet.runtime.worker.runs import Run
from embedfleet.runtime.worker.slots import ASK_SECONDS, OVERLOOK_SECONDS, SlotWatch
from embedfleet.runtime.worker.worker import Worker
from tests.runtime.uploads import claim, upload

WAIT_SECONDS = 20


class House:
    """A worker and its watches, on a clock that the test turns."""

    def __init__(self, ledger: Ledger, blobs: Blobs, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.restarts: list[str] = []
        self.now = time.monotonic()
        revocations, hand_backs = Revocations(ledger, blobs), HandBacks(ledger, blobs)
        self.worker = Worker(queue, ledger, lambda jobs: None, LedgerSettings(), 600, revocations, hand_backs)
        self.lifecycle = Lifecycle(self.worker, lambda worker, threads: None)
        self.lifecycle._slots = SlotWatch(threads=2)
        monkeypatch.setattr(module, "start_afresh", self.restarts.append)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def tick(self) -> None:
        for _ in range(2):
            self.lifecycle.tick()
            self.now += 600


@pytest.fixture(params=list(Queue))
def house(
    request: pytest.FixtureRequest, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> House:
    return House(ledger, Blobs(tmp_path), request.param, monkeypatch)


def test_a_message_that_was_sent_by_hand_is_no_leaked_slot(
    house: House, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def work(run: Run) -> None:
        monkeypatch.setattr(module.state, "reserved_requests", [SimpleNamespace(id="by-hand")])
        house.tick()
        seen.append(run.task.id)

    jobs = ledger.accept(upload()).publish
    task: Any = documents.process_document_task
    if house.worker.queue is Queue.EMBEDDINGS:
        jobs = ledger.chunked(claim(ledger, jobs[0]), [Part("p", 0, 1, "f")], {}) or []
        task = embeddings.generate_embeddings_task
    monkeypatch.setattr(documents, "_worker", house.worker)
    monkeypatch.setattr(documents, "_process", work)
    monkeypatch.setattr(embeddings, "_worker", house.worker)
    monkeypatch.setattr(embeddings, "_embed", work)
    task.apply(kwargs=jobs[0].model_dump(), task_id="by-hand", throw=True)
    assert seen == [jobs[0].task_id]
    assert house.restarts == []
    house.tick()
    assert len(house.restarts) == 1, "held and not run any more: a leaked slot"


@pytest.fixture
def queues() -> Iterator[Any]:
    """Celery's queues, as a worker of this pool has them."""
    app.amqp.queues.select([str(Queue.DOCUMENTS)])
    yield app.amqp.queues
    app.amqp.queues._consume_from = None


@pytest.mark.parametrize("house", [Queue.DOCUMENTS], indirect=True)
def test_a_consumer_that_was_cancelled_on_purpose_is_not_idle(
    house: House, ledger: Ledger, queues: Any
) -> None:
    ledger._redis.lpush("documents", "a message")
    watch = house.lifecycle._watch(2)

    def wait() -> None:
        for _ in range(int(OVERLOOK_SECONDS / ASK_SECONDS) + 2):
            watch()
            house.now += ASK_SECONDS

    queues.deselect("documents")  # as `celery control cancel_consumer` does
    wait()
    assert (house.restarts, house.lifecycle.livez()) == ([], [])
    queues.select_add("documents")  # as `celery control add_consumer` does
    wait()
    assert house.restarts
    assert "1 messages wait on documents, and none is taken" in house.lifecycle.livez()
    queues.deselect("documents")
    watch()
    assert house.lifecycle.livez() == []


@pytest.mark.parametrize("house", [Queue.DOCUMENTS], indirect=True)
def test_a_worker_takes_its_queue_unless_it_drains_or_its_consumer_was_cancelled(
    house: House, queues: Any
) -> None:
    watch, leases, told = house.lifecycle._watch(2), house.worker.leases, list[bool]()
    for change in (
        lambda: None,
        lambda: queues.deselect("documents"),
        lambda: queues.select_add("documents"),
        house.worker.draining.set,
    ):
        change()
        watch()
        told.append(leases.takes)
    assert told == [True, False, True, False]


@pytest.mark.parametrize("house", [Queue.EMBEDDINGS], indirect=True)
def test_a_worker_that_is_broken_for_good_says_so_and_starts_afresh_unless_it_ends_already(
    house: House, queues: Any
) -> None:
    watch, problems = house.lifecycle._watch(2), list[str]()
    house.lifecycle._problems = lambda: problems
    house.worker.gate.close(RuntimeError("Qdrant is down, too"))
    watch()
    assert (house.restarts, house.lifecycle.livez()) == ([], [])
    problems.append("the lane has died")
    watch()
    assert house.restarts == house.lifecycle.livez() == ["the lane has died"]
    house.worker.draining.set()
    watch()
    assert house.restarts == ["the lane has died"]


@pytest.mark.parametrize("what", ["hangs", "fails"])
@pytest.mark.parametrize("house", [Queue.DOCUMENTS], indirect=True)
def test_a_drain_that_takes_too_long_ends_the_process_whatever_becomes_of_its_notes(
    house: House, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exited, noted, healed = list[int](), list[str](), threading.Event()

    def note(run: Any) -> None:
        noted.append(run.task.id)
        if what == "fails":
            raise ValueError
        healed.wait(WAIT_SECONDS)

    runs = [SimpleNamespace(task=SimpleNamespace(id=name)) for name in ("t1", "t2")]
    monkeypatch.setattr(house.worker, "leases", SimpleNamespace(runs=runs))
    monkeypatch.setattr(house.worker, "_note", note)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(module, "os", SimpleNamespace(_exit=exited.append))
    house.lifecycle.end()
    drain = threading.Thread(target=house.lifecycle._leave_in_time, daemon=True)
    drain.start()
    drain.join(WAIT_SECONDS / 2)
    assert exited == [0]
    assert noted == (["t1", "t2"] if what == "fails" else ["t1"])
    healed.set()


@pytest.mark.parametrize("house", [Queue.DOCUMENTS], indirect=True)
def test_a_second_sigterm_within_the_first_changes_nothing(house: House) -> None:
    def interrupted() -> None:
        with house.worker.draining._cond:  # as it stands when a signal comes in the midst of `Event.set`
            house.lifecycle.end()

    handler = threading.Thread(target=interrupted, daemon=True)
    handler.start()
    handler.join(WAIT_SECONDS)
    assert not handler.is_alive()
