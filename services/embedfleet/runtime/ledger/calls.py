"""The call of an edge: the script, the steps that it leaves, and the mirror that hears of changes."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import redis

from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import JOB_OF_NAME, Job
from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger import metrics
from embedfleet.runtime.ledger.records import Change, Claim
from embedfleet.runtime.ledger.redis_client import address_of, connect
from embedfleet.runtime.ledger.script import script_text
from embedfleet.runtime.ledger.views import LedgerViews
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings

LOST_AFTER_SECONDS = 30.0
# Redis has an edge on disk after this, even when it syncs its log only once a second.
DURABLE_AFTER_SECONDS = 5.0
# To make a task, or to end one, keeps Redis busy for 40 to 70 µs: so many at a time.
SLICE = 24
# After this a plan is that of a run which never ended.
PLAN_SECONDS = 3600

_log = logging.getLogger(__name__)


class LedgerCalls(LedgerViews):
    """What every edge goes through. Thread-safe; raises `DependencyDown` where Redis can't be reached."""

    def __init__(
        self,
        client: redis.Redis,
        settings: LedgerSettings,
        *,
        address: str = "Redis",
        mirror: Callable[[Sequence[Change]], None] | None = None,
    ) -> None:
        super().__init__(client, settings, address)
        metrics.show(settings.routes.queues)
        self._mirror = mirror
        constants = {
            "expires": settings.result_expires,
            "recheck": settings.lease_seconds / 2,
            "scan": settings.scan_seconds,
            "lost_after": LOST_AFTER_SECONDS,
            "max_deaths": settings.max_deaths,
            "slice": SLICE,
            "high_water": settings.embeddings_high_water,
            "low_water": settings.embeddings_high_water // 2,
        }
        # A writer is dead or knows that its claim is lost: its lease ran out, and what it held or had sent is
        # given up.
        self._quiet_after = settings.quiet_seconds
        self._durable_after = DURABLE_AFTER_SECONDS
        self._script = client.register_script(script_text(constants))

    @classmethod
    def open(
        cls,
        broker: BrokerSettings,
        settings: LedgerSettings,
        mirror: Callable[[Sequence[Change]], None] | None = None,
        **connection: Any,
    ) -> Self:
        """Return a ledger on the broker's Redis."""
        client = connect(broker.broker_url, **connection)
        return cls(client, settings, address=address_of(broker.broker_url), mirror=mirror)

    def _plan(self, claim: Claim, rows: Sequence[dict[str, Any]]) -> None:
        """Write down which tasks `chunked` makes besides the first: as one call they would hold Redis up."""
        key = f"plan:{claim.task_id}:{claim.owner}"
        lines = [json.dumps(row, separators=(",", ":")) for row in rows]
        with self._reachable():
            with self._redis.pipeline(transaction=True) as pipe:  # no list is ever there without its expiry
                pipe.unlink(key)
                pipe.rpush(key, *lines[:SLICE])
                pipe.expire(key, PLAN_SECONDS)
                pipe.execute()
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.ltrim(key, 0, SLICE - 1)  # should a broken connection make the client repeat the others
                for at in range(SLICE, len(lines), SLICE):
                    pipe.rpushx(key, *lines[at : at + SLICE])
                pipe.execute()

    def _edge(self, edge: str, /, **arguments: Any) -> dict[str, Any]:
        """Take an edge and the steps that it leaves; `publish` of the answer has the jobs of all of them."""
        answer = self._call(edge, arguments)
        answer["publish"] = list(answer.get("publish") or [])
        with suppress(DependencyDown):
            self._go_on(answer)
        return answer

    def _go_on(self, answer: dict[str, Any]) -> None:
        """Take the steps that an edge has left; where that breaks off, the janitor's scan goes on."""
        step = answer.get("step")
        while step:
            done = self._call("step", {"step": step})
            answer["publish"] += done.get("publish") or []
            step = done.get("step")

    def _call(self, edge: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run the script once; count, log and mirror what it tells."""
        payload = json.dumps(arguments, separators=(",", ":"))
        with self._reachable():
            answer: dict[str, Any] = json.loads(self._script(args=[edge, payload]))
        metrics.count(answer.get("counts") or {})
        for ids in answer.get("poisoned") or []:
            _log.error("given up as poison: its worker died each time it was tried", extra=ids)
        if self._mirror and answer["changes"]:
            self._mirror([_change(change) for change in answer["changes"]])
        return answer


def jobs_of(answer: dict[str, Any]) -> list[Job]:
    """Return what has to be published after an edge."""
    rows = answer["publish"]
    # A row of a newer version may name a job that this one doesn't know: its own janitor wakes it.
    known = [row for row in rows if row["name"] in JOB_OF_NAME]
    jobs = [JOB_OF_NAME[row["name"]](task_id=row["task_id"], sequence=row["sequence"]) for row in known]
    return [job.on(row["queue"]) for job, row in zip(jobs, known, strict=True)]


def _change(change: dict[str, Any]) -> Change:
    result, error = change.get("result"), change.get("error")
    return Change(
        task_id=change["task_id"],
        state=TaskState(change["state"]),
        result=json.loads(result) if result else None,
        error=json.loads(error) if error else None,
    )
