"""A child process with a log file, in a session of its own, that can't outlive its parent.

The session keeps Ctrl-C of the terminal away from it: the parent decides the order of the stop.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from embedfleet.local import leash

LOG_ROTATE_BYTES = 10_000_000
TAIL_BYTES = 8192
_POLL_SECONDS = 0.02


class Child:
    """One process: start, watch, stop; may be started again after it ended.

    Args:
        name: for messages.
        command: program and arguments.
        log: file that takes its output, appended, in a folder that exists; None: the parent's stderr.
        env: whole environment; the parent's when None.
        nice: added to the parent's niceness.
        stop_seconds: how long `stop` waits between TERM and KILL.
        keep_open: file descriptors that it inherits.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path | None,
        env: Mapping[str, str] | None = None,
        nice: int = 0,
        stop_seconds: float = 10,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.stop_seconds = stop_seconds
        self.started_at = 0.0
        self._command = list(command)
        self._env = env
        self._nice = nice
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began_at: int | None = None

    @property
    def pid(self) -> int:
        """Process id of the latest start, also its group's and session's; 0 before the first."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process.

        Raises:
            RuntimeError: called outside the main thread (the kernel would kill the child when that
                *thread* ends), or while it runs.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a child must be started by the main thread: it dies with its starter")
        if self.poll() is None and self._process:
            raise RuntimeError(f"{self.name} is running")
        launcher = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(self._nice)]
        with _opened(self.log) as output:
            if self.log:
                size = os.fstat(output).st_size
                # Smaller at a restart: what was written since the first start has been rotated away.
                self._log_began_at = size if self._log_began_at is None else min(size, self._log_began_at)
            self._process = subprocess.Popen(  # noqa: S603 — the command is ours, no shell
                launcher + self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                pass_fds=self._keep_open,
            )
        self.started_at = time.monotonic()

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal that killed it); None before its end, or start.

        What is left of its group dies with it.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return process.returncode if process else None
        # Not reaped yet: until then its id, and so the group's, can't be given to another process.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._signal(signal.SIGKILL)
        return process.wait()

    def wait(self, seconds: float) -> int | None:
        """Wait at most so long for its end; return what `poll` returns."""
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None and self._process and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return code

    def terminate(self) -> None:
        """Ask the process, not its children, to end."""
        if self._process and self.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill its group and wait for its end."""
        if self._process and self.poll() is None:
            self._signal(signal.SIGKILL)
            self.wait(5)

    def stop(self) -> None:
        """TERM, wait `stop_seconds`, then KILL of the group."""
        self.terminate()
        if self.wait(self.stop_seconds) is None:
            self.kill()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log since the first start: those before are of another fleet."""
        if self._log_began_at is None:
            return ""
        try:
            with open(self.log or os.devnull, "rb") as log:
                size = os.fstat(log.fileno()).st_size
                log.seek(max(self._log_began_at, size - TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to its group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # gone; macOS says EPERM of a zombie's group
            return


def how_it_ended(code: int) -> str:
    """Return an exit code in words, such as `was killed by SIGKILL`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


@contextmanager
def _opened(log: Path | None) -> Iterator[int]:
    """Open the log for appending, one older file kept once it is large; yield its descriptor."""
    if log is None:
        yield sys.stderr.fileno()
        return
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_ROTATE_BYTES:
            log.replace(log.with_name(log.name + ".1"))
    with log.open("ab") as output:
        yield output.fileno()
