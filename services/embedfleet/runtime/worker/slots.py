"""A slot that Celery holds and nobody runs: found, so that the worker can start afresh.

After a stall of Redis a request may stay in Celery's books though no thread runs it; seen once with
a stall of 20 s, and it costs one thread for ever.
"""

import logging
import os
import signal
from collections.abc import Collection

PATIENCE_SECONDS = 30.0

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


def start_afresh(leaked: Collection[str]) -> None:
    """Drain and exit 0; whoever supervises the worker starts it again, and nothing is lost."""
    _log.warning("Celery holds %s, which no thread runs; the worker ends to start afresh", sorted(leaked))
    os.kill(os.getpid(), signal.SIGTERM)
