"""Celery's consumer, which no message can stop.

Celery (5.7) takes any error that a message's headers cause for a lost connection: it connects again, is
given the same message, and so on for ever, with the whole pool standing still. A body of another shape
ends in a pool thread without a word, and the message keeps its slot. So both are checked here.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

from embedfleet.runtime.channel import DROPPED, MalformedMessage

_log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]  # celery has no types
    """Drops what can't be understood, and records it."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return what takes each message off a queue."""
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                check(message)
            except Exception as error:
                DROPPED.labels("malformed").inc()
                _log.error("a message that can't be read is dropped: %s", error)
                message.reject_log_error(_log, self.connection_errors)
            else:
                handle(message)

        return on_message


def check(message: Any) -> None:
    """Return for a message that a producer of ours may have sent.

    Args:
        message: of protocol 2: a task and an id in its headers; its body is args, kwargs and `embed`.

    Raises:
        MalformedMessage: it is another one.
        Exception: whatever its decoder raises.
    """
    headers, body = message.headers, message.decode()
    if not (isinstance(headers, dict) and all(isinstance(headers.get(name), str) for name in ("task", "id"))):
        raise MalformedMessage("its headers don't name a task and an id")
    if headers.get("eta") or any(headers.get("timelimit") or ()):
        raise MalformedMessage("it has a time of its own, and only the ledger schedules")
    match body:
        case [[], dict(), dict() | None as embed] if not any((embed or {}).values()):
            return
    raise MalformedMessage("its body is not that of one task")
