"""Celery's own result keys, written by the ledger alone so that ``AsyncResult(id)`` tells the truth.

Best effort: a result store that fails costs the mirror, never a task.
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger.records import Change
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings

_log = logging.getLogger(__name__)


class CeleryResults:
    """Mirror of task states in the result backend."""

    def __init__(self, broker: BrokerSettings, ledger: LedgerSettings) -> None:
        self._redis: Any = connect(broker.result_backend or broker.broker_url, timeout=2, retries=0)
        self._expires = ledger.result_expires

    def __call__(self, changes: Sequence[Change]) -> None:
        """Write what these tasks have become; one round trip."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for change in changes:
                    pipe.set(f"celery-task-meta-{change.task_id}", _meta(change), ex=self._expires)
                pipe.execute()
        except redis.RedisError as error:
            _log.warning("the result backend was not updated: %s", error)


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
