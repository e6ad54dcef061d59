"""The gate of a pool: closed while a dependency is down or others must catch up; waiting spends nothing."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.worker.runs import Run

RETRY_SECONDS = 5.0
BACKLOG_SECONDS = 1.0
_CHECK_SECONDS = 0.2

Answer = TypeVar("Answer")


class Gate:
    """Closed while a dependency is down: nothing is claimed, and one thread asks every few seconds.

    Held while the ledger refuses claims because of a backlog: then one thread a second tries a claim. That
    stops no run that has begun, is no failure of the pool, and the ledger says of itself that it is so.

    Args:
        probe: asks everything that the pool depends on; raises `DependencyDown`.
        retry_seconds: time between two questions.
    """

    def __init__(self, probe: Callable[[], None], retry_seconds: float = RETRY_SECONDS) -> None:
        self._probe = probe
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._reason = ""
        self._retry_at = 0.0
        self._is_held = False

    @property
    def reason(self) -> str:
        """What is down, or nothing."""
        return self._reason

    def close(self, error: DependencyDown) -> None:
        """Note that a dependency is down."""
        with self._changed:
            self._reason = str(error)
            self._retry_at = time.monotonic() + self._retry_seconds

    def hold_back(self, is_held: bool) -> None:
        """Note whether the ledger refused a claim because of a backlog."""
        if not (is_held or self._is_held):
            return
        with self._changed:
            self._is_held = is_held
            self._retry_at = time.monotonic() + BACKLOG_SECONDS
            self._changed.notify_all()

    def pass_through(self, draining: threading.Event) -> bool:
        """Wait until the gate is open; False when the worker drains."""
        while not draining.is_set():
            if not self._reason and (not self._is_held or self._may_ask(BACKLOG_SECONDS)):
                return True
            if self._reason and self._may_ask(self._retry_seconds):
                self._ask()
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
                if self._may_ask(self._retry_seconds):
                    self._ask()
                else:
                    with self._changed:
                        self._changed.wait(_CHECK_SECONDS)

    def ask_when_due(self) -> None:
        """Ask again if the gate is closed and it is time: for a loop that turns while no task comes."""
        if self._reason and self._may_ask(self._retry_seconds):
            self._ask()

    def _may_ask(self, seconds: float) -> bool:
        """Say whether it is this thread's turn to ask whether all is well again."""
        with self._changed:
            if time.monotonic() < self._retry_at:
                return False
            self._retry_at = time.monotonic() + seconds
            return True

    def _ask(self) -> None:
        try:
            self._probe()
        except DependencyDown as error:
            self.close(error)
        else:
            with self._changed:
                self._reason = ""
                self._changed.notify_all()
