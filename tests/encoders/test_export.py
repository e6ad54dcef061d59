"""The exporter's programs: signs of life while they run, an end when they take too long."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from embedfleet.encoders.sources import export

WAITS_FOR_A_LINE = "import sys; print('first'); sys.stdin.readline(); print('last')"


@pytest.fixture
def process() -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """A program that ends when something is written to the other end of its stdin."""
    theirs, ours = os.pipe()
    command = [sys.executable, "-c", WAITS_FOR_A_LINE]
    yield subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True), ours
    os.close(theirs)
    os.close(ours)


def test_a_long_run_shows_that_it_lives_and_loses_no_output(
    process: "tuple[subprocess.Popen[str], int]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "STILL_SECONDS", 0.1)
    (program, stdin), signs = process, list[float]()

    def still(waited: float) -> None:
        signs.append(waited)
        if len(signs) == 3:
            os.write(stdin, b"go on\n")

    assert export._output(program, 30, still) == "first\nlast\n"
    assert signs == sorted(signs)
    assert len(signs) >= 3
    assert program.returncode == 0


def test_what_takes_too_long_is_dead_afterwards(process: "tuple[subprocess.Popen[str], int]") -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        export._output(process[0], 0.1, lambda waited: None)
    assert process[0].returncode is not None
