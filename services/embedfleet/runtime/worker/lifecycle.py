"""A worker's life in Celery: checks before it consumes, probes while it does, a drain at its end."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from celery import bootsteps, signals
from celery.concurrency.thread import TaskPool
from celery.worker import state

from embedfleet.contracts.errors import ConfigurationError, DependencyDown, FleetError
from embedfleet.contracts.jobs import Queue
from embedfleet.runtime import telemetry, tracing
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app, publish
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.results import CeleryResults
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import EXIT_REFUSED, BrokerSettings, LedgerSettings, ProcessSettings, load
from embedfleet.runtime.worker import probes
from embedfleet.runtime.worker.consumer import Consumer
from embedfleet.runtime.worker.slots import IdleWatch, SlotWatch, start_afresh
from embedfleet.runtime.worker.worker import Worker

TICK_SECONDS = 5.0
# A pool is gone 5 s after SIGTERM; what is left of them is for the notes.
DRAIN_SECONDS = 4.0
LEAVE_SECONDS = 0.8
# What a worker can't start for now, and another try may find gone.
MAY_PASS = frozenset({"out_of_memory", "port_taken"})

_log = logging.getLogger(__name__)


def compose(
    queue: Queue,
    on_start: Callable[[Worker, int], None],
    blobs: Blobs,
    dependencies: Sequence[Callable[[], None]],
    problems: Callable[[], list[str]] = list,
) -> Worker:
    """Build the worker of a pool and tie it to Celery's life cycle.

    Args:
        queue: the pool.
        on_start: called once before the worker consumes, with the worker and the number of its
            threads; what it raises ends the process with its sentence.
        blobs: of the fleet.
        dependencies: what the pool needs besides Redis; each raises `DependencyDown`.
        problems: what else is broken for good, nothing when all is well; `/livez` says it, and the worker
            ends to start afresh.
    """
    records, broker = load(LedgerSettings), load(BrokerSettings)
    ledger = Ledger.open(broker, records, mirror=CeleryResults(broker, records))
    soft_limit = min(broker.soft_time_limit, broker.time_limit)
    revocations, hand_backs = Revocations(ledger, blobs), HandBacks(ledger, blobs)
    worker = Worker(queue, ledger, publish, records, soft_limit, revocations, hand_backs, dependencies)
    Lifecycle(worker, on_start, problems).connect()
    return worker


class Lifecycle:
    """What Celery's signals and its consumer's clock set off in one worker process."""

    def __init__(
        self,
        worker: Worker,
        on_start: Callable[[Worker, int], None],
        problems: Callable[[], list[str]] = list,
    ) -> None:
        self._worker = worker
        self._problems = problems
        self._on_start = on_start
        self._consumer = probes.Heartbeat()
        self._asked_to_end: SimpleQueue[None] = SimpleQueue()
        self._slots = SlotWatch(threads=1)
        self._overlooked = 0

    def connect(self) -> None:
        """Listen to Celery."""
        lifecycle, settings = self, load(ProcessSettings)

        class Clock(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
            """Ticks in the consumer's own loop, from each connection to the broker on."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                parent.timer.call_repeatedly(TICK_SECONDS, lifecycle.tick)
                lifecycle.tick()

        # Celery keeps only weak references to receivers unless told otherwise.
        signals.setup_logging.connect(lambda **_: telemetry.configure(settings), weak=False)
        signals.celeryd_after_setup.connect(self.start, weak=False)
        signals.worker_shutting_down.connect(self.end, weak=False)
        app.steps["consumer"].add(Clock)
        app.conf.worker_consumer = Consumer

    def start(self, instance: Any, **_: Any) -> None:
        """Check, load, serve the probes; the worker consumes after this."""
        try:
            tracing.start(f"embedfleet-{self._worker.kind}")
            routes = load(LedgerSettings).routes
            self._worker.take(list(app.amqp.queues.consume_from), routes.taken_by(self._worker.kind))
            self._refuse_what_loses_work(instance)
            self._slots = SlotWatch(instance.concurrency)
            self._on_start(self._worker, instance.concurrency)
            self._serve_probes(load(ProcessSettings))
        except Exception as error:  # what a receiver raises is only logged, unless it ends the process
            code = error.code if isinstance(error, FleetError) else ""
            unforeseen = None if isinstance(error, FleetError) else error
            _log.error("the worker can't start: %s", error, extra={"code": code}, exc_info=unforeseen)
            is_refused = isinstance(error, ConfigurationError) and code not in MAY_PASS
            raise SystemExit(EXIT_REFUSED if is_refused else 1) from error
        self._worker.leases.start(self._watch(instance.concurrency))
        threading.Thread(target=self._leave_in_time, name="drain", daemon=True).start()
        signals.worker_shutdown.connect(lambda **_: self._worker.leases.stop(), weak=False)

    def end(self, **_: Any) -> None:
        """Begin the drain; Celery calls this within its handler of SIGTERM.

        A second SIGTERM may come while this runs, in the same thread: `Event.set` would wait for the lock
        that it holds itself, and the process would never end. `SimpleQueue.put` is made for that.
        """
        self._asked_to_end.put(None)

    def _leave_in_time(self) -> None:
        """End the process as a kill would, but without a death, unless its drain is quick enough.

        A run waits for the answer of Qdrant or Redis, and Celery says goodbye to Redis four times: where one
        is silent, that may take a minute. The points of a request that is on its way are the same ones that
        the next run writes.
        """
        self._asked_to_end.get()
        self._worker.draining.set()
        time.sleep(DRAIN_SECONDS)
        try:
            _log.warning("the drain takes longer than %g s: the worker ends now", DRAIN_SECONDS)
            leaving = threading.Thread(target=self._worker.leave, name="leave", daemon=True)
            leaving.start()
            leaving.join(LEAVE_SECONDS)  # a folder that hangs takes no notes
        finally:
            os._exit(0)

    def tick(self) -> None:
        """Show that the consumer's loop turns, and look for slots that nobody runs."""
        self._consumer.touch()
        held = {request.id for request in state.reserved_requests}
        if leaked := self._slots.leaked(held, list(self._worker.inside.values()), time.monotonic()):
            start_afresh(f"Celery holds {sorted(leaked)}, which no thread runs")

    def _watch(self, threads: int) -> Callable[[], None]:
        """Return what looks whether this worker can work, takes its queue, and overlooks messages there."""
        worker = self._worker
        idle = IdleWatch(threads, lambda: worker.ledger.queued(worker.queue))

        def watch() -> None:
            is_consuming = worker.queue in app.amqp.queues.consume_from  # unless somebody cancelled it
            worker.leases.takes = is_consuming and not worker.draining.is_set()
            if not worker.draining.is_set() and (problems := self._problems()):
                start_afresh("; ".join(problems))
            if worker.gate.reason or not worker.leases.takes:
                idle.reset()
                self._overlooked = 0
                return
            self._overlooked = idle.overlooked(len(worker.inside), worker.taken_at, time.monotonic())
            if self._overlooked:
                start_afresh(f"{self._overlooked} messages wait, and this worker takes none")

        return watch

    def livez(self) -> list[str]:
        """Return which loops stand still, and whether work is due that this worker doesn't take."""
        loops = {"leases": self._worker.leases.heartbeat}
        if not self._worker.gate.reason:  # Celery's loop stands still while the broker can't be reached
            loops["consumer"] = self._consumer
        problems = [
            f"the {name} loop stands still since {beat.age:.0f} s"
            for name, beat in loops.items()
            if beat.was_seen and beat.age > probes.STALE_AFTER_SECONDS
        ]
        if self._overlooked:
            problems.append(f"{self._overlooked} messages wait on {self._worker.queue}, and none is taken")
        return [*problems, *self._problems()]

    def readyz(self) -> list[str]:
        """Return what keeps the worker from working right now."""
        waiting = [] if self._consumer.was_seen else ["not connected to the broker yet"]
        parked = [self._worker.gate.reason] if self._worker.gate.reason else []
        return [*waiting, *parked]

    def _serve_probes(self, settings: ProcessSettings) -> None:
        if not settings.probe_port:
            return
        try:
            probes.serve(settings.probe_host, settings.probe_port, self.livez, self.readyz)
        except OSError as error:
            raise ConfigurationError(
                f"FLEET_PROBE_PORT {settings.probe_port} on {settings.probe_host}: {error.strerror}; "
                "give each worker of a machine its own, or 0 for none",
                code="port_taken",
            ) from error

    def _refuse_what_loses_work(self, instance: Any) -> None:
        if instance.pool_cls is not TaskPool:
            raise ConfigurationError("start the worker with --pool=threads, or without --pool")
        multiplier = load(BrokerSettings).prefetch_multiplier
        if multiplier > 1:
            _log.warning(
                "CELERY_WORKER_PREFETCH_MULTIPLIER is %d: messages held ahead of free threads are seen by no "
                "autoscaler; 1 is recommended",
                multiplier,
            )
        try:
            self._worker.ledger.require_safe_redis()
        except DependencyDown as error:
            _log.warning("%s; its settings are not checked", error)
