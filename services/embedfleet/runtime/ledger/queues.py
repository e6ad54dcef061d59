"""How the queues are, as `Ledger.overview` answers it."""

from typing import Any, NamedTuple, Self


class QueueState(NamedTuple):
    """One queue, over all tenants.

    Attributes:
        name: `documents`, `embeddings`, or one of FLEET_DOCUMENT_QUEUES.
        depth: messages that wait.
        inflight: tasks that run: live leases, and those that the janitor hasn't found expired yet.
        oldest_age: seconds that the task whose message comes next has waited for its claim; 0 when none
            does. A retry waits from when it may run.
        consumers: worker processes that take it and gave a sign of life within a lease.
        parked: those of them that wait for a dependency.
        tokens: of its tasks that haven't ended; None where they are not counted.
        held: whether its workers take nothing more until the embedding workers have caught up; None where
            none ever have to.
    """

    name: str
    depth: int
    inflight: int
    oldest_age: float
    consumers: int
    parked: int
    tokens: int | None
    held: bool | None


class Overview(NamedTuple):
    """All queues at one moment.

    Attributes:
        queues: in the order of `Routes.queues`.
        due: tasks whose time has come and that the janitor has not yet taken up: retries, and runs to look
            after.
        last_round: when the janitor last ended a round, seconds since the epoch by Redis' clock; 0: never.
        searchable: seconds from upload to READY of documents that were taken to be counted.
    """

    queues: tuple[QueueState, ...]
    due: int
    last_round: float = 0.0
    searchable: tuple[float, ...] = ()

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        """Read what the script answers."""
        return cls(
            tuple(QueueState(**{"tokens": None, "held": None} | one) for one in answer["queues"]),
            answer["due"],
            answer["last_round"],
            tuple(map(float, answer.get("searchable") or ())),
        )
