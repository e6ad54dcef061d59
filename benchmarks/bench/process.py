"""A contestant: a program in a process of its own that runs a round when it is told to.

It reads orders and writes answers, a JSON object a line. It ends when its input ends, and the kernel kills it
when the benchmark dies.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from embedfleet.local import leash

ROOT = Path(__file__).parents[2]
LOG_TAIL = 3
STOP_SECONDS = 20


class Unavailable(Exception):
    """It can't start here; the text says why."""


class Contestant:
    """One process; a context manager.

    Args:
        name: for messages.
        python: interpreter of the environment that it needs.
        module: the program, `benchmarks.engine.ours` for example.
        env: variables beyond those of this process.
        log: file for what it and its libraries print.

    Attributes:
        facts: what it said of itself when it was ready.
    """

    def __init__(self, name: str, python: Path, module: str, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}
        self._log = log
        self._command: Sequence[str] = (str(python), "-m", module)
        self._env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}", "PYTHONSAFEPATH": "1", **env}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it has loaded what it needs.

        Raises:
            Unavailable: it ended instead.
        """
        tied = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), "0"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 — our own programs, no shell
                [*tied, *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._env,
                cwd=self._log.parent,
            )
        self.facts = self._answer()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order, wait for its answer.

        Raises:
            Unavailable: it ended instead.
        """
        if self._process is None or self._process.stdin is None:
            raise Unavailable(f"{self.name} was not started")
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(f"{self.name} has ended: {self._tail()}") from None
        return self._answer()

    def stop(self) -> None:
        """End its input, and kill it when that is not enough."""
        process = self._process
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process and self._process.stdout else ""
        if not line:
            raise Unavailable(f"{self.name} has ended: {self._tail()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _tail(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return " | ".join(lines[-LOG_TAIL:]) or "it printed nothing"
