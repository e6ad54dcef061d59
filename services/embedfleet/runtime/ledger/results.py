"""Celery's own result keys, written by the ledger alone so that ``AsyncResult(id)`` tells the truth.

Best effort: a result store that fails costs the mirror, never a task. One thread writes for all others,
some changes at a time: a mirror that each task waited for took a third of a no-op task's time. A process
that ends, also by a drain, writes what is left; one that is killed may leave what happened within its last
`LINGER_SECONDS` unmirrored. Nothing writes that later: the ledger, and so the API, knows better.
"""

import atexit
import json
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger.records import Change
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings

LINGER_SECONDS = 0.05

_log = logging.getLogger(__name__)


class CeleryResults:
    """Mirror of task states in the result backend; thread-safe."""

    def __init__(self, broker: BrokerSettings, ledger: LedgerSettings) -> None:
        self._redis: Any = connect(broker.result_backend or broker.broker_url, timeout=2, retries=0)
        self._expires = ledger.result_expires
        self._changes: dict[str, Change] = {}
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, changes: Sequence[Change]) -> None:
        """Note what these tasks have become; it is written soon."""
        with self._lock:
            self._changes.update((change.task_id, change) for change in changes)
            if self._thread is None:
                self._thread = threading.Thread(target=self._turn, name="results", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
        self._changed.set()

    def flush(self) -> None:
        """Write all that was noted; one round trip."""
        with self._writing:
            with self._lock:
                changes, self._changes = self._changes, {}
            if changes:
                self._write(changes.values())

    def _turn(self) -> None:
        while self._changed.wait():
            time.sleep(LINGER_SECONDS)
            self._changed.clear()
            self.flush()

    def _write(self, changes: Iterable[Change]) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for change in changes:
                    pipe.set(f"celery-task-meta-{change.task_id}", _meta(change), ex=self._expires)
                pipe.execute()
        except redis.RedisError as error:
            _log.warning("the result backend was not updated: %s", error)
        except Exception:  # a defect of ours, and the thread has the changes that come after to write
            _log.exception("the result backend was not updated")


def _meta(change: Change) -> str:
    meta: dict[str, Any] = {
        "status": change.state,
        "result": change.result,
        "traceback": None,
        "children": [],
        "date_done": datetime.now(UTC).isoformat(),
        "task_id": change.task_id,
    }
    if change.state is TaskState.REVOKED:
        detail = (change.error or {}).get("detail", "revoked")
        meta["result"] = _exception("TaskRevokedError", "celery.exceptions", detail)
    elif change.error and change.state in (TaskState.FAILURE, TaskState.RETRY):
        kind = change.error.get("type", "FleetError")
        meta["result"] = _exception(kind, "embedfleet.contracts.errors", change.error["detail"])
        meta["traceback"] = (
            change.error.get("traceback") or f"{change.error['code']}: {change.error['detail']}"
        )
    return json.dumps(meta)


def _exception(kind: str, module: str, detail: str) -> dict[str, Any]:
    return {"exc_type": kind, "exc_message": [detail], "exc_module": module}
