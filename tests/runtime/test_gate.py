import threading
from types import SimpleNamespace

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.worker import gate as module
from embedfleet.runtime.worker.gate import BACKLOG_SECONDS, RETRY_SECONDS, Gate

DOWN = DependencyDown("Qdrant", "127.0.0.1:6333", "refused")


class Clock:
    """A clock that the test turns; it reads what `time` reads for the gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_backlog_makes_nobody_ask_a_dependency_earlier(clock: Clock) -> None:
    asked: list[float] = []
    gate = Gate(lambda: asked.append(clock.now))
    gate.close(DOWN)
    gate.hold_back(True)
    clock.now += BACKLOG_SECONDS
    gate.ask_when_due()
    assert asked == []
    clock.now += RETRY_SECONDS
    gate.ask_when_due()
    assert asked == [clock.now]
    assert gate.reason == ""


def test_a_dependency_that_was_down_lets_a_held_pool_try_its_claim_no_later(clock: Clock) -> None:
    gate = Gate(lambda: None)
    gate.hold_back(True)
    clock.now += BACKLOG_SECONDS
    gate.close(DOWN)
    assert gate.ask()
    draining = threading.Event()
    guard = threading.Timer(20, draining.set)  # a gate that stays shut would be waited for, for ever
    guard.start()
    assert gate.pass_through(draining)
    guard.cancel()
