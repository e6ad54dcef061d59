"""A seeded schedule of faults: which process, which signal, how long; it waits until the target works."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.chaos.client import Client
from tests.chaos.report import STAGE_HITS
from tests.chaos.stack import Stack

BUSY_SECONDS = 3.0
PAUSE_SECONDS = (0.3, 2.0)

KINDS = {"kill": 4, "term": 2, "stop": 2, "sandbox": 2, "redis": 1, "cut": 1, "api": 1}
"""Kinds of faults and how often each comes, relative to the others."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process that was ended, or stood still for longer than its lease.

    Attributes:
        pid: of the process.
        at: monotonic time.
        healed_at: monotonic time at which its successor was started.
    """

    pid: int
    at: float
    healed_at: float


class Faults:
    """Does harm to a stack, one fault after the other; for the main thread.

    Attributes:
        hits: faults by the work that the target had in hand: parse, embed, sandbox, redis, api, idle.
        deaths: processes that were killed while they worked.
    """

    def __init__(self, stack: Stack, client: Client, seed: int) -> None:
        self._stack, self._client = stack, client
        self._chance = random.Random(seed)
        self.hits: Counter[str] = Counter()
        self.deaths: list[Death] = []
        self._actions: dict[str, Callable[[], None]] = {
            "kill": lambda: self._end(signal.SIGKILL),
            "term": lambda: self._end(signal.SIGTERM),
            "stop": self._stop,
            "sandbox": self._kill_sandbox,
            "redis": self._kill_redis,
            "cut": self._cut,
            "api": self._kill_api,
        }

    def run(self, seconds: float, uploads: threading.Thread) -> None:
        """Do faults for so long, or until all uploads have ended; then heal everything."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and (uploads.is_alive() or self._client.open_documents()):
            kind = self._chance.choices(list(KINDS), weights=list(KINDS.values()))[0]
            self._actions[kind]()
            self._stack.tend()
            time.sleep(self._chance.uniform(*PAUSE_SECONDS))
        self._stack.relay.heal()
        self._stack.wait_ready()

    def missed(self) -> list[str]:
        """Return the stages that were hit too seldom to prove anything."""
        wanted = ("parse", "embed", "sandbox")
        return [
            f"only {self.hits[stage]} faults hit the stage {stage}"
            for stage in wanted
            if self.hits[stage] < STAGE_HITS
        ]

    def _target(self) -> tuple[str, str]:
        """Return a worker and what it is at; the seed says which pool first, and has time to be busy."""
        pools = ["documents", "embeddings"]
        self._chance.shuffle(pools)
        deadline = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < deadline:
            # The other pool only when this one has had its chance.
            late = time.monotonic() > deadline - BUSY_SECONDS / 3
            for name in [one for pool in pools[: 1 + late] for one in self._stack.names(pool)]:
                if work := self._client.log.work_of(self._stack.pid(name)):
                    return name, work
            time.sleep(0.02)
        return self._stack.names(pools[0])[0], "idle"

    def _end(self, number: signal.Signals) -> None:
        name, work = self._target()
        pid, at = self._stack.pid(name), time.monotonic()
        self._stack.send(name, number)
        self._stack.wait_ended(name, 30)
        self._stack.tend()
        self.hits[work] += 1
        self.deaths.append(Death(pid, at, time.monotonic()))

    def _stop(self) -> None:
        """Stop a worker for up to two leases; others take its work over, then it wakes."""
        name, work = self._target()
        lease = self._stack.shape.lease_seconds
        self._stack.send(name, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.1, 2.0) * lease if self._chance.random() < 0.3 else 1.0)
        self._stack.send(name, signal.SIGCONT)
        self.hits[work] += 1

    def _kill_sandbox(self) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < deadline:
            for name in self._stack.names("documents"):
                for child in self._stack.sandboxes(name):
                    if self._client.log.work_of(self._stack.pid(name)) and is_busy(child):
                        child.kill()
                        self.hits["sandbox"] += 1
                        return

    def _kill_redis(self) -> None:
        self._stack.redis.kill()
        time.sleep(self._chance.uniform(0.1, 2.0))
        self._stack.redis.start()
        self.hits["redis"] += 1

    def _cut(self) -> None:
        self._stack.relay.cut()
        self.hits["cut"] += 1

    def _kill_api(self) -> None:
        self._stack.restart(self._chance.choice(self._stack.names("api")))
        self.hits["api"] += 1


def is_busy(child: psutil.Process) -> bool:
    """Say whether a sandbox child computes right now."""
    try:
        return child.cpu_percent(interval=0.05) > 20
    except psutil.Error:
        return False
