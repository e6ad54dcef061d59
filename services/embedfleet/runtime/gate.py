"""The gate of a pool: closed while a dependency is down, so that waiting costs no attempts."""

import threading
import time
from collections.abc import Callable

from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.runs import Run


class Gate:
    """Closed while a dependency is down: nothing is claimed, but for one try every few seconds."""

    def __init__(self, retry_seconds: float = 5.0) -> None:
        self._condition = threading.Condition()
        self._retry_seconds = retry_seconds
        self._reason = ""
        self._retry_at = 0.0

    @property
    def reason(self) -> str:
        """What is down, or nothing."""
        return self._reason

    def close(self, error: DependencyDown) -> None:
        """Note that a dependency is down."""
        with self._condition:
            self._reason = str(error)
            self._retry_at = time.monotonic() + self._retry_seconds

    def open(self) -> None:
        """Note that a call came through."""
        if self._reason:
            with self._condition:
                self._reason = ""
                self._condition.notify_all()

    def pass_through(self, draining: threading.Event) -> bool:
        """Wait until the gate is open or a try is due; False when the worker drains."""
        with self._condition:
            while not draining.is_set():
                wait = self._retry_at - time.monotonic()
                if not self._reason:
                    return True
                if wait <= 0:
                    self._retry_at = time.monotonic() + self._retry_seconds
                    return True
                self._condition.wait(min(wait, 0.5))
        return False

    def hold(self, run: Run, call: Callable[[], object], seconds: float) -> None:
        """Call; while a dependency is down hold the work in hand and try again, up to some seconds.

        Raises:
            DependencyDown: still down after that.
            Stopped: the run has to end.
        """
        gives_up_at = time.monotonic() + seconds
        while True:
            run.check()
            try:
                call()
                self.open()
                return
            except DependencyDown as error:
                self.close(error)
                if time.monotonic() + self._retry_seconds > gives_up_at:
                    raise
            self._wait_for_a_try(run)

    def _wait_for_a_try(self, run: Run) -> None:
        until = time.monotonic() + self._retry_seconds
        while self._reason and time.monotonic() < until:
            run.check()
            run.alive()
            with self._condition:
                self._condition.wait(0.2)
