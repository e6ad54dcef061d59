"""The worker's side of one sandbox child: start it, talk to it with a deadline, find out how it died."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from pydantic import BaseModel, ValidationError

from embedfleet.contracts.errors import DocumentProcessingError, FleetError
from embedfleet.documents.sandbox import frames

TICK_SECONDS = 0.2
START_SECONDS = 60.0
EXIT_SECONDS = 1.0
TAKE_SECONDS = 30.0
_READ = 65_536

# All that a child needs of the environment; keys and addresses of the worker are not its business.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
_FIXED_ENVIRONMENT = {
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    # Every arena of glibc reserves 64 MB of address space, which is what RLIMIT_AS counts.
    "MALLOC_ARENA_MAX": "2",
}
_ABORTS = (signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS)
_NEAR_LIMIT = 0.4


class ChildDied(Exception):
    """The child's end of the pipe is closed, or what came through it is no frame of ours."""


class SandboxChild:
    """One child process, used by one thread at a time (`stop` by any).

    Args:
        config: how it is to live.

    Attributes:
        files: files it was asked to read.
        usable: it may be asked again.
        sealed: the kernel keeps it from network, writing, signals and new processes.
        hidden: the kernel keeps it from opening other files than the interpreter's.

    Raises:
        OSError: the process can't be started.
    """

    def __init__(self, config: frames.Config) -> None:
        # A socket, not a pipe: it carries the descriptors of files too.
        self._requests, its_end = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 — our own module, no shell
                [sys.executable, "-P", "-m", "embedfleet.documents.sandbox.child", str(os.getpid())],
                stdin=its_end.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=child_environment(os.environ),
                start_new_session=True,
            )
        except OSError:
            self._requests.close()
            raise
        finally:
            its_end.close()
        self.pid = self._process.pid
        self._memory_bytes = config.memory_bytes
        self._buffer = bytearray()
        self._reaping = threading.Lock()
        self._peak_bytes = 0
        self.files = 0
        self.usable = True
        self.sealed = False
        self.hidden = False
        self._shot = False
        self._send(config)

    def wait_ready(self, check: Callable[[], None]) -> None:
        """Wait until it has loaded its tokenizer.

        Raises:
            FleetError: `sandbox_unavailable`, it said why it can't start, or died.
        """
        try:
            reply = next(self.replies(START_SECONDS, check))
        except (ChildDied, DocumentProcessingError) as error:
            raise self._unavailable("it ended before it was ready") from error
        if not isinstance(reply, frames.Ready):
            raise self._unavailable(reply.detail if isinstance(reply, frames.Failed) else "it made no sense")
        self.sealed, self.hidden = reply.sealed, reply.hidden

    def ask(self, request: frames.Request, file: int, check: Callable[[], None]) -> None:
        """Hand it a file and wait until it has taken it.

        Args:
            request: what is to be done.
            file: descriptor of the file, open for reading; stays the caller's.
            check: as for `replies`.

        Raises:
            ChildDied: it is gone, or does not answer; the file was not read.
        """
        self.files += 1
        self._send(request, file)
        try:
            reply = next(self.replies(TAKE_SECONDS, check))
        except DocumentProcessingError as error:
            raise ChildDied from error
        if not isinstance(reply, frames.Taken):
            raise ChildDied

    def replies(self, seconds: float, check: Callable[[], None]) -> Iterator[frames.Reply]:
        """Yield what it says, until the caller stops asking.

        Args:
            seconds: from now; then it is killed.
            check: called at least every `TICK_SECONDS`; when it raises, the child is killed.

        Raises:
            DocumentProcessingError: `sandbox_timeout`.
            ChildDied: it closed its end, or sent something that is no frame.
        """
        deadline = time.monotonic() + seconds
        checked = 0.0
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        try:
            while True:
                frame = self._take_frame()
                if frame is not None:
                    yield frame
                now = time.monotonic()
                if now - checked >= TICK_SECONDS:
                    check()
                    checked = now
                if now >= deadline:
                    raise timeout_error(seconds)
                if frame is None and poll.poll(1000 * min(TICK_SECONDS, deadline - now)):
                    self._fill()
        except (GeneratorExit, ChildDied):
            raise  # whoever asked finds out how it died before it is killed
        except BaseException:
            self.kill()
            raise

    def death(self) -> FleetError:
        """Return the error for how it died; where it has not, it broke the protocol and is killed."""
        broke = not self._exits_within(EXIT_SECONDS)
        self.kill()
        if broke:
            return DocumentProcessingError(
                "The parser went astray on this file; open it in its own program and save it again.",
                code="sandbox_crash",
            )
        code = self._process.returncode
        number = -code if code is not None and code < 0 else 0
        if number == signal.SIGXCPU:
            return timeout_error(None)
        if number == signal.SIGKILL and not self._shot:
            # Its own limits end it in other ways. Code that took it over may still bring this on (by a hard
            # limit on its own CPU time): that buys the few tries that a task has, and no more.
            return FleetError(
                "The reader was killed from outside, as when the pod is out of memory; it is tried again.",
                code="sandbox_killed",
            )
        # The peak a process starts with is its parent's, so only a higher one tells something.
        own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if number in _ABORTS and self._peak_bytes > max(own_peak, _NEAR_LIMIT * self._memory_bytes):
            return DocumentProcessingError(frames.MEMORY_DETAIL, code="sandbox_memory")
        how = signal.Signals(number).name if number else f"exit {code}"
        return DocumentProcessingError(
            f"Reading the file crashed the parser ({how}); open it in its own program and save it again.",
            code="sandbox_crash",
        )

    def alive(self) -> bool:
        """Return whether it is running and may be asked."""
        return self.usable and not self._reap(os.WNOHANG)

    def stop(self) -> None:
        """Send it SIGKILL, from any thread; the thread that uses it sees its end and clears up."""
        self.usable = False
        with self._reaping:
            if self._process.returncode is None:
                self._shot = True
                os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill it, take its exit status and close its pipes; harmless when it is dead already."""
        if not self._reap(os.WNOHANG):
            self.stop()
            self._reap(0)
        self.usable = False
        self._requests.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _exits_within(self, seconds: float) -> bool:
        with suppress(OSError):
            descriptor = os.pidfd_open(self.pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                return bool(poll.poll(1000 * seconds))
            finally:
                os.close(descriptor)
        return self._reap(os.WNOHANG)

    def _reap(self, flags: int) -> bool:
        with self._reaping:
            if self._process.returncode is not None:
                return True
            pid, status, usage = os.wait4(self.pid, flags)
            if pid == 0:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._peak_bytes = usage.ru_maxrss * 1024
            return True

    @property
    def _stdout(self) -> int:
        if self._process.stdout is None or self._process.stdout.closed:
            raise ChildDied
        return self._process.stdout.fileno()

    def _send(self, frame: BaseModel, *files: int) -> None:
        data = frames.pack(frame)
        try:
            sent: int = socket.send_fds(self._requests, [data], files)
            if sent != len(data):
                raise ChildDied
        except OSError as error:
            raise ChildDied from error

    def _fill(self) -> None:
        data = os.read(self._stdout, _READ)
        if not data:
            raise ChildDied
        self._buffer += data

    def _take_frame(self) -> frames.Reply | None:
        head = frames.HEADER.size
        if len(self._buffer) < head:
            return None
        (size,) = frames.HEADER.unpack_from(self._buffer)
        if size > frames.MAX_REPLY_BYTES:
            raise ChildDied
        if len(self._buffer) < head + size:
            return None
        body = bytes(self._buffer[head : head + size])
        del self._buffer[: head + size]
        try:
            return frames.parse_reply(body)
        except ValidationError as error:
            raise ChildDied from error

    def _unavailable(self, why: str) -> FleetError:
        self.kill()
        return FleetError(
            f"The sandbox child did not start: {why} (exit {self._process.returncode}).",
            code="sandbox_unavailable",
        )


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child, of the worker's own: no key and no address."""
    return {name: own[name] for name in _ENVIRONMENT if name in own} | _FIXED_ENVIRONMENT


def timeout_error(seconds: float | None) -> DocumentProcessingError:
    """Return the error for a file that takes too long; None: its CPU time is up."""
    limit = f"{seconds:g} seconds" if seconds is not None else "its CPU time"
    return DocumentProcessingError(
        f"Reading the file took longer than {limit}; split it into smaller files.", code="sandbox_timeout"
    )
