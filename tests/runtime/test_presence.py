"""What a worker process says of itself with its beat: that it is there, parked, or gone."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import Queue
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker.gate import Turns
from embedfleet.runtime.worker.worker import Worker

WAIT_SECONDS = 20
DOWN = DependencyDown("Qdrant", "127.0.0.1:6333", "refused")


class House:
    """A worker that beats often, on a ledger that takes long to believe it dead; a test is its dependency."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        blobs, settings = Blobs(folder), LedgerSettings(lease_seconds=0.5)
        revocations, hand_backs = Revocations(ledger, blobs), HandBacks(ledger, blobs)
        self.ledger = ledger
        self.probe: Callable[[], None] = lambda: None
        self.worker = Worker(
            *(Queue.DOCUMENTS, ledger, lambda jobs: None, settings, 600, revocations, hand_backs),
            dependencies=[lambda: self.probe()],
        )
        self.worker.gate._probes = Turns(0.05)

    def shown(self) -> tuple[int, int]:
        """Return the consumers, and those that are parked."""
        queue = self.ledger.overview().queues[0]
        assert queue.name == "documents"
        return queue.consumers, queue.parked

    def until(self, consumers: int, parked: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while (shown := self.shown()) != (consumers, parked):
            assert time.monotonic() < deadline, shown


@pytest.fixture
def house(empty_redis: RedisServer, tmp_path: Path) -> Iterator[House]:
    client = connect(empty_redis.url)
    house = House(Ledger(client, LedgerSettings()), tmp_path)
    yield house
    client.close()


def fail() -> None:
    raise DOWN


def test_a_worker_is_shown_as_it_is_from_its_start_to_its_end(house: House) -> None:
    assert house.shown() == (0, 0)
    house.worker.leases.start()
    house.until(1, 0)
    house.probe = fail
    house.worker.gate.close(DOWN)
    house.until(1, 1)
    house.probe = lambda: None  # it serves again, and the worker asks by itself
    house.until(1, 0)
    house.worker.leases.stop()
    assert house.shown() == (0, 0)


def test_one_that_takes_its_queue_no_more_is_not_shown_though_it_beats(house: House) -> None:
    house.worker.leases.start()
    house.until(1, 0)
    house.worker.leases.takes = False
    house.until(0, 0)
    house.worker.leases.takes = True
    house.until(1, 0)
    house.worker.leases.stop()


def test_one_that_waits_for_a_silent_dependency_is_parked_and_not_gone(house: House) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        answered.wait(WAIT_SECONDS)

    house.probe = hang
    house.worker.gate.close(DOWN)
    house.worker.leases.start()
    assert asked.wait(WAIT_SECONDS)
    house.ledger._redis.delete("workers:documents", "parked_workers:documents")
    try:
        house.until(1, 1)
    finally:
        answered.set()
    house.until(1, 0)
    house.worker.leases.stop()


def test_it_tells_nothing_twice_within_a_beat(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(house.ledger, "beat", lambda *_, **__: (told.append("beat"), set())[1])
    leases = house.worker.leases
    leases._interval = 3600
    for _ in range(3):
        leases._beat()
    assert len(told) == 1
    house.worker.gate.close(DOWN)
    leases._beat()
    leases.takes = False
    leases._beat()
    assert len(told) == 3, "what changed is told at once"
