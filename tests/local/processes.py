"""Fixtures and waits of the tests of processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def eventually(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for a condition, fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


class SmallFleet:
    """`fleet_of_sleepers.py` as a process."""

    def __init__(self, data: Path) -> None:
        script = Path(__file__).with_name("fleet_of_sleepers.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def pids(self) -> dict[str, int]:
        """Return the ids of the next line that has them."""
        while not (line := self.line()).startswith("{"):
            assert line, "the fleet ended"
        found: dict[str, int] = json.loads(line)
        return found

    def rest(self) -> str:
        assert self.process.stdout
        return self.process.stdout.read()


@pytest.fixture
def small_fleet(tmp_path: Path) -> Iterator[SmallFleet]:
    fleet = SmallFleet(tmp_path)
    yield fleet
    fleet.process.kill()
    fleet.process.wait(10)
    assert fleet.process.stdout
    fleet.process.stdout.close()
