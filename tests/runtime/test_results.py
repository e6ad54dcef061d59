import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from embedfleet.contracts.states import TaskState
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.records import Change
from embedfleet.runtime.ledger.results import CeleryResults
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings


@pytest.fixture
def results(empty_redis: RedisServer) -> Iterator[CeleryResults]:
    mirror = CeleryResults(BrokerSettings(broker_url=empty_redis.url), LedgerSettings())
    yield mirror
    mirror.flush()
    mirror._redis.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline


def status(results: CeleryResults, task_id: str = "t1") -> str | None:
    meta = results._redis.get(f"celery-task-meta-{task_id}")
    return json.loads(meta)["status"] if meta else None


def test_the_newest_state_is_written(results: CeleryResults) -> None:
    results([Change("t1", TaskState.STARTED, None, None)])
    results([Change("t1", TaskState.SUCCESS, {"success": True}, None)])
    results.flush()
    assert status(results) == "SUCCESS"


def test_it_is_written_without_being_asked_for(results: CeleryResults) -> None:
    results([Change("t1", TaskState.STARTED, None, None)])
    until(lambda: status(results) is not None)
    assert status(results) == "STARTED"


def test_a_change_that_cannot_be_written_does_not_end_the_mirror(
    results: CeleryResults, caplog: pytest.LogCaptureFixture
) -> None:
    results([Change("bad", TaskState.SUCCESS, {"no JSON": object()}, None)])
    until(lambda: "was not updated" in caplog.text)
    results([Change("t1", TaskState.STARTED, None, None)])
    until(lambda: status(results) is not None)
    assert results._thread
    assert results._thread.is_alive()


LAST_WORDS = """
import sys
from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger import results
from embedfleet.runtime.ledger.records import Change
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings

results.LINGER_SECONDS = 600
mirror = results.CeleryResults(BrokerSettings(broker_url=sys.argv[1]), LedgerSettings())
mirror([Change("t1", TaskState.SUCCESS, {"success": True}, None)])
"""


def test_a_process_that_ends_writes_what_is_left(results: CeleryResults, empty_redis: RedisServer) -> None:
    subprocess.run([sys.executable, "-c", LAST_WORDS, empty_redis.url], check=True, timeout=60)
    assert status(results) == "SUCCESS"


def test_a_result_backend_that_is_away_costs_the_mirror_only(
    empty_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    away = CeleryResults(BrokerSettings(broker_url="redis://127.0.0.1:1/0"), LedgerSettings())
    away([Change("t1", TaskState.STARTED, None, None)])
    away.flush()
    until(lambda: "was not updated" in caplog.text)
    away._redis.close()
