"""What a newer version wrote: left to it, unspent, by an older one that runs beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import EmbeddingError, NewerVersion
from embedfleet.contracts.jobs import JOBS, Job
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload

DOCUMENT = f"document:default:{upload().id}"


@pytest.fixture
def patient(ledger: Ledger) -> Ledger:
    """A ledger whose leases outlast the test."""
    patient = Ledger(ledger._redis, LedgerSettings(lease_seconds=600))
    ledger._redis.set("scanned", 1)
    return patient


def set_upload(ledger: Ledger, **changes: Any) -> None:
    stored = json.loads(ledger._redis.hget(DOCUMENT, "upload"))
    ledger._redis.hset(DOCUMENT, "upload", json.dumps(stored | changes))


def write_as_newer(ledger: Ledger, what: str) -> None:
    match what:
        case "task field":
            ledger._redis.hset("task:t1", "cost", 7)
        case "document field":
            ledger._redis.hset(DOCUMENT, "language", "vi")
        case "document state":
            ledger._redis.hset(DOCUMENT, "state", "TRANSLATING")
        case "upload field":
            set_upload(ledger, language="vi")
        case "option":
            set_upload(ledger, options={"chunk_size": 500, "window": 3})
        case "value of an option":
            set_upload(ledger, options={"chunker_type": "semantic"})


@pytest.mark.parametrize(
    "what",
    ["task field", "document field", "document state", "upload field", "option", "value of an option"],
)
def test_a_task_that_only_a_newer_version_knows_is_given_back_unspent_and_woken_later(
    patient: Ledger, what: str
) -> None:
    (job,) = patient.accept(upload()).publish
    write_as_newer(patient, what)
    for _ in range(4):  # more often than a task may see its worker die
        assert patient.claim(job, "old") == "newer"
        assert patient._redis.hmget("task:t1", "state", "attempt", "deaths") == ["PENDING", "0", "0"]
        assert patient._redis.zcard("leases:documents") == 0
        assert patient.scan()[0] == [], "not at once: the same worker would take it again"
        patient._redis.hset("task:t1", "published_at", 1)
        (job,) = patient.scan()[0]


def test_a_row_that_is_damaged_is_not_taken_for_a_newer_one(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    set_upload(ledger, size_bytes="many", cost=7)
    with pytest.raises(ValueError, match="size_bytes"):
        ledger.claim(job, "worker")


def test_a_document_of_a_newer_version_is_shown_and_not_settled(patient: Ledger) -> None:
    (job,) = patient.accept(upload()).publish
    patient.revoke("default", job.task_id)
    patient.accept(upload("t2", key="b.txt"))
    patient.revoke("default", "t2")
    write_as_newer(patient, "upload field")
    assert {document.document_key for document in patient.documents("default", None, 9)[0]} == {
        "a.txt",
        "b.txt",
    }
    assert [document.document_key for document in patient.unsettled(9)] == ["b.txt"]


def test_a_document_in_an_unknown_state_hides_no_other(patient: Ledger) -> None:
    patient.accept(upload())
    patient.accept(upload("t2", key="b.txt"))
    write_as_newer(patient, "document state")
    assert [document.document_key for document in patient.documents("default", None, 9)[0]] == ["b.txt"]
    with pytest.raises(NewerVersion, match=upload().id):
        patient.document("default", upload().id)


NEWER: list[dict[str, Any]] = [
    {"language": "vi"},
    {"state": "TRANSLATING"},
    {"options": {"window": 3}},
    {"options": {"chunker_type": "semantic"}},
    {"options": {"chunk_size": 16_000}},
]
DAMAGED: list[bytes] = [b"", b"{", b"[]", b"{}", b"\xff", b'{"language": "vi"}']


@pytest.mark.parametrize("change", NEWER)
def test_a_manifest_of_a_newer_version_stays_where_it_is(tmp_path: Path, change: dict[str, Any]) -> None:
    blobs, text = Blobs(tmp_path), json.dumps(upload().model_dump(mode="json") | change).encode()
    blobs.put("pending/t1", text)
    assert blobs.read(Document, "pending/t1") is None
    assert blobs.get("pending/t1") == text
    assert list(blobs.keys("damaged")) == []


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_manifest_is_put_aside(tmp_path: Path, text: bytes) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("pending/t1", text)
    assert blobs.read(Document, "pending/t1") is None
    assert list(blobs.keys("damaged")) == ["damaged/pending/t1"]


def published_again(ledger: Ledger, job: Job) -> Job:
    ledger._redis.hset(f"task:{job.task_id}", "published_at", 1)
    (again,) = ledger.scan()[0]
    return again


def test_a_message_that_a_janitor_writes_anew_lacks_nothing(patient: Ledger) -> None:
    (first,) = patient.accept(upload()).publish
    jobs = [published_again(patient, first)]
    second = patient.chunked(claim(patient, jobs[0]), [Part("p", 0, 1, "f")], {})
    assert second
    patient._redis.hset("task:p", "cost", 7)  # by a newer version, whose worker needs it
    jobs.append(published_again(patient, second[0]))
    assert [type(job) for job in jobs] == list(JOBS)
    for job, original in zip(jobs, [first, *second], strict=True):
        assert job.model_dump(exclude={"sequence"}) == original.model_dump(exclude={"sequence"})
        assert set(type(job).model_fields) == {"task_id", "sequence"}, "what else a task needs is in its row"
    assert patient._redis.hget("task:p", "cost") == "7"


def scan_all(ledger: Ledger) -> set[str]:
    """Scan until nothing is due; return the tasks that are woken."""
    woken, more = set[str](), True
    while more:
        jobs, more = ledger.scan()
        woken |= {job.task_id for job in jobs}
    return woken


def test_a_step_of_a_newer_version_waits_for_its_janitor_and_holds_up_no_other(patient: Ledger) -> None:
    (job,) = patient.accept(upload()).publish
    parts = [Part(f"p{number}", number, 1, "f") for number in range(60)]
    patient._go_on = lambda answer: None  # type: ignore[method-assign]  # who parsed it dies at once
    patient.chunked(claim(patient, job), parts, {})
    patient._redis.zadd("steps", {"merge:t1": 1, "spread:t1": 2, "index:a:b:c": 3})
    assert {f"p{number}" for number in range(24, 60)} <= scan_all(patient)
    steps = patient._redis.zrange("steps", 0, -1, withscores=True)
    assert {name for name, _ in steps} == {"merge:t1", "index:a:b:c"}
    assert all(at > patient.now() for _, at in steps)


@pytest.mark.parametrize("where", ["due", "leases:embeddings"])
def test_a_task_in_an_unknown_state_is_left_to_a_newer_janitor_and_holds_up_no_other(
    patient: Ledger, where: str
) -> None:
    (job,) = patient.accept(upload()).publish
    jobs = patient.chunked(claim(patient, job), [Part("p0", 0, 1, "f"), Part("p1", 1, 1, "f")], {})
    assert jobs
    for part in jobs:
        claim(patient, part)
        patient._redis.hset(f"task:{part.task_id}", "lease_until", 1)
    patient._redis.hset("task:p0", "state", "PAUSED")
    before = patient._redis.hgetall("task:p0")
    patient._redis.delete("due", "leases:embeddings", "grace")
    patient._redis.zadd(where, {"p0": 1, "p1": 2})
    assert scan_all(patient) == {"p1"}
    assert patient._redis.hgetall("task:p0") == before
    assert patient._redis.zscore("due", "p0") > patient.now(), "the newer janitor finds it"
    assert patient._redis.zscore("leases:embeddings", "p0") is None
    assert patient.claim(jobs[0], "old") == "newer"


def test_a_task_in_an_unknown_state_does_not_keep_its_document_from_being_closed(patient: Ledger) -> None:
    (job,) = patient.accept(upload()).publish
    patient.chunked(claim(patient, job), [Part("p0", 0, 1, "f"), Part("p1", 1, 1, "f")], {})
    patient._redis.hset("task:p0", "state", "PAUSED")
    assert patient.revoke("default", "t1")
    states = [patient._redis.hget(f"task:{name}", "state") for name in ("p0", "p1")]
    assert states == ["PAUSED", "REVOKED"]


def test_a_document_in_an_unknown_state_is_not_failed_when_its_task_dies(patient: Ledger) -> None:
    for number in range(2):
        (job,) = patient.accept(upload(f"t{number}", key=f"{number}.txt")).publish
        claim(patient, job)
        patient._redis.hset(f"task:t{number}", mapping={"lease_until": 1, "deaths": 9})
        patient._redis.zadd("leases:documents", {f"t{number}": number})
    newer, other = upload(key="0.txt"), upload(key="1.txt")
    patient._redis.hset(f"document:default:{newer.id}", "state", "TRANSLATING")
    patient._redis.delete("grace")
    scan_all(patient)
    assert patient._redis.hget("task:t0", "state") == "STARTED"
    assert patient._redis.hget(f"document:default:{newer.id}", "state") == "TRANSLATING"
    assert patient._redis.hget(f"document:default:{other.id}", "state") == "FAILED"


ENDS: dict[str, Callable[[Ledger, Claim], object]] = {
    "chunked": lambda ledger, held: ledger.chunked(held, [Part("p", 0, 1, "f")], {}),
    "embedded": lambda ledger, held: ledger.embedded(held, {}),
    "revoke": lambda ledger, held: ledger.revoke("default", held.task_id) or None,
}


@pytest.mark.parametrize("end", ENDS)
def test_no_edge_ends_a_document_in_an_unknown_state(patient: Ledger, end: str) -> None:
    (job,) = patient.accept(upload()).publish
    held = claim(patient, job)
    if end == "embedded":
        (job,) = patient.chunked(held, [Part("p", 0, 1, "f")], {}) or []
        held = claim(patient, job)
    write_as_newer(patient, "document state")
    before = [patient._redis.hgetall(key) for key in (DOCUMENT, f"task:{held.task_id}")]
    assert ENDS[end](patient, held) is None
    assert [patient._redis.hgetall(key) for key in (DOCUMENT, f"task:{held.task_id}")] == before
    assert patient.hand_back(held), "it may be given back, for a newer worker to take it"


@pytest.mark.parametrize("retryable", [False, True])
def test_a_run_that_fails_on_a_document_in_an_unknown_state_is_given_back_unspent(
    patient: Ledger, retryable: bool
) -> None:
    (job,) = patient.accept(upload()).publish
    held = claim(patient, job)
    write_as_newer(patient, "document state")
    before = patient._redis.hgetall(DOCUMENT)
    assert patient.fail(held, EmbeddingError("no"), retryable=retryable) is None
    assert patient._redis.hgetall(DOCUMENT) == before
    task = patient.task("default", "t1")
    assert task
    assert (task.state, task.attempt, patient._redis.hget("task:t1", "deaths")) == ("PENDING", 0, "0")
    assert patient._redis.zcard("leases:documents") == 0
    assert patient._redis.zrange("waiting:documents", 0, -1) == ["t1"], "the janitor wakes it"


def test_a_document_in_an_unknown_state_is_neither_overtaken_nor_restored(patient: Ledger) -> None:
    patient.accept(upload())
    write_as_newer(patient, "document state")
    before = patient._redis.hgetall(DOCUMENT)
    with pytest.raises(NewerVersion, match="newer version"):
        patient.accept(upload("t2", content="two"))
    with pytest.raises(NewerVersion, match="newer version"):
        patient.restore(upload().model_copy(update={"generation": 5}))
    assert patient._redis.hgetall(DOCUMENT) == before
    assert patient._redis.hget("task:t1", "state") == "PENDING"


def test_a_row_that_is_damaged_keeps_no_other_from_being_settled(patient: Ledger) -> None:
    for number in range(3):
        patient.accept(upload(f"t{number}", key=f"{number}.txt"))
        patient.revoke("default", f"t{number}")
    patient._redis.hdel(f"document:default:{upload(key='0.txt').id}", "upload")
    patient._redis.hset(f"document:default:{upload(key='1.txt').id}", "generation", "many")
    assert [document.task_id for document in patient.unsettled(9)] == ["t2"]
