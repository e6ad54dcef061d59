from pathlib import Path

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import Job
from embedfleet.local.ports import free_ports
from embedfleet.runtime import broker
from embedfleet.runtime.blobs import Blobs, pending_key
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.runtime.uploads import upload


def test_an_upload_is_durable_and_queued(ledger: Ledger, tmp_path: Path) -> None:
    blobs, published = Blobs(tmp_path), list[Job]()
    document = upload()
    acceptance = Intake(ledger, blobs, published.extend).accept(document)
    assert (acceptance.unchanged, acceptance.generation) == (False, 1)
    manifest = blobs.read(Document, pending_key("t1"))
    assert manifest
    assert manifest.model_copy(update={"uploaded_at": document.uploaded_at}) == document
    assert [job.task_id for job in published] == ["t1"]


def test_which_upload_is_the_newer_is_told_by_the_clock_of_redis(ledger: Ledger, tmp_path: Path) -> None:
    blobs, began = Blobs(tmp_path), ledger.now()
    # The clock of the api that takes the first is a day ahead of the other's.
    for name, clock in (("t1", began + 86_400), ("t2", began)):
        document = upload(name, content=name).model_copy(update={"uploaded_at": clock})
        Intake(ledger, blobs, lambda jobs: None).accept(document)
    first, second = (blobs.read(Document, pending_key(name)) for name in ("t1", "t2"))
    record = ledger.document("default", upload().id)
    assert first
    assert second
    assert record
    assert began <= first.uploaded_at < second.uploaded_at == record.uploaded_at <= ledger.now()


def test_an_unchanged_upload_leaves_nothing_behind(ledger: Ledger, tmp_path: Path) -> None:
    blobs, published = Blobs(tmp_path), list[Job]()
    intake = Intake(ledger, blobs, published.extend)
    first, second = upload("t1"), upload("t2")
    for document in (first, second):
        blobs.put(document.blob, b"the file")
        acceptance = intake.accept(document)
    assert (acceptance.unchanged, acceptance.task_id) == (True, "t1")
    assert sorted(blobs.keys("")) == sorted([first.blob, pending_key("t1")])
    assert len(published) == 1


def test_with_redis_down_nothing_is_half_accepted(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    client = connect(f"redis://127.0.0.1:{free_ports(1)[0]}/0", timeout=0.2, retries=0)
    intake = Intake(Ledger(client, LedgerSettings()), blobs, lambda jobs: None)
    document = upload()
    blobs.put(document.blob, b"the file")
    with pytest.raises(DependencyDown):
        intake.accept(document)
    assert list(blobs.keys("")) == []


def test_a_failed_publish_is_no_error_for_an_accepted_upload(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`broker.publish` swallows what the broker raises; the row is there for the janitor."""
    nobody = BrokerSettings(broker_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    monkeypatch.setattr(broker, "app", broker.create_app(nobody, LedgerSettings()))
    Intake(ledger, Blobs(tmp_path), broker.publish).accept(upload())
    task = ledger.task("default", "t1")
    assert task
    assert task.state == "PENDING"
