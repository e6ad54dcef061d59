"""A seeded schedule of faults: what is hit, how, and at which stage of the work."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.chaos.client import Client
from tests.chaos.harm.relay import Relay
from tests.chaos.judge.report import STAGE_HITS
from tests.chaos.stack import Stack

BUSY_SECONDS = 3.0
PAUSE_SECONDS = (0.1, 0.8)

DECK = {
    "kill": 8,
    "term": 3,
    "stop": 2,
    "sandbox": 4,
    "accept": 3,
    "queue": 3,
    "store": 3,
    "upsert": 3,
    "flip": 3,
    "redis": 1,
    "cut": 1,
    "api": 1,
}
"""Kinds of faults and how often each is in the deck that the seed shuffles."""

EXACT = ("accept", "queue", "store", "upsert", "flip")
"""Those that kill at an exact request; each is named by the stage that it hits."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process that was ended while it worked.

    Attributes:
        pid: of the process.
        at: monotonic time.
    """

    pid: int
    at: float


class Faults:
    """Does harm to a stack, one fault after the other; for the main thread.

    Attributes:
        hits: faults by the stage of the work that they landed in; `idle` where there was none.
        deaths: of processes.
        outages: monotonic times at which Redis or an api, and the janitor in it, were back again.
    """

    def __init__(self, stack: Stack, client: Client, seed: int) -> None:
        self._stack, self._client = stack, client
        self._chance = random.Random(seed)
        self.hits: Counter[str] = Counter()
        self.deaths: list[Death] = []
        self.outages: list[float] = []
        self._actions: dict[str, Callable[[], None]] = {
            "kill": lambda: self._end(signal.SIGKILL),
            "term": lambda: self._end(signal.SIGTERM),
            "stop": self._stop,
            "sandbox": self._kill_sandbox,
            "redis": self._kill_redis,
            "cut": self._cut,
            "api": self._kill_api,
        }
        for stage in EXACT:
            self._actions[stage] = lambda stage=stage: self._kill_at(stage)

    def run(self, seconds: float, uploads: threading.Thread) -> None:
        """Do faults for so long, or until all uploads have ended; then heal everything."""
        ends_at = time.monotonic() + seconds
        deck: list[str] = []
        while time.monotonic() < ends_at and (uploads.is_alive() or self._client.open_documents()):
            if not deck:
                deck = self._shuffled()
            self._actions[deck.pop()]()
            self._stack.tend()
            time.sleep(self._chance.uniform(*PAUSE_SECONDS))
        self._stack.relay.heal()
        self._stack.wait_ready()

    def _shuffled(self) -> list[str]:
        """Return the deck, first the kinds whose stage was hit too seldom by the decks before."""
        deck = [kind for kind, count in DECK.items() for _ in range(count)]
        self._chance.shuffle(deck)
        if self.deaths:
            deck.sort(key=lambda kind: kind in (*EXACT, "sandbox") and self.hits[kind] < STAGE_HITS)
        return deck

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
        self.deaths.append(Death(self._stack.pid(name), time.monotonic()))
        self._stack.send(name, number)
        self._stack.wait_ended(name, 30)
        self.hits[work] += 1

    def _stop(self) -> None:
        """Stop a worker for up to two leases; others take its work over, then it wakes."""
        name, work = self._target()
        lease = self._stack.shape.lease_seconds
        self._stack.send(name, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.1, 2.0) * lease if self._chance.random() < 0.2 else 1.0)
        self._stack.send(name, signal.SIGCONT)
        self.hits[work] += 1

    def _kill_at(self, stage: str) -> None:
        """Kill whoever sends the request of a stage, before it has arrived."""
        if victim := kill_at(self._stack, stage, BUSY_SECONDS):
            self.hits[stage] += 1
            self.deaths.append(victim)
            if stage == "accept":
                self._stack.tend()
                self.outages.append(time.monotonic())

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
        self.outages.append(time.monotonic())
        self.hits["redis"] += 1

    def _cut(self) -> None:
        self._stack.relay.cut()
        self.hits["cut"] += 1

    def _kill_api(self) -> None:
        self._stack.restart(self._chance.choice(self._stack.names("api")))
        self.outages.append(time.monotonic())
        self.hits["api"] += 1


def kill_at(stack: Stack, stage: str, seconds: float) -> Death | None:
    """Kill the process that sends the next request of a stage; None when none came in time."""
    found: list[Death] = []

    def kill(port: int) -> None:
        if name := stack.owner_of_port(port):
            found.append(Death(stack.pid(name), time.monotonic()))
            stack.send(name, signal.SIGKILL)

    relay, matches = _request_of(stack, stage)
    if not relay.trap(matches, kill).wait(seconds):
        relay.disarm()
    if not found:
        return None
    if name := stack.name_of(found[0].pid):
        stack.wait_ended(name, 10)
    return found[0]


def _request_of(stack: Stack, stage: str) -> tuple[Relay, Callable[[list[bytes]], bool]]:
    """Return where the request of a stage passes, and what tells it from others."""
    if stage == "upsert":
        return stack.qdrant_relay, lambda words: words[:1] == [b"PUT"] and b"/points" in words[1]
    if stage == "queue":
        return stack.relay, lambda words: words[0].upper() == b"HSET" and words[1] == b"unacked"
    edge = {"accept": b"accept", "store": b"chunked", "flip": b"embedded"}[stage]
    return stack.relay, lambda words: words[0].upper() == b"EVALSHA" and words[3:4] == [edge]


def is_busy(child: psutil.Process) -> bool:
    """Say whether a sandbox child computes right now."""
    try:
        return child.cpu_percent(interval=0.05) > 20
    except psutil.Error:
        return False
