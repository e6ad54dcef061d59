"""A run: one claimed task that a thread of this process works on, kept alive by its progress."""

import math
import threading
import time
from typing import Any

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import FleetError, TimeLimitExceeded
from embedfleet.runtime import tracing
from embedfleet.runtime.ledger.records import Claim, Pulse, Task
from embedfleet.runtime.worker import metrics


class Stopped(Exception):
    """The run must end now and write nothing: its claim is lost, its stage stalls, or the worker drains."""


class Run:
    """What a working thread tells of its progress, and what it is told in return.

    A stage has a deadline: without progress until then the lease is left to expire, because a lease
    that a free-running thread extends would hide a hang. Where the run's own thread still turns, it ends
    the run as `stalled`. Both are one of the task's tries.

    Args:
        claim: what it works on.
        draining: set when the worker ends.
        soft_limit: seconds that it may take.
        late_after: seconds after which it ends by itself when the ledger isn't heard of
            (`LedgerSettings.late_seconds`); the janitor has taken away what was written until then.

    Attributes:
        stall: for what stall it was given up, if it was.
    """

    def __init__(
        self, claim: Claim, draining: threading.Event, soft_limit: float, late_after: float = math.inf
    ) -> None:
        self.claim = claim
        self._draining = draining
        self._lost = threading.Event()
        self.stall: FleetError | None = None
        self._ends_at = time.monotonic() + soft_limit
        self._soft_limit = soft_limit
        self._patience = soft_limit
        self._stalls_at = time.monotonic() + soft_limit
        self._late_after = late_after
        self.heard(time.monotonic())
        # Of the working thread alone; the beat reads the others.
        self._timed: tuple[metrics.Stage, float] | None = None
        self._span: Any = None
        self._stage, self._done, self._total = "claimed", 0, claim.task.total

    @property
    def task(self) -> Task:
        """The claimed task."""
        return self.claim.task

    @property
    def document(self) -> Document:
        """The document as it was when the task was claimed."""
        return self.claim.document

    def enter(self, stage: metrics.Stage, patience: float) -> None:
        """Begin a stage that shows progress at least every `patience` seconds."""
        self.leave()
        now = time.monotonic()
        self._timed = stage, now
        self._span = tracing.begin(stage)
        self._stage, self._patience = stage, patience
        self._stalls_at = now + patience

    def leave(self) -> None:
        """Count how long the stage took that the run is in, if it is in one."""
        if self._timed:
            (stage, since), self._timed = self._timed, None
            metrics.stage_ended(self.task.name, stage, time.monotonic() - since)
            tracing.end(self._span)

    def progress(self, done: int, total: int) -> None:
        """Report pages or chunks done of a total."""
        if (done, total) != (self._done, self._total):
            self._done, self._total = done, total
            self._stalls_at = time.monotonic() + self._patience

    def alive(self) -> None:
        """Report that the run waits for something that is not its own; waiting is never a stall."""
        self._stalls_at = time.monotonic() + self._patience

    def check(self) -> None:
        """Return while the run may go on.

        Raises:
            Stopped: the claim is lost, or may be for all that is known, or the worker drains.
            TimeLimitExceeded: the soft time limit has passed.
        """
        if self.is_lost or self._draining.is_set():
            raise Stopped
        if time.monotonic() > self._ends_at:
            raise TimeLimitExceeded(
                f"the task ran longer than {self._soft_limit:g} seconds; raise CELERY_TASK_SOFT_TIME_LIMIT"
            )

    def heard(self, asked_at: float) -> None:
        """Note that the ledger knew the claim, and at what time it was asked for that, at the latest."""
        self._late_at = asked_at + self._late_after

    def ending(self) -> None:
        """Note that only its end is left to be recorded; no time limit cuts that short."""
        self.leave()
        self._ends_at = math.inf

    def lose(self) -> None:
        """Tell the run that its claim is lost."""
        self._lost.set()

    def give_up(self) -> None:
        """Let its claim go, because it is stalled; what it does later doesn't change that."""
        self.stall = self.stall_error()
        self.lose()

    @property
    def is_lost(self) -> bool:
        """Whether the claim is lost, or the ledger wasn't heard of for so long that it may be."""
        return self._lost.is_set() or time.monotonic() > self._late_at

    @property
    def is_stalled(self) -> bool:
        """Whether the stage's deadline has passed without progress."""
        return time.monotonic() > self._stalls_at

    def stall_error(self) -> FleetError:
        """Return what its task is told when its stage makes no progress."""
        return FleetError(
            f"the stage {self._stage} made no progress for {self._patience:g} seconds; it is tried again: "
            "if it comes again, the worker's log and /livez say what hangs",
            code="stalled",
        )

    @property
    def pulse(self) -> Pulse:
        """What the beat tells the ledger."""
        return Pulse(self.task.id, self.claim.fence, self.claim.owner, self._stage, self._done, self._total)
