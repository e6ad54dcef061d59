"""A large file waits, runs, is lost and found again on a queue of its own, and outlives that queue."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedfleet.api.waits import Waits
from embedfleet.contracts.errors import ConfigurationError, FleetError
from embedfleet.contracts.jobs import Job, Queue
from embedfleet.contracts.states import DocumentState, WaitReason
from embedfleet.local.redis import RedisServer
from embedfleet.runtime import broker
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.edges import SCAN_LIMIT
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


@pytest.fixture
def before(routed: LedgerAudit) -> LedgerAudit:
    """The ledger of an api that has a queue of large files, with leases that outlast the test."""
    routed._redis.set("scanned", 1)
    return LedgerAudit(routed._redis, SETTINGS.model_copy(update={"lease_seconds": 600}))


@pytest.fixture
def after(before: LedgerAudit) -> LedgerAudit:
    """That of one that has none, on the same Redis."""
    return LedgerAudit(before._redis, LedgerSettings(lease_seconds=600))


def _forget(ledger: Ledger) -> None:
    """Let it be long ago that an api knew the queue of large files."""
    assert ledger._redis.zscore("document_queues", "documents-large")
    ledger._redis.zadd("document_queues", {"documents-large": 1})


def _running(ledger: Ledger) -> dict[str, int]:
    return {queue.name: queue.inflight for queue in ledger.overview().queues}


def _dies(ledger: Ledger, job: Job) -> None:
    claim(ledger, job)
    ledger._redis.hset(f"task:{job.task_id}", "lease_until", 1)
    ledger._redis.zadd("due", {job.task_id: 1})


def _fails(ledger: Ledger, job: Job) -> None:
    ledger.fail(claim(ledger, job), FleetError("no"), retryable=True)
    ledger._redis.hset(f"task:{job.task_id}", "next_at", 1)
    ledger._redis.zadd("due", {job.task_id: 1})


@pytest.mark.parametrize(
    "happens",
    [lambda ledger, job: None, lambda ledger, job: ledger.hand_back(claim(ledger, job)), _dies, _fails],
    ids=["queued", "handed back", "dead", "failed"],
)
def test_a_file_on_a_queue_that_is_gone_goes_to_the_documents_and_runs_once(
    before: LedgerAudit, after: LedgerAudit, happens: Callable[[Ledger, Job], object]
) -> None:
    old = _accepted(before, 1000)
    happens(before, old)
    _forget(before)
    *_, new = after.scan()[0]
    assert (new.task_id, new.destination) == (old.task_id, "documents")
    task = after.task("default", old.task_id)
    assert task
    assert task.queue == "documents"
    run = claim(after, new, "of documents")
    assert _running(after) == {"documents": 1, "embeddings": 0}
    assert before.claim(old, "of documents-large") == "held", "its message is there still, and a late worker"
    assert after.scan()[0] == []
    assert after.chunked(run, [Part("p", 0, 1, "f")], {})
    assert before.claim(old, "of documents-large") == "finished"


def test_a_late_worker_may_still_take_it_from_the_queue_that_is_gone(
    before: LedgerAudit, after: LedgerAudit
) -> None:
    old = _accepted(before, 1000)
    _forget(before)
    ((new,), _) = after.scan()
    claim(before, old, "of documents-large")
    assert after.claim(new, "of documents") == "held"
    assert _running(after) == {"documents": 1, "embeddings": 0}, "an autoscaler sees it where it belongs now"


def test_a_queue_that_an_api_knew_just_now_is_left_alone(before: LedgerAudit, after: LedgerAudit) -> None:
    _accepted(before, 1000)
    assert after.scan()[0] == [], "an api routes to it"
    _forget(before)
    before.scan()
    assert after.scan()[0] == [], "a janitor knew it"
    _forget(before)
    assert [job.destination for job in after.scan()[0]] == ["documents"]


def test_however_many_wait_there_a_scan_is_short(before: LedgerAudit, after: LedgerAudit) -> None:
    for number in range(SCAN_LIMIT + 5):
        document = upload(f"t{number}", key=f"{number}.txt").model_copy(update={"size_bytes": 1000})
        before.accept(document)
    _forget(before)
    found = [(len(jobs), more) for jobs, more in (after.scan() for _ in range(3))]
    assert found == [(SCAN_LIMIT, True), (5, False), (0, False)]
    assert not after._redis.exists("waiting:documents-large")


def test_no_message_is_left_on_the_queue_that_is_gone(before: LedgerAudit, after: LedgerAudit) -> None:
    old = _accepted(before, 1000)
    before._redis.rpush("documents-large", old.model_dump_json())
    _forget(before)
    after.scan()
    assert after._redis.llen("documents-large") == 1, "what waits there is taken over first"
    after.scan()
    assert not after._redis.exists("documents-large")


def test_a_task_of_a_newer_version_is_left_where_it_waits(before: LedgerAudit, after: LedgerAudit) -> None:
    newer = _accepted(before, 1000)
    (other,) = before.accept(upload("t2", key="2.txt").model_copy(update={"size_bytes": 1000})).publish
    before._redis.hset(f"task:{newer.task_id}", "state", "TRANSLATING")
    _forget(before)
    assert [job.task_id for job in after.scan()[0]] == [other.task_id]
    assert after._redis.hget(f"task:{newer.task_id}", "queue") == "documents-large"
    assert after._redis.zscore("due", newer.task_id) > after.now(), "the newer janitor finds it"


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
