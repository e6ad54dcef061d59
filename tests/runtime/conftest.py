from pathlib import Path

import pytest

from embedfleet.contracts.jobs import Job, Queue
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker.gate import Turns
from embedfleet.runtime.worker.worker import Worker


@pytest.fixture
def worker(ledger: Ledger, tmp_path: Path) -> Worker:
    published: list[Job] = []
    blobs = Blobs(tmp_path)
    settings = LedgerSettings(lease_seconds=0.5)
    revocations, hand_backs = Revocations(ledger, blobs), HandBacks(ledger, blobs)
    worker = Worker(Queue.DOCUMENTS, ledger, published.extend, settings, 600, revocations, hand_backs)
    worker.published = published  # type: ignore[attr-defined]
    worker.gate._probes = Turns(0.05)
    return worker
