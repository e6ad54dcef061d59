"""The gate of a pool: closed while a dependency is down or others must catch up; waiting spends nothing."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from embedfleet.contracts.errors import DependencyDown, FleetError
from embedfleet.runtime.worker.runs import Run

RETRY_SECONDS = 5.0
BACKLOG_SECONDS = 1.0
_CHECK_SECONDS = 0.2

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


class Turns:
    """Turns that threads take, one at a time and some seconds apart."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_at = 0.0
        self._lock = threading.Lock()

    def put_off(self) -> None:
        """Give no turn for as long as lies between two."""
        with self._lock:
            self._next_at = time.monotonic() + self._seconds

    def take(self) -> bool:
        """Take a turn, if it is time for one."""
        with self._lock:
            if time.monotonic() < self._next_at:
                return False
            self._next_at = time.monotonic() + self._seconds
            return True


class Gate:
    """Closed while a dependency is down: nothing is claimed, and one thread asks every few seconds.

    Held while the ledger refuses claims because of a backlog: then one thread a second tries a claim. That
    stops no run that has begun, is no failure of the pool, and the ledger says of itself that it is so.

    Args:
        probe: asks everything that the pool depends on; raises where one doesn't serve.
        retry_seconds: time between two questions.
    """

    def __init__(self, probe: Callable[[], None], retry_seconds: float = RETRY_SECONDS) -> None:
        self._probe = probe
        self._probes, self._claims = Turns(retry_seconds), Turns(BACKLOG_SECONDS)
        self._changed = threading.Condition()
        self._reason = ""
        self._is_held = False

    @property
    def reason(self) -> str:
        """What is down, or nothing."""
        return self._reason

    def close(self, error: Exception) -> None:
        """Note that a dependency is down."""
        self._probes.put_off()
        with self._changed:
            self._reason = str(error) or type(error).__name__

    def hold_back(self, is_held: bool) -> None:
        """Note whether the ledger refused a claim because of a backlog."""
        if not (is_held or self._is_held):
            return
        self._claims.put_off()
        with self._changed:
            self._is_held = is_held
            self._changed.notify_all()

    def pass_through(self, draining: threading.Event) -> bool:
        """Wait until the gate is open; False when the worker drains."""
        while not draining.is_set():
            if not self._reason and (not self._is_held or self._claims.take()):
                return True
            if self._reason and self._probes.take():
                self.ask()
            else:
                with self._changed:
                    self._changed.wait(_CHECK_SECONDS)
        return False

    def hold(self, run: Run, call: Callable[[], Answer], seconds: float) -> Answer:
        """Return what a call answers; while a dependency is down hold the work and call again for a while.

        Raises:
            DependencyDown: still down after that.
            Stopped: the run has to end.
        """
        gives_up_at = time.monotonic() + seconds
        while True:
            run.check()
            try:
                return call()
            except DependencyDown as error:
                self.close(error)
                if time.monotonic() > gives_up_at:
                    raise
            while self._reason and time.monotonic() < gives_up_at:
                run.check()
                run.alive()
                if self._probes.take():
                    self.ask()
                else:
                    with self._changed:
                        self._changed.wait(_CHECK_SECONDS)

    def ask_when_due(self) -> None:
        """Ask again if the gate is closed and it is time: for a loop that turns while no task comes."""
        if self._reason and self._probes.take():
            self.ask()

    def ask(self) -> bool:
        """Ask all dependencies, and open or close accordingly; say whether all serve."""
        try:
            self._probe()
        except Exception as error:
            # One that answers and refuses serves nobody either: the pool waits, and says for what.
            if not isinstance(error, FleetError):
                _log.exception("a probe failed")
            self.close(error)
            return False
        with self._changed:
            self._reason = ""
            self._changed.notify_all()
        return True
