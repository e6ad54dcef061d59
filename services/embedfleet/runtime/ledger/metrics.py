"""What the ledger's edges count, each in the process that took the edge; the names are API.

Whoever finds a death counts it: the janitor as a rule, but also a worker that claims the task before the
janitor has come to it. So they are summed over all processes. An edge whose answer is lost, because the
connection broke, is taken and not counted.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import Counter

from embedfleet.contracts.jobs import JOB_OF_NAME

TASK_LABELS = {name: name.rsplit(".", 1)[-1].removesuffix("_task") for name in JOB_OF_NAME}
"""The label `task` of a job, by its name."""

EXPIRED_LEASES = Counter(
    "fleet_ledger_expired_leases", "Leases that ran out: each is the death of a run.", ["queue"]
)
REPUBLISHED = Counter(
    "fleet_ledger_republished",
    "Messages written anew, for the one before was lost or its run died; retries are none.",
    ["queue"],
)
POISON_TASKS = Counter("fleet_poison_tasks", "Tasks given up because their runs died too often.", ["task"])

_BY_NAME = {"expired_leases": EXPIRED_LEASES, "republished": REPUBLISHED, "poison_tasks": POISON_TASKS}


def show(queues: Iterable[str]) -> None:
    """Show every series from the start, at zero: the first event must be a step that `rate()` sees."""
    for queue in queues:
        EXPIRED_LEASES.labels(queue)
        REPUBLISHED.labels(queue)
    for label in TASK_LABELS.values():
        POISON_TASKS.labels(label)


def count(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Add what an edge answers: how often each thing happened, by queue or by name of a job.

    A job that only a newer version knows counts as `other`.
    """
    for what, by_label in counts.items():
        for label, number in by_label.items():
            known = TASK_LABELS.get(label, "other") if what == "poison_tasks" else label
            _BY_NAME[what].labels(known).inc(number)
