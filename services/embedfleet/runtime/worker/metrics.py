"""What every worker shows of its runs on `/metrics`; the names are API.

A child is looked up once and kept: that costs as much as to count does. No label is an id, and none is what a
user or a file may make up.
"""

from functools import cache
from typing import Literal, NamedTuple

from prometheus_client import Counter, Histogram

from embedfleet.contracts.errors import DOCUMENT_CODES, RUN_CODES, DependencyDown, FleetError
from embedfleet.contracts.jobs import JOBS, Queue
from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger.records import Claim

Stage = Literal["parse", "store", "read", "encode"]
STAGES: dict[Queue, tuple[Stage, ...]] = {
    Queue.DOCUMENTS: ("parse", "store"),
    Queue.EMBEDDINGS: ("read", "encode"),
}
HANDED_BACK = "HANDED_BACK"
# The janitor and a claim decide that a task is poison: no run ends so.
_CODES = {"", *RUN_CODES, *DOCUMENT_CODES} - {"poison"}

_STAGE_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
_WAIT_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)

TASKS = Counter(
    "fleet_tasks",
    "Runs that ended. RETRY: to be tried again. HANDED_BACK: given back unspent, by a drain or while a "
    "dependency is down, or its claim was lost.",
    ["task", "state", "code"],
)
STAGE_SECONDS = Histogram(
    "fleet_task_seconds", "Seconds of one stage of a run.", ["task", "stage"], buckets=_STAGE_SECONDS
)
WAIT_SECONDS = Histogram(
    "fleet_task_wait_seconds",
    "Seconds from when a task could first run to its first claim.",
    ["queue"],
    buckets=_WAIT_SECONDS,
)
REDELIVERIES = Counter(
    "fleet_task_redeliveries", "Claims of tasks that had been claimed before, retries among them.", ["task"]
)


class End(NamedTuple):
    """How a run ended.

    Attributes:
        state: what its task is now, or `HANDED_BACK`.
        code: of the error that brought it about; empty where there was none.
    """

    state: str
    code: str = ""


def show(kind: Queue) -> None:
    """Show zeros for all that a worker of this kind may count: `rate` would not see the first of each else.

    Args:
        kind: which tasks it runs.
    """
    (name,) = (job.task_name for job in JOBS if job.queue is kind)
    for stage in STAGES[kind]:
        _stage(name, stage)
    _redeliveries(name)
    codes = {*RUN_CODES, *(DOCUMENT_CODES if kind is Queue.DOCUMENTS else ())} & _CODES
    ends = [End(TaskState.SUCCESS), End(TaskState.REVOKED), End(HANDED_BACK)]
    ends += [End(HANDED_BACK, DependencyDown.default_code)]
    ends += [End(TaskState.FAILURE, code) for code in codes]
    ends += [End(TaskState.RETRY, code) for code in codes if RUN_CODES.get(code)]
    for end in ends:
        _ends(name, *end)


def show_queue(queue: str) -> None:
    """Show zeros for the queue that a worker takes."""
    _waits(queue)


def claimed(queue: str, claim: Claim) -> None:
    """Count a claim.

    Args:
        queue: which the worker takes.
        claim: what the ledger gave. Its times are by Redis' clock; another host's, after a failover.
    """
    if claim.fence > 1:
        _redeliveries(claim.task.name).inc()
    elif claim.task.started_at is not None:
        _waits(queue).observe(max(0.0, claim.task.started_at - claim.task.created_at))


def stage_ended(name: str, stage: Stage, seconds: float) -> None:
    """Count a stage of a run; `name` is that of the task's job."""
    _stage(name, stage).observe(seconds)


def run_ended(name: str, end: End) -> None:
    """Count a run; a code that is not in the tables is shown as that of an unexpected error."""
    _ends(name, end.state, end.code if end.code in _CODES else FleetError.default_code).inc()


@cache
def _label(name: str) -> str:
    return name.rpartition(".")[2].removesuffix("_task")


@cache
def _ends(name: str, state: str, code: str) -> Counter:
    return TASKS.labels(_label(name), state, code)


@cache
def _stage(name: str, stage: Stage) -> Histogram:
    return STAGE_SECONDS.labels(_label(name), stage)


@cache
def _waits(queue: str) -> Histogram:
    return WAIT_SECONDS.labels(queue)


@cache
def _redeliveries(name: str) -> Counter:
    return REDELIVERIES.labels(_label(name))
