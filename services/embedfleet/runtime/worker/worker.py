"""What both pools share: claim, run, finish; lease beat, drain, parking.

Who dies when, and what follows:

===========================================  ==========================================================
the worker dies …                            what happens then
===========================================  ==========================================================
with a message popped, before the claim      nobody holds the task; the janitor publishes it again
after the claim, before the end              the lease expires; the janitor publishes it again
at the end, which Redis refuses              the janitor gives it back (``runtime/handbacks.py``)
in a drain that somebody holds up            the same: what is in hand is noted before the process ends
after the end, before the message is acked   Celery redelivers; the claim refuses a finished task
===========================================  ==========================================================
"""

import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from celery.exceptions import Reject
from pydantic import ValidationError

from embedfleet.contracts.errors import ConfigurationError, DependencyDown, FleetError
from embedfleet.contracts.jobs import Job, Queue
from embedfleet.contracts.states import TaskState
from embedfleet.contracts.versions import is_newer
from embedfleet.runtime import telemetry, tracing
from embedfleet.runtime.channel import DROPPED
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import BACKLOG, Ledger
from embedfleet.runtime.ledger.metrics import TASK_LABELS
from embedfleet.runtime.ledger.records import Claim
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker import metrics
from embedfleet.runtime.worker.gate import Gate
from embedfleet.runtime.worker.leases import Leases
from embedfleet.runtime.worker.metrics import HANDED_BACK, End
from embedfleet.runtime.worker.runs import Run, Stopped

TRACEBACK_CHARACTERS = 4000
# A blip may be over before anybody asks; this often it is no blip.
MAX_PARKS = 3

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


