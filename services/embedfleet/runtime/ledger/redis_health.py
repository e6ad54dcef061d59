"""Whether a Redis may hold the ledger: it must never drop a key, and should survive a restart."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedfleet.contracts.errors import ConfigurationError

OLDEST_VERSION = (6, 2)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One property of a Redis.

    Attributes:
        subject: `version`, `policy`, `durability`, `role` or `cluster`.
        finding: what it is.
        fix: what to do about it; empty when all is well.
        fatal: whether work would be lost without an error, so that a process must not start.
    """

    subject: str
    finding: str
    fix: str = ""
    fatal: bool = False


def judge(info: Mapping[str, Any]) -> list[Judgement]:
    """Judge what INFO says."""
    version = str(info.get("redis_version", "0"))
    old = tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION
    policy = str(info.get("maxmemory_policy", "noeviction"))
    evicts = policy != "noeviction"
    durable = str(info.get("aof_enabled")) == "1"
    role = str(info.get("role", "master"))
    cluster = str(info.get("cluster_enabled", "0")) == "1"
    return [
        Judgement("version", f"Redis {version}", "use Redis 6.2 or newer" if old else "", old),
        Judgement(
            "policy",
            f"maxmemory-policy {policy}" + (": it drops tasks without an error" if evicts else ""),
            "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf)" if evicts else "",
            evicts,
        ),
        Judgement(
            "durability",
            "AOF on" if durable else "AOF off: a restart loses the queues, and the janitor starts over",
            "" if durable else "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
        ),
        Judgement("role", f"role {role}", "" if role == "master" else "set CELERY_BROKER_URL to the primary"),
        Judgement(
            "cluster",
            "a Redis Cluster" if cluster else "a single Redis",
            "use a single Redis: a Cluster can't be a Celery broker" if cluster else "",
            cluster,
        ),
    ]


def require(info: Mapping[str, Any], address: str) -> None:
    """Log what should be better.

    Raises:
        ConfigurationError: work would be lost without an error; the detail has the fix.
    """
    for one in judge(info):
        if one.fatal:
            raise ConfigurationError(f"Redis at {address}: {one.finding}; {one.fix}", code="unsafe_redis")
        if one.fix:
            _log.warning("Redis at %s: %s; %s", address, one.finding, one.fix)
