"""What the fleet holds while it is offered too much: queues, tokens, memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from embedfleet.runtime.ledger.redis_client import connect
from tests.e2e.fleet import Fleet

MEMBERS = ("api", "documents", "embeddings")
LOOKS_A_SECOND = 4
MB = 1_000_000


@dataclass
class Peaks:
    """The most that was seen; memory in bytes, of a member with all its children."""

    queued: int = 0
    tokens: int = 0
    lists: dict[str, int] = field(default_factory=lambda: {"documents": 0, "embeddings": 0})
    redis: int = 0
    rss: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEMBERS, 0))
    was_held: bool = False


def look(fleet: Fleet, redis: Any, peaks: Peaks) -> None:
    """Note what is there now."""
    load = redis.hgetall("load")
    peaks.queued = max(peaks.queued, int(load.get("documents", 0)))
    peaks.tokens = max(peaks.tokens, int(load.get("tokens", 0)))
    peaks.was_held |= "resume_at" in load
    peaks.redis = max(peaks.redis, int(redis.info("memory")["used_memory"]))
    for name in peaks.lists:
        peaks.lists[name] = max(peaks.lists[name], int(redis.llen(name)))
    for member in MEMBERS:
        peaks.rss[member] = max(peaks.rss[member], sum(map(_rss, fleet.tree(member))))


@contextmanager
def watched(fleet: Fleet) -> Iterator[Peaks]:
    """Look a few times a second until the block ends."""
    redis, peaks, over = connect(fleet.ready["redis"]), Peaks(), threading.Event()
    failures: list[BaseException] = []

    def turn() -> None:
        try:
            while not over.wait(1 / LOOKS_A_SECOND):
                look(fleet, redis, peaks)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=turn, name="watch")
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
        redis.close()
    if failures:
        raise failures[0]


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
