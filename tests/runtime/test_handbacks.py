from pathlib import Path

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.local.ports import free_ports
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, given_back, upload


def test_a_note_of_an_older_claim_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    hand_backs = HandBacks(ledger, Blobs(tmp_path))
    (job,) = ledger.accept(upload()).publish
    old = claim(ledger, job, "old")
    hand_backs.note(old)
    (again,) = ledger.hand_back(old)
    new = claim(ledger, again, "new")
    assert given_back(hand_backs) == []
    assert ledger.claim(again, "third") == "held", "the newer claim stands"
    assert ledger.hand_back(new)


def test_a_note_stays_until_redis_takes_it(ledger: Ledger, tmp_path: Path) -> None:
    blobs, (port,) = Blobs(tmp_path), free_ports(1)
    (job,) = ledger.accept(upload()).publish
    HandBacks(ledger, blobs).note(claim(ledger, job))
    client = connect(f"redis://127.0.0.1:{port}/0", timeout=0.2, retries=0)
    with pytest.raises(DependencyDown):
        given_back(HandBacks(Ledger(client, LedgerSettings()), blobs))
    assert [found.task_id for found in given_back(HandBacks(ledger, blobs))] == ["t1"]
    assert list(blobs.keys("handed_back")) == []
