"""What both pools share: claim, run, finish; lease beat, drain, parking, probes.

Who dies when, and what follows:

===========================================  ==========================================================
the worker dies …                            what happens then
===========================================  ==========================================================
with a message popped, before the claim      nobody holds the task; the janitor publishes it again
after the claim, before the end              the lease expires; the janitor publishes it again
after the end, before the message is acked   Celery redelivers; the claim refuses a finished task
===========================================  ==========================================================
"""

import logging
import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from celery import bootsteps, signals
from celery.concurrency.thread import TaskPool
from celery.exceptions import Reject

from embedfleet.contracts.errors import ConfigurationError, DependencyDown, FleetError
from embedfleet.contracts.jobs import Job, Queue
from embedfleet.runtime import probes, telemetry
from embedfleet.runtime.broker import app, publish
from embedfleet.runtime.gate import Gate
from embedfleet.runtime.leases import Leases
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.records import Claim
from embedfleet.runtime.results import CeleryResults
from embedfleet.runtime.runs import Run, Stopped
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, ProcessSettings, load

TRACEBACK_CHARACTERS = 4000

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
        dependencies: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.name = telemetry.process_name()
        self.ledger = ledger
        self.publish = publish
        self.draining = threading.Event()
        self.gate = Gate(self._probe)
        self.leases = Leases(ledger, queue, self.name, self.gate, settings.lease_seconds)
        self._soft_limit = soft_limit
        self._hold_seconds = settings.hold_seconds
        self._dependencies = (ledger.ping, *dependencies)

    def run(self, job: Job, work: Callable[[Run], None]) -> None:
        """Claim a task and work on it; every end is recorded in the ledger, none is raised.

        Args:
            job: the message.
            work: does the task and ends it in the ledger (`Ledger.chunked`, `Ledger.embedded`).

        Raises:
            Reject: the worker drains and the task was not claimed: the message goes back.
        """
        claim = self._claim(job)
        if isinstance(claim, str):
            _log.info("message dropped", extra={"task_id": job.task_id, "reason": claim})
            return
        run = Run(claim, self.draining, self._soft_limit)
        ids = telemetry.Ids(task_id=run.task.id, document_id=run.document.id, fence=claim.fence)
        with telemetry.about(ids), self.leases.held(run):
            try:
                work(run)
            except Stopped:
                self._hand_back(run, "the worker drains" if self.draining.is_set() else "the claim is lost")
            except DependencyDown as error:
                self._park(run, error)
            except FleetError as error:
                self._fail(run, error, retryable=error.retryable)
            except Exception as error:
                _log.exception("unexpected error")
                self._fail(run, FleetError(f"{type(error).__name__}: {error}"), retryable=True, cause=error)

    def hold(self, run: Run, call: Callable[[], object]) -> None:
        """Call a dependency; while it is down, keep the work in hand and try again for a while."""
        self.gate.hold(run, call, self._hold_seconds)

    def _probe(self) -> None:
        for ask in self._dependencies:
            ask()

    def _claim(self, job: Job) -> Claim | str:
        owner = f"{self.name}:{uuid.uuid4()}"
        while self.gate.pass_through(self.draining):
            try:
                claim = self.ledger.claim(job, owner)
            except DependencyDown as error:
                _log.warning("%s", error)
                self.gate.close(error)
            else:
                return claim
        raise Reject("the worker drains", requeue=True)

    def _park(self, run: Run, error: DependencyDown) -> None:
        """Give the task back unspent; if all dependencies answer, it is this task that they can't serve."""
        try:
            self._probe()
        except DependencyDown as down:
            self.gate.close(down)
            self._hand_back(run, str(error))
        else:
            self._fail(run, error, retryable=True)

    def _hand_back(self, run: Run, reason: str) -> None:
        _log.info("handed back", extra={"reason": reason})
        self._record(lambda: self.publish(self.ledger.hand_back(run.claim)))

    def _fail(self, run: Run, error: FleetError, *, retryable: bool, cause: Exception | None = None) -> None:
        _log.warning("failed", extra={"code": error.code, "detail": error.detail})
        trace = "".join(traceback.format_exception(cause))[-TRACEBACK_CHARACTERS:] if cause else ""
        self._record(lambda: self.ledger.fail(run.claim, error, retryable=retryable, trace=trace))

    def _record(self, edge: Callable[[], object]) -> None:
        try:
            edge()
        except DependencyDown as error:
            _log.warning("not recorded, the lease will expire: %s", error)


class _ConsumerBeat(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """Touches a heartbeat from the consumer's own loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    heartbeat = probes.Heartbeat()

    def start(self, parent: Any) -> None:
        parent.timer.call_repeatedly(5.0, self.heartbeat.touch)
        self.heartbeat.touch()


def compose(
    queue: Queue,
    on_start: Callable[[Worker, int], None],
    dependencies: Sequence[Callable[[], None]],
) -> Worker:
    """Build the worker of a pool and tie it to Celery's life cycle.

    Args:
        queue: the pool.
        on_start: called once before the worker consumes, with the worker and the number of its
            threads; may raise `ConfigurationError`, which ends the process with its sentence.
        dependencies: what the pool needs besides Redis; each raises `DependencyDown`.
    """
    settings = load(ProcessSettings)
    ledger_settings, broker_settings = load(LedgerSettings), load(BrokerSettings)
    ledger = Ledger.open(
        broker_settings, ledger_settings, mirror=CeleryResults(broker_settings, ledger_settings)
    )
    soft_limit = min(broker_settings.soft_time_limit, broker_settings.time_limit)
    worker = Worker(queue, ledger, publish, ledger_settings, soft_limit, dependencies)

    def livez() -> list[str]:
        loops = {"leases": worker.leases.heartbeat}
        if not worker.gate.reason:  # Celery's loop stands still while it tries to reach a broker that is down
            loops["consumer"] = _ConsumerBeat.heartbeat
        return [
            f"the {name} loop stands still since {beat.age:.0f} s"
            for name, beat in loops.items()
            if beat.was_seen and beat.age > probes.STALE_AFTER_SECONDS
        ]

    def readyz() -> list[str]:
        waiting = [] if _ConsumerBeat.heartbeat.was_seen else ["not connected to the broker yet"]
        parked = [worker.gate.reason] if worker.gate.reason else []
        return [*waiting, *parked]

    def start(instance: Any, **_: Any) -> None:
        try:
            if instance.pool_cls is not TaskPool:
                raise ConfigurationError("start the worker with --pool=threads, or without --pool")
            on_start(worker, instance.concurrency)
            if settings.probe_port:
                probes.serve(settings.probe_host, settings.probe_port, livez, readyz)
        except Exception as error:  # a signal's receiver that raises less than SystemExit is only logged
            _log.error("the worker can't start: %s", error)
            raise SystemExit(1) from error
        if broker_settings.prefetch_multiplier > 1:
            _log.warning(
                "CELERY_WORKER_PREFETCH_MULTIPLIER is %d: messages held ahead of free threads "
                "are seen by no autoscaler; 1 is recommended",
                broker_settings.prefetch_multiplier,
            )
        worker.leases.start()

    # Celery keeps only weak references to receivers unless told otherwise.
    signals.setup_logging.connect(lambda **_: telemetry.configure(settings), weak=False)
    signals.celeryd_after_setup.connect(start, weak=False)
    signals.worker_shutting_down.connect(lambda **_: worker.draining.set(), weak=False)
    signals.worker_shutdown.connect(lambda **_: worker.leases.stop(), weak=False)
    app.steps["consumer"].add(_ConsumerBeat)
    return worker
