from pathlib import Path

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import Job
from embedfleet.local.ports import free_ports
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks, Note
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Held
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


def test_the_notes_of_two_runs_of_a_task_stand_side_by_side(ledger: Ledger, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    hand_backs = HandBacks(ledger, blobs)
    (job,) = ledger.accept(upload()).publish
    old = claim(ledger, job, "a:old")
    (again,) = ledger.hand_back(old)
    hand_backs.note(claim(ledger, again, "b:new"))
    hand_backs.note(old)  # its worker only ends now
    assert len(hand_backs.noted()) == 2
    assert [found.task_id for found in given_back(hand_backs)] == ["t1"]
    assert list(blobs.keys("")) == []


def test_a_note_that_comes_while_another_is_carried_out_stays(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_backs = HandBacks(ledger, Blobs(tmp_path))
    (job,) = ledger.accept(upload()).publish
    hand_backs.note(claim(ledger, job, "a:old"))
    give, given = ledger.hand_back, list[Job]()

    def meanwhile(held: Held) -> list[Job]:
        given.extend(give(held))  # the other janitor was as fast
        hand_backs.note(claim(ledger, given[0], "b:new"))
        return []

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "hand_back", meanwhile)
        given_back(hand_backs)
    assert [found.task_id for found in given_back(hand_backs)] == ["t1"]


def test_a_note_of_the_version_before_is_carried_out(ledger: Ledger, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    (job,) = ledger.accept(upload()).publish
    held = claim(ledger, job)
    note = Note(task_id="t1", fence=held.fence, owner=held.owner)
    blobs.put("handed_back/t1", note.model_dump_json().encode())
    assert [found.task_id for found in given_back(HandBacks(ledger, blobs))] == ["t1"]
