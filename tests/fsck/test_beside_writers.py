"""Beside writers at work a check finds nothing; when they have stopped, nothing is wrong indeed."""

import random
import threading

import pytest

from embedfleet import janitor as module
from embedfleet.fsck.findings import Patience
from embedfleet.janitor import Janitor
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.settings import LedgerSettings
from tests.e2e.fleet import until
from tests.fsck.house import COLLECTION, House, document

LOOKS = 8
STEPS_A_LOOK = 5
KEYS = "abcdefghijklmnopqrst"
SETTINGS = LedgerSettings(lease_seconds=30)
SHORT = Patience(change=-1, look=0.5, stuck=5, file=3600)


class Writer:
    """Uploads, embeds, revokes and deletes at random, a janitor beside it; late writers among them."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.random = house, random.Random(seed)
        self.steps = 0
        self.late: list[str] = []
        self.janitor = Janitor(house.ledger, house.blobs, house.store, lambda jobs: None, SETTINGS)

    def step(self) -> None:
        self.steps += 1
        one = document(self.random.choice(KEYS), str(self.steps))
        chance = self.random.random()
        if chance < 0.15:
            self.house.deletion.document("default", one.id)
        else:
            self.house.take(one)
            self.house.embed(one, self.random.randint(1, 9), finish=chance < 0.75)
            if chance >= 0.75:
                self.house.ledger.revoke("default", one.task_id)
        if chance > 0.4:
            self._write_late(document(self.random.choice(KEYS)).id)
        else:
            self._take_back()
        self.janitor.round()

    def _write_late(self, document_id: str) -> None:
        """Store points of a generation that was overtaken; they stay until a later step, as a worker's do."""
        row = self.house.ledger.document("default", document_id)
        deleted = self.house.ledger.deleted_through("default", document_id)
        if deleted if row is None else row.live_generation > 1:
            late = document().model_copy(update={"id": document_id, "generation": 1})
            self.house.put_points(late, range(20, 25))
            self.late.append(document_id)

    def _take_back(self) -> None:
        while self.late:
            document_id = self.late.pop()
            row = self.house.ledger.document("default", document_id)
            keep = row.live_generation if row else None
            self.house.store.delete_generations(COLLECTION, document_id, keep=keep, through=1)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.step()
        self._take_back()


def test_beside_writers_nothing_is_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_GRACE_SECONDS", -5)
    house.ledger = LedgerAudit(house.ledger._redis, SETTINGS)
    house.ledger._durable_after = house.ledger._quiet_after = 0
    house.__post_init__()
    writer, stop = Writer(house, 7), threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            writer.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    found, waits, pause = [], [], threading.Event()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        pause.wait(seconds)

    try:
        for number in range(LOOKS):
            until(lambda n=number: writer.steps >= n * STEPS_A_LOOK or failures, "the writer goes on")
            found += house.findings(patience=SHORT, wait=wait)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert found == []
    assert waits, "nothing looked wrong at first sight, so nothing was proved"
    for _ in range(2):
        writer.janitor.round()
    assert house.kinds() == []
