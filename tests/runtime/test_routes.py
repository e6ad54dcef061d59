"""A large file waits, runs, is lost and found again on a queue of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedfleet.api.waits import Waits
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.contracts.jobs import Job, Queue
from embedfleet.contracts.states import DocumentState, WaitReason
from embedfleet.local.redis import RedisServer
from embedfleet.runtime import broker
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker.worker import Worker
from tests.runtime.uploads import claim, upload

SETTINGS = LedgerSettings(lease_seconds=0.5, document_queues="documents-large=1000")


@pytest.fixture
def routed(empty_redis: RedisServer) -> Iterator[LedgerAudit]:
    client = connect(empty_redis.url)
    yield LedgerAudit(client, SETTINGS)
    client.close()


def _accepted(ledger: Ledger, size: int) -> Job:
    (job,) = ledger.accept(upload().model_copy(update={"size_bytes": size})).publish
    return job


@pytest.mark.parametrize(("size", "queue"), [(999, "documents"), (1000, "documents-large")])
def test_it_waits_and_runs_on_the_queue_of_its_size(routed: LedgerAudit, size: int, queue: str) -> None:
    job = _accepted(routed, size)
    assert job.destination == queue
    task = routed.task("default", job.task_id)
    assert task
    assert task.queue == queue
    run = claim(routed, job)
    now = routed.document("default", task.document_id)
    assert now
    assert now.state is DocumentState.PARSING
    running = {one.name: (one.depth, one.inflight) for one in routed.overview().queues}
    assert running == {name: (0, int(name == queue)) for name in running}
    assert 0 < routed.next_expiry() <= 0.5
    parts = routed.chunked(run, [Part("p", 0, 1, "f")], {})
    assert parts
    assert [part.destination for part in parts] == ["embeddings"]
    assert f"leases:{queue}" in routed.task_lists()


def test_its_wake_up_is_published_again_where_it_waits(routed: LedgerAudit) -> None:
    first = _accepted(routed, 1000)
    routed._redis.hset(f"task:{first.task_id}", "published_at", 0)
    routed._redis.delete("grace")
    routed._redis.set("scanned", 1)
    (again,), _ = routed.scan()
    assert (again.task_id, again.destination) == (first.task_id, "documents-large")
    assert again.sequence > first.sequence


def test_a_message_goes_to_the_queue_of_its_job(monkeypatch: pytest.MonkeyPatch, routed: LedgerAudit) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        broker.app, "send_task", lambda name, kwargs, queue, **_: sent.append((queue, kwargs))
    )
    job = _accepted(routed, 1000)
    broker.publish([job])
    assert sent == [("documents-large", {"task_id": job.task_id, "sequence": job.sequence})]


def test_it_waits_for_a_worker_of_its_own_queue(routed: LedgerAudit) -> None:
    routed.beat("documents", "worker", [])
    job = _accepted(routed, 1000)
    task = routed.task("default", job.task_id)
    assert task
    document = routed.document("default", task.document_id)
    assert document
    assert Waits(routed).of_task(task) is WaitReason.NO_WORKER
    assert Waits(routed).of_document(document) is WaitReason.NO_WORKER
    routed.beat("documents-large", "worker", [])
    assert Waits(routed).of_task(task) is WaitReason.QUEUED
    assert Waits(routed).of_document(document) is WaitReason.QUEUED


def test_it_is_held_back_with_all_documents(routed: LedgerAudit) -> None:
    job = _accepted(routed, 1000)
    routed._redis.hset("load", "resume_at", 1)
    assert routed.claim(job, "owner") == "backlog"
    assert routed.pool("documents-large").is_held
    assert not routed.pool("embeddings").is_held


def test_fsck_brings_its_lists_in_step(routed: LedgerAudit) -> None:
    job = _accepted(routed, 1000)
    claim(routed, job)
    routed._redis.zadd("waiting:documents-large", {job.task_id: 1})
    routed.mend_task(job.task_id, "default")
    assert not routed._redis.exists("waiting:documents-large")


@pytest.mark.parametrize(
    ("kind", "queues", "taken"),
    [
        (Queue.DOCUMENTS, ["documents"], "documents"),
        (Queue.DOCUMENTS, ["documents-large"], "documents-large"),
        (Queue.DOCUMENTS, ["documents", "documents-large"], ""),
        (Queue.DOCUMENTS, ["embeddings"], ""),
        (Queue.DOCUMENTS, ["celery"], ""),
        (Queue.EMBEDDINGS, ["embeddings"], "embeddings"),
        (Queue.EMBEDDINGS, ["documents-large"], ""),
    ],
)
def test_a_worker_is_one_of_the_queue_that_it_takes(
    routed: LedgerAudit, tmp_path: Path, kind: Queue, queues: list[str], taken: str
) -> None:
    blobs = Blobs(tmp_path)
    revocations, hand_backs = Revocations(routed, blobs), HandBacks(routed, blobs)
    worker = Worker(kind, routed, lambda jobs: None, SETTINGS, 600, revocations, hand_backs)
    known = SETTINGS.routes.taken_by(kind)
    if not taken:
        with pytest.raises(ConfigurationError, match=f"--queues={kind}"):
            worker.take(queues, known)
        return
    worker.take(queues, known)
    assert (worker.queue, worker.leases.queue) == (taken, taken)