class Worker:
    """One process of a pool: runs jobs in the threads that Celery calls it from."""

    def __init__(
        self,
        queue: Queue,
        ledger: Ledger,
        publish: Callable[[list[Job]], None],
        settings: LedgerSettings,
        soft_limit: float,
        revocations: Revocations,
        hand_backs: HandBacks,
        dependencies: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.name = telemetry.process_name()
        self.kind = queue
        self.queue: str = queue
        self.ledger = ledger
        self.publish = publish
        self.draining = threading.Event()
        self.gate = Gate(self._probe)
        self.leases = Leases(ledger, queue, self.name, self.gate, settings.lease_seconds)
        self.inside: dict[int, str] = {}
        self.taken_at = time.monotonic()
        self._soft_limit = soft_limit
        self._hold_seconds = settings.hold_seconds
        self._late_after = settings.late_seconds
        self._revocations = revocations
        self._hand_backs = hand_backs
        self._dependencies = (ledger.ping, *dependencies)
        metrics.show(queue)

    def take(self, queues: Collection[str], known: Collection[str]) -> None:
        """Be a worker of the queue that Celery was told to take; autoscaling counts each queue apart.

        Args:
            queues: what Celery takes.
            known: what workers of this kind can take.

        Raises:
            ConfigurationError: it takes another queue, or several.
        """
        if len(queues) != 1 or not set(queues) <= set(known):
            raise ConfigurationError(
                f"start the worker with --queues={self.kind}"
                + (", or with one of FLEET_DOCUMENT_QUEUES" if self.kind is Queue.DOCUMENTS else "")
                + f"; it was told to take {', '.join(sorted(queues)) or 'none'}"
            )
        self.queue = self.leases.queue = next(iter(queues))
        metrics.show_queue(self.queue)

    def receive(
        self, kind: type[Job], message: dict[str, Any], work: Callable[[Run], None], request_id: str
    ) -> None:
        """Run the job that a message is; drop it when it is none, or one of a newer version.

        What a newer version added may matter, so its job is not run here. It isn't lost: the ledger's row
        stays as it was, and the janitor wakes it until a worker that knows the field takes it.
        """
        try:
            job = kind.model_validate(message)
        except ValidationError as error:
            self._drop(str(message.get("task_id"))[:64], "newer" if is_newer(error) else "malformed")
        else:
            self.run(job, work, request_id)

    def run(self, job: Job, work: Callable[[Run], None], request_id: str) -> None:
        """Claim a task and work on it; every end is recorded in the ledger, none is raised.

        Args:
            job: the message.
            work: does the task and ends it in the ledger (`Ledger.chunked`, `Ledger.embedded`).
            request_id: Celery's, the task's own unless the message was sent by hand.

        Raises:
            Reject: the worker drains and the task was not claimed: the message goes back.
        """
        thread = threading.get_ident()
        self.inside[thread] = request_id
        self.taken_at = time.monotonic()
        try:
            run = self._claim(job)
            if isinstance(run, str):
                self._drop(job.task_id, run)
            else:
                self._work(run, work)
        finally:
            del self.inside[thread]

    def _drop(self, task_id: str, reason: str) -> None:
        DROPPED.labels(reason).inc()
        _log.info("message dropped", extra={"task_id": task_id, "reason": reason})

    def _work(self, run: Run, work: Callable[[Run], None]) -> None:
        ids = telemetry.Ids(task_id=run.task.id, document_id=run.document.id, fence=run.claim.fence)
        with telemetry.about(ids), self.leases.held(run), self._traced(run):
            try:
                if self.hold(run, lambda: self._revocations.enforce(run.document)):
                    end = End(TaskState.REVOKED)
                else:
                    work(run)
                    run.leave()
                    end = End(TaskState.SUCCESS)
            except Stopped:
                end = self._stop(run)
            except DependencyDown as error:
                end = self._park(run, error)
            except FleetError as error:
                end = self._fail(run, error, retryable=error.retryable)
            except Exception as error:
                _log.exception("unexpected error")
                named = FleetError(f"{type(error).__name__}: {error}")
                end = self._fail(run, named, retryable=True, cause=error)
            metrics.run_ended(run.task.name, end)
            tracing.ended(*end)

    def _traced(self, run: Run) -> AbstractContextManager[None]:
        if not tracing.is_on():
            return tracing.OFF
        task = run.task
        return tracing.span(
            TASK_LABELS[task.name],
            run.claim.trace,
            "CONSUMER",
            task_id=task.id,
            document_id=run.document.id,
            generation=task.generation,
            queue=self.queue,
            fence=task.fence,
            attempt=task.attempt,
            size_bytes=run.document.size_bytes if self.kind is Queue.DOCUMENTS else None,
            chunks=task.total if self.kind is Queue.EMBEDDINGS else None,
        )

    def end(self, run: Run, edge: Callable[[], Answer | None]) -> Answer:
        """Take the edge that ends a run, and return its answer; held like any call to a dependency.

        Raises:
            DependencyDown: Redis refuses it for too long.
            Stopped: its claim is lost, or its document is revoked.
        """
        self.hold(run, lambda: self._revocations.enforce(run.document))
        answer = self.hold(run, edge)
        if answer is None:
            run.lose()
            raise Stopped
        return answer

    def leave(self) -> None:
        """Leave a note for every run in hand: the process ends now, whatever they wait for."""
        for run in self.leases.runs:
            _log.warning("still in hand, and noted", extra={"task_id": run.task.id})
            try:
                self._note(run)
            except Exception:
                _log.exception("not noted", extra={"task_id": run.task.id})

    def hold(self, run: Run, call: Callable[[], Answer]) -> Answer:
        """Call a dependency; while it is down, keep the work in hand and try again for a while."""
        return self.gate.hold(run, call, self._hold_seconds)

    def _probe(self) -> None:
        for ask in self._dependencies:
            ask()

    def _claim(self, job: Job) -> Run | str:
        owner = f"{self.name}:{uuid.uuid4()}"
        while self.gate.pass_through(self.draining):
            asked_at = time.monotonic()
            try:
                claim = self.ledger.claim(job, owner)
            except DependencyDown as error:
                _log.warning("%s", error)
                self.gate.close(error)
            else:
                self.gate.hold_back(claim == BACKLOG)
                if isinstance(claim, Claim):
                    metrics.claimed(self.queue, claim)
                    run = Run(claim, self.draining, self._soft_limit, self._late_after)
                    run.heard(asked_at)
                    return run
                if claim != BACKLOG:
                    return claim
        raise Reject("the worker drains", requeue=True)

    def _stop(self, run: Run) -> End:
        """Give the task back unspent; a stall is a try, or what hangs each worker would go round for ever."""
        if run.stall:
            return self._fail(run, run.stall, retryable=True)
        return self._hand_back(run, "the worker drains" if self.draining.is_set() else "the claim is lost")

    def _park(self, run: Run, error: DependencyDown) -> End:
        """Give the task back unspent; but if all answer time and again, it is this task they can't serve."""
        if not self.gate.ask():
            return self._hand_back(run, str(error), error.code)
        if run.task.parks < MAX_PARKS:
            return self._hand_back(run, str(error), error.code, refused=True)
        return self._fail(run, error, retryable=True)

    def _hand_back(self, run: Run, reason: str, code: str = "", *, refused: bool = False) -> End:
        _log.info("handed back", extra={"reason": reason})

        def edge() -> End:
            jobs = self.ledger.hand_back(run.claim, refused=refused)
            self.publish(jobs or [])
            return End(TaskState.REVOKED) if jobs is None else End(HANDED_BACK, code)

        return self._record(run, edge)

    def _fail(self, run: Run, error: FleetError, *, retryable: bool, cause: Exception | None = None) -> End:
        _log.warning("failed", extra={"code": error.code, "detail": error.detail})
        trace = "".join(traceback.format_exception(cause))[-TRACEBACK_CHARACTERS:] if cause else ""

        def edge() -> End:
            state = self.ledger.fail(run.claim, error, retryable=retryable, trace=trace)
            return End(state, error.code) if state else End(HANDED_BACK)

        return self._record(run, edge)

    def _record(self, run: Run, edge: Callable[[], End]) -> End:
        """Take the edge that ends a run; a Redis that refuses it must not cost a death.

        A draining worker waits for nothing: it leaves a note with which the janitor gives the task back.
        """
        run.ending()
        try:
            return edge()
        except DependencyDown as error:
            self.gate.close(error)
            try:
                return self.hold(run, edge)
            except (Stopped, DependencyDown):
                self._note(run)
                return End(HANDED_BACK, error.code)

    def _note(self, run: Run) -> None:
        try:
            self._hand_backs.note(run.claim)
        except DependencyDown as error:
            _log.warning("not recorded; the lease will expire, which counts as a death: %s", error)
