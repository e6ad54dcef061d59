"""What the edges count: deaths, messages written anew, poison; each event once, by whoever found it."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import JOBS, Job
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger, metrics
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload

NAMES = ("fleet_ledger_expired_leases", "fleet_ledger_republished", "fleet_poison_tasks")


@pytest.fixture
def ledger(empty_redis: RedisServer) -> Iterator[Ledger]:
    """A ledger on which two deaths make a task poison, and whose janitor has been at work."""
    client = connect(empty_redis.url)
    ledger = Ledger(client, LedgerSettings(document_queues="documents-large=1000", max_deaths=2))
    client.set("scanned", 1)
    yield ledger
    client.close()


def series() -> dict[tuple[str, str], float]:
    """Return every series of these counters, by name and label."""
    families = [family for family in REGISTRY.collect() if family.name in NAMES]
    samples = [one for family in families for one in family.samples if one.name.endswith("_total")]
    return {(one.name.removesuffix("_total"), next(iter(one.labels.values()))): one.value for one in samples}


class Tally:
    """What was counted since it was made."""

    def __init__(self) -> None:
        self._before = series()

    def read(self) -> dict[tuple[str, str], float]:
        return {
            key: value - self._before.get(key, 0)
            for key, value in series().items()
            if value != self._before.get(key, 0)
        }


EXPIRED, ANEW, POISON = NAMES


def die(ledger: Ledger, job: Job) -> None:
    """Let the run that claims a task die."""
    claim(ledger, job, "dead")
    ledger._redis.hset(f"task:{job.task_id}", "lease_until", 1)
    ledger._redis.zadd(f"leases:{job.destination}", {job.task_id: 1})


def test_all_series_are_there_from_the_start(ledger: Ledger) -> None:
    queues = {"documents", "embeddings", "documents-large"}
    found = series().keys()
    assert {label for name, label in found if name == EXPIRED} >= queues
    assert {label for name, label in found if name == ANEW} >= queues
    assert {label for name, label in found if name == POISON} >= {"process_document", "generate_embeddings"}
    assert set(metrics.TASK_LABELS) == {job.task_name for job in JOBS}


def given_up(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return task and document of each line that says poison; all are errors."""
    lines = [record for record in caplog.records if "poison" in record.getMessage()]
    assert {record.levelname for record in lines} == {"ERROR"}
    return [(vars(record)["task_id"], vars(record)["document_id"]) for record in lines]


def test_a_death_is_counted_by_queue_with_its_new_message_and_the_last_one_as_poison(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = ledger.accept(upload().model_copy(update={"size_bytes": 1000})).publish
    die(ledger, job)
    tally = Tally()
    (again,), _ = ledger.scan()
    assert tally.read() == {(EXPIRED, "documents-large"): 1, (ANEW, "documents-large"): 1}
    die(ledger, again)
    tally = Tally()
    assert ledger.scan() == ([], False)
    assert tally.read() == {(EXPIRED, "documents-large"): 1, (POISON, "process_document"): 1}
    assert given_up(caplog) == [("t1", upload().id)]
    tally = Tally()
    ledger.scan()
    assert tally.read() == {}


def test_a_worker_that_finds_a_death_counts_it(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    (job,) = ledger.accept(upload()).publish
    (part,) = ledger.chunked(claim(ledger, job), [Part("p", 0, 1, "f")], {}) or []
    die(ledger, part)
    tally = Tally()
    claim(ledger, part, "next")
    assert tally.read() == {(EXPIRED, "embeddings"): 1}
    ledger._redis.hset("task:p", "lease_until", 1)
    tally = Tally()
    assert not caplog.records
    assert ledger.claim(part, "another") == "finished"
    assert given_up(caplog) == [("p", upload().id)]
    assert tally.read() == {(EXPIRED, "embeddings"): 1, (POISON, "generate_embeddings"): 1}


def test_a_run_that_was_to_stop_has_not_died(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    die(ledger, job)
    ledger._redis.hset(
        f"document:default:{upload().id}", "state", "REVOKED"
    )  # its task is still to be closed
    tally = Tally()
    ledger.scan()
    assert ledger._redis.hget("task:t1", "state") == "REVOKED"
    assert tally.read() == {}


def test_a_lost_wake_up_is_written_anew_and_a_retry_is_not(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    ledger._redis.hset("task:t1", "published_at", 1)
    tally = Tally()
    assert len(ledger.scan()[0]) == 1
    assert tally.read() == {(ANEW, "documents"): 1}
    ledger.fail(claim(ledger, job), EmbeddingError("no"), retryable=True)
    ledger._redis.hset("task:t1", "next_at", 1)
    ledger._redis.zadd("due", {"t1": 1})
    tally = Tally()
    assert len(ledger.scan()[0]) == 1
    assert tally.read() == {}


def test_a_job_of_a_newer_version_makes_no_label(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    die(ledger, job)
    ledger._redis.hset("task:t1", mapping={"name": "embedfleet.documents.new_task", "deaths": 1})
    tally = Tally()
    ledger.scan()
    assert tally.read() == {(EXPIRED, "documents"): 1, (POISON, "other"): 1}
