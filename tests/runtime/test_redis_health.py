from collections.abc import Iterator

import pytest
import redis

from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import reachable
from embedfleet.runtime.ledger.redis_health import judge, require

SOUND = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "role": "master",
    "cluster_enabled": 0,
}


@pytest.fixture
def evicting(ledger: Ledger) -> Iterator[Ledger]:
    ledger._redis.config_set("maxmemory-policy", "allkeys-lru")
    yield ledger
    ledger._redis.config_set("maxmemory-policy", "noeviction")


def test_our_own_redis_is_sound(ledger: Ledger) -> None:
    ledger.require_safe_redis()
    assert [one for one in judge(ledger._redis.info("everything")) if one.fix] == []


def test_a_redis_that_evicts_is_refused_with_the_fix(evicting: Ledger) -> None:
    with pytest.raises(ConfigurationError, match="CONFIG SET maxmemory-policy noeviction"):
        evicting.require_safe_redis()


@pytest.mark.parametrize(
    ("subject", "info"),
    [("version", {"redis_version": "6.0.16"}), ("cluster", {"cluster_enabled": 1})],
)
def test_what_loses_work_is_refused(subject: str, info: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        require(SOUND | info, "127.0.0.1:6379/0")
    assert [one.subject for one in judge(SOUND | info) if one.fatal] == [subject]


@pytest.mark.parametrize(
    ("subject", "info"), [("durability", {"aof_enabled": 0}), ("role", {"role": "slave"})]
)
def test_what_is_risky_is_a_warning(
    subject: str, info: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    require(SOUND | info, "127.0.0.1:6379/0")
    assert [one.subject for one in judge(SOUND | info) if one.fix] == [subject]
    assert len(caplog.records) == 1


def test_a_redis_that_only_reads_is_down(ledger: Ledger) -> None:
    client = ledger._redis
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(DependencyDown):
            ledger.ping()
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
    ledger.ping()


@pytest.mark.parametrize("where", ["plain", "script", "pipeline"])
def test_a_redis_that_can_not_write_is_down_wherever_it_says_so(where: str) -> None:
    error = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
    if where == "script":
        error = redis.ResponseError("Error running script: @user_script:9: -MISCONF Errors writing")
    if where == "pipeline":
        redis.Redis().pipeline(transaction=False).annotate_exception(error, 1, ("SET", "probe", "1"))
    with pytest.raises(DependencyDown), reachable("redis:6379"):
        raise error
