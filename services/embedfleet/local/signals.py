"""Stop signals as a count and a wait that they end at once; nothing is interrupted midway."""

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Self

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While entered, Ctrl-C, SIGTERM and SIGHUP are counted in `count` instead of ending the process.

    Main thread only, as Python wants it of all signal handlers.
    """

    def __init__(self) -> None:
        self.count = 0

    def wait(self, seconds: float) -> None:
        """Return after this time, or as soon as a signal (a child's end, too) arrives."""
        select.select([self._reader], [], [], max(0.0, seconds))
        while select.select([self._reader], [], [], 0)[0]:
            os.read(self._reader, 4096)

    def _counted(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def _noticed(self, number: int, frame: FrameType | None) -> None:
        """Do nothing: a handler has to exist for the signal to end `wait`."""

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._former_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, self._counted) for number in STOP}
        self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._noticed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        os.close(self._reader)
        os.close(self._writer)
