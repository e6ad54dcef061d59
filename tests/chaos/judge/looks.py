"""A thread that looks five times a second while its block runs; both logs are one."""

import threading
from types import TracebackType
from typing import Self

PERIOD_SECONDS = 0.2


class Looks:
    """Calls `look` again and again, from entering the block to leaving it."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name=name, daemon=True)

    def look(self) -> None:
        """Note what is to be seen now."""
        raise NotImplementedError

    def _turn(self) -> None:
        while not self._stopping.wait(PERIOD_SECONDS):
            self.look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(timeout=30)
