"""Memory in a soak: slopes, and what Redis may keep."""

import math

import pytest
from loadtests.memory import MB, Holdings, Watch, holdings, slope

from embedfleet.local.datadir import DataDir
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_client import connect


def test_the_slope_leaves_the_warm_up_and_what_comes_after_out() -> None:
    warm = [(float(at), 1000.0 * at) for at in range(50)]
    level = [(float(at), 25_000.0 + 3.0 * at) for at in range(50, 101)]
    after = [(float(at), 0.0) for at in range(101, 200)]
    assert slope(warm + level + after, 0.0, 100.0) == pytest.approx(3.0)
    assert math.isnan(slope(level[:1], 0.0, 100.0))


def test_figures_are_in_mb_an_hour(tmp_path: object) -> None:
    watch = Watch(DataDir(tmp_path), rss={"api": [(float(at), MB * at / 3600) for at in range(100)]})  # type: ignore[arg-type]
    assert watch.figures(0.0, 100.0) == {"restarts": 0.0, "rss_slope_api": pytest.approx(1.0)}


def test_redis_is_back_when_no_kind_of_work_has_more_keys(empty_redis: RedisServer) -> None:
    client = connect(empty_redis.url)
    client.set("task:1", "")
    before = holdings(empty_redis.url)
    assert before.keys == {"task": 1}
    assert before.used > 0
    for key in ("task:2", "lease", "celery-task-meta-x", "tombstone:default:1", "deleted:default:1"):
        client.set(key, "")
    client.delete("task:1")
    after = holdings(empty_redis.url)
    assert after.beyond(before) == {"lease": 1, "celery-task-meta": 1}
    assert before.beyond(after) == {}
    client.close()


def test_holdings_compare_by_kind() -> None:
    assert Holdings(0, {"a": 3, "b": 1}).beyond(Holdings(0, {"a": 1, "c": 5})) == {"a": 2, "b": 1}
