"""Slots that nobody uses: found, so that the worker can start afresh.

After a stall of Redis a request may stay in Celery's books though no thread runs it; seen once with
a stall of 20 s, and it costs one thread for ever. A consumer that has lost all its credit looks healthy
and takes nothing any more.
"""

import logging
import os
import signal
from collections.abc import Callable, Collection

PATIENCE_SECONDS = 30.0
# Longer than Celery's longest pause between two attempts to connect (32 s).
OVERLOOK_SECONDS = 60.0
ASK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class SlotWatch:
    """Remembers since when a request is held though a thread is free.

    Args:
        threads: how many threads the pool has.
        patience: seconds after which such a request counts as leaked.
    """

    def __init__(self, threads: int, patience: float = PATIENCE_SECONDS) -> None:
        self._threads = threads
        self._patience = patience
        self._since: dict[str, float] = {}

    def leaked(self, held: Collection[str], run: Collection[str], now: float) -> list[str]:
        """Return the ids that nobody runs for too long.

        Args:
            held: ids of the requests that Celery holds.
            run: ids that the pool's threads are in, one a busy thread.
            now: seconds on a clock that only grows.
        """
        idle = set(held) - set(run) if len(run) < self._threads else set()
        self._since = {task_id: self._since.get(task_id, now) for task_id in idle}
        return [task_id for task_id, since in self._since.items() if now - since >= self._patience]


class IdleWatch:
    """Notices that messages wait, threads are free, and none is taken.

    Args:
        threads: how many threads the pool has.
        queued: asks Redis how many messages wait; raises `DependencyDown`.
        patience: seconds after which that is no accident.
    """

    def __init__(self, threads: int, queued: Callable[[], int], patience: float = OVERLOOK_SECONDS) -> None:
        self._threads, self._queued, self._patience = threads, queued, patience
        self._since: float | None = None
        self._asks_at = 0.0

    def reset(self) -> None:
        """Forget what was seen: nobody can take a message now."""
        self._since = None

    def overlooked(self, busy: int, taken_at: float, now: float) -> int:
        """Return how many messages have waited for too long; 0 when all is well.

        Args:
            busy: threads that run a task.
            taken_at: when the last message was taken, seconds on the clock of `now`.
            now: seconds on a clock that only grows.
        """
        if busy >= self._threads or (self._since is not None and taken_at > self._since):
            self._since = None
        elif now >= self._asks_at:
            self._asks_at = now + ASK_SECONDS
            waiting = self._queued()
            self._since = (now if self._since is None else self._since) if waiting else None
            if self._since is not None and now - self._since >= self._patience:
                return waiting
        return 0


def start_afresh(reason: str) -> None:
    """Drain and exit 0; whoever supervises the worker starts it again, and nothing is lost."""
    _log.warning("%s; the worker ends to start afresh", reason)
    os.kill(os.getpid(), signal.SIGTERM)
