"""The beat: one thread a process that keeps the leases of its runs alive, and says that the process is there.

The ledger has one entry of a process in `workers:<queue>`, and one in `parked_workers:<queue>` while its gate
is closed. The process owns them: each beat renews them, and it takes them off itself when it takes the queue
no more: in a drain, at its end, or when somebody has cancelled its consumer. When it is killed they count for
one lease, as its claims do; then they are no worker any more, and a later beat of another prunes them.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Pulse
from embedfleet.runtime.worker.gate import Gate
from embedfleet.runtime.worker.probes import Heartbeat
from embedfleet.runtime.worker.runs import Run

BEAT_SECONDS = 1.0
QUIET_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Leases:
    """The one beat thread of a process: extends the leases of all its runs in one round trip.

    It turns every second, so that users see progress, and speaks when something changed or two seconds
    have passed: that is how late a run may learn that it was revoked.

    Attributes:
        takes: whether the process takes its queue now.
    """

    def __init__(self, ledger: Ledger, queue: str, worker: str, gate: Gate, lease_seconds: float) -> None:
        self._ledger, self.queue, self._worker, self._gate = ledger, queue, worker, gate
        self._interval = min(lease_seconds / 4, QUIET_SECONDS)
        self._runs: dict[str, Run] = {}
        self.takes = True
        self._told: tuple[list[Pulse], str, bool] | None = None
        self._told_at = 0.0
        self._stopping = threading.Event()
        self.heartbeat = Heartbeat()
        self._thread = threading.Thread(target=self._turn, name="leases", daemon=True)
        self._asker: threading.Thread | None = None

    def start(self, watch: Callable[[], None] = lambda: None) -> None:
        """Start to beat.

        Args:
            watch: called each turn after a beat; may raise `DependencyDown`.
        """
        self._watch = watch
        self._thread.start()

    def stop(self) -> None:
        """Stop, and say that the process is gone; leases that are still held are left to expire."""
        self._stopping.set()
        self._thread.join(timeout=5)

    @property
    def runs(self) -> list[Run]:
        """The runs in hand."""
        return list(self._runs.values())

    @contextmanager
    def held(self, run: Run) -> Iterator[None]:
        """Keep a run's lease while the block runs."""
        # Not by task: a run that lost its claim may outlive the start of the next one.
        key = run.claim.owner
        self._runs[key] = run
        try:
            yield
        finally:
            del self._runs[key]

    def _turn(self) -> None:
        while not self._stopping.wait(min(BEAT_SECONDS, self._interval)):
            try:
                self._beat()
                self._ask()
                self._watch()
            except DependencyDown as error:
                self._gate.close(error)
            except Exception:
                _log.exception("a beat failed; leases expire unless the next one succeeds")
            self.heartbeat.touch()
        with suppress(DependencyDown):
            self._ledger.beat(self.queue, self._worker, [], takes=False)

    def _ask(self) -> None:
        """Ask whether the gate may open, beside the beat: a silent dependency answers after half a minute.

        What waits for it is parked and not gone, so the beat goes on. While there are runs they ask.
        """
        if self._runs or not self._gate.reason or (self._asker and self._asker.is_alive()):
            return
        self._asker = threading.Thread(target=self._gate.ask_when_due, name="ask", daemon=True)
        self._asker.start()

    def _beat(self) -> None:
        runs = dict(self._runs)
        for run in runs.values():
            if run.is_stalled:
                run.give_up()
        pulses = [run.pulse for run in runs.values() if not run.is_lost]
        parked, takes = self._gate.reason, self.takes
        told = (pulses, parked, takes)
        if told == self._told and time.monotonic() - self._told_at < self._interval:
            return
        asked_at = time.monotonic()
        lost = self._ledger.beat(self.queue, self._worker, pulses, parked, takes=takes)
        self._told, self._told_at = told, time.monotonic()
        for pulse in pulses:
            if pulse.owner in lost:
                runs[pulse.owner].lose()
            else:
                runs[pulse.owner].heard(asked_at)
