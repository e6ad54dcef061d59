"""Kombu's Redis channel, which outlives its connection and messages that are none.

Both end a worker in kombu 5.7: the first whenever Redis goes away under load, the second once for each
thing that somebody pushes onto a queue by hand.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

import redis
from kombu.transport import redis as transport
from prometheus_client import Counter

DROPPED = Counter(
    "fleet_messages_dropped", "Messages that were taken off a queue and not run, by reason.", ["reason"]
)
# What can't be read, and why a claim is refused (`Ledger.claim`). `rate` sees the first only after a zero.
for _reason in ("malformed", "foreign", "newer", "unknown", "finished", "held", "early", "revoked"):
    DROPPED.labels(_reason)

_log = logging.getLogger(__name__)


class MalformedMessage(ValueError):
    """What a queue held is no message of Celery's protocol."""


class Message(transport.Channel.Message):  # type: ignore[misc, valid-type]  # kombu has no types
    """A message whose envelope is checked."""

    def __init__(self, payload: Any, channel: Any = None, **fields: Any) -> None:
        try:
            super().__init__(payload, channel, **fields)
            known = {"exchange", "routing_key"} <= self.delivery_info.keys() and isinstance(
                self.delivery_tag, str
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedMessage(f"{type(error).__name__}: {error}") from error
        if not known:
            raise MalformedMessage("it doesn't say where it comes from")


class Channel(transport.Channel):
    """The channel of every connection to the broker."""

    Message = Message
    _shared: redis.Redis | None = None

    @contextmanager
    def conn_or_acquire(self, client: redis.Redis | None = None) -> Iterator[redis.Redis]:
        """Yield a client: kombu makes a new one for each call, also for each acknowledgement."""
        if client is None:
            client, pool = self._shared, self.pool
            # A pool is replaced when its connections broke: then a client of the old one is of no use.
            if client is None or client.connection_pool is not pool:
                client = self._shared = self._create_client()  # type: ignore[no-untyped-call]
        yield client

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        # A channel that is closed with its connection still asks it for an address: to put back what is
        # not acknowledged, and to acknowledge a task that ends later. That need not succeed, for the ledger
        # knows the tasks and the janitor wakes them; but only a connection error is expected there.
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("the connection to the broker is gone")
        return super()._connparams(*args, **kwargs)  # type: ignore[no-untyped-call]  # kombu has no types

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (JSONDecodeError, RecursionError, UnicodeDecodeError, MalformedMessage) as error:
            DROPPED.labels("malformed").inc()
            _log.error("a message that can't be read is dropped: %s", error)
            return True


def install() -> None:
    """Let every connection to Redis use this channel."""
    transport.Transport.Channel = Channel
