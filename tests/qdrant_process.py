"""The embedded stand-in for Qdrant as a child process that tests may kill."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_SECONDS = 30


class QdrantProcess:
    """`python -m embedfleet.local.qdrant` on a free port; `url` is set once it listens."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self.path = path
        self.command = [sys.executable, "-m", "embedfleet.local.qdrant", "--path", str(path), "--port", "0"]
        self.command += arguments
        self.url = ""
        self.log: list[str] = []

    def start(self) -> Self:
        """Start it, and wait until it listens; fail with its log when it ends before."""
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                self.url = found.group(1)
                break
        else:
            raise AssertionError(f"it ended with {self.process.wait()}: {''.join(self.log)}")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.kill()
        self._gone()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return the exit code."""
        self.process.send_signal(number)
        return self._gone()

    def _gone(self) -> int:
        code = self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        self.process.stderr.close()
        return code

    def _read(self) -> None:
        self.log.extend(self.process.stderr)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
