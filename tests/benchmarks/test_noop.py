"""The no-op workers that `make ledger-bench` compares: each takes its own queue and empties it."""

import pytest
from benchmarks.ledger import noop, trips

from embedfleet.local.redis import RedisServer

pytestmark = pytest.mark.slow


def test_each_worker_ends_what_is_queued_for_it(empty_redis: RedisServer) -> None:
    seconds = noop.rounds(empty_redis.url, tasks=40, count=1)
    assert {kind: len(each) for kind, each in seconds.items()} == {"bare": 1, "embedded": 1, "chunked": 1}
    assert all(each[0] > 0 for each in seconds.values())


def test_trips_are_counted_from_the_first_message_on(empty_redis: RedisServer) -> None:
    assert 1 < trips.per_task(empty_redis.url, 40) < 20


def test_a_worker_that_does_not_start_says_why(empty_redis: RedisServer) -> None:
    with (
        pytest.raises(RuntimeError, match="start the worker with --queues=embeddings"),
        noop.worker(empty_redis.url, "embedded", "bare") as started,
    ):
        started.wait(60)
