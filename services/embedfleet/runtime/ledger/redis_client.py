"""The Redis connection: bounded waits, and errors that name the address without its password."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from embedfleet.contracts.errors import DependencyDown

_UNREACHABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
)

# In a script Redis 6.2 puts its own words before the code, with a dash between; in a pipeline redis-py does.
_REFUSAL = re.compile(r"(^|-|caused error: )(OOM|MISCONF|LOADING|READONLY|BUSY|MASTERDOWN|NOREPLICAS)\b")


def connect(url: str, *, timeout: float = 5, retries: int = 1) -> redis.Redis:
    """Return a client with bounded waits; a command whose connection broke is repeated.

    Args:
        url: ``redis://`` or ``rediss://`` address with a database number.
        timeout: seconds that one command may take; a Redis that is silent takes four times as long, for
            the greeting of a new connection is repeated, too.
        retries: how often a command is repeated after a broken connection; safe for the ledger's
            edges, which have no second effect when they are repeated.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=min(3.0, timeout),
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), retries),
    )


def address_of(url: str) -> str:
    """Return host:port/db of a URL, without credentials."""
    return url.split("?", 1)[0].rsplit("@", 1)[-1].rsplit("://", 1)[-1]


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Turn what Redis raises when it can't serve into the fleet's error.

    Raises:
        DependencyDown: Redis can't be reached, is read-only, loading or full.
    """
    try:
        yield
    except _UNREACHABLE as error:
        raise DependencyDown("Redis", address, str(error) or type(error).__name__) from error
    except redis.ResponseError as error:
        if _REFUSAL.search(str(error)):
            raise DependencyDown("Redis", address, str(error)) from error
        raise
