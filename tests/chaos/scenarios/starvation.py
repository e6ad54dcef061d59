"""C14: Redis is full, its disk is full, it is read-only, it stands still; then both pools work as before."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache

import redis

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import File, pdf_file
from tests.chaos.harm.small_disk import NotAllowed, fill, free, small_disk
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.scenarios.outages import CONSUMES_WITHIN_SECONDS, judge_refusals
from tests.chaos.stack import Stack, wait_until

BURST = 30
PAGES = 300
PAGE_CHARACTERS = 8
LEAST_RATE = 0.6
TRIES = 3
UPLOAD_THREADS = 4
UNREACHABLE = ("127.0.0.1", 1)
POOLS = {"documents": "parse", "embeddings": "embed"}


@dataclass(frozen=True, slots=True)
class Hardship:
    """Something that Redis suffers for a while.

    Attributes:
        name: for the findings.
        seconds: how long.
        begin: does it.
        end: undoes it.
        refuses: whether Redis answers, and refuses writes.
    """

    name: str
    seconds: float
    begin: Callable[[], object]
    end: Callable[[], object]
    refuses: bool = True


def starve(stack: Stack, seed: int) -> Result:
    """C14: Redis full, its disk full, read-only, stalled: then both pools work within 30 s, at full rate."""
    result = Result("C14")
    with ExitStack() as exits:
        client = exits.enter_context(Client(stack, "c14"))
        hardships = _hardships(stack)
        try:
            folder = exits.enter_context(small_disk(stack))
            hardships.append(Hardship("disk-full", 8, lambda: fill(folder), lambda: free(folder)))
        except NotAllowed as reason:
            result.skipped.append(f"disk full: {reason}")
        _rates(client, seed, "warm-up")
        first, second = (_rates(client, seed, f"before-{number}") for number in range(2))
        before = {pool: min(first[pool], second[pool]) for pool in POOLS}
        result.figures |= {f"{pool}_per_s_before": rate for pool, rate in before.items()}
        for hardship in hardships:
            _suffer(client, seed, hardship, result)
            _compare(client, seed, hardship, before, result)
        client.wait_all(120)
        judge_refusals(client, result)
        result.problems += client.spent()
        result.verdict = check(client)
    return result


def _hardships(stack: Stack) -> list[Hardship]:
    redis_ = stack.client

    def signal_redis(number: signal.Signals) -> None:
        os.kill(stack.redis.child.pid, number)

    return [
        Hardship("full", 8, lambda: _set_memory(redis_, "1mb"), lambda: _set_memory(redis_, "0")),
        Hardship(
            "read-only",
            8,
            lambda: redis_.execute_command("REPLICAOF", *UNREACHABLE),
            lambda: redis_.execute_command("REPLICAOF", "NO", "ONE"),
        ),
        Hardship(
            "stalled",
            20,
            lambda: signal_redis(signal.SIGSTOP),
            lambda: signal_redis(signal.SIGCONT),
            refuses=False,
        ),
    ]


def _set_memory(client: redis.Redis, size: str) -> None:
    client.config_set("maxmemory", size)


def _suffer(client: Client, seed: int, hardship: Hardship, result: Result) -> None:
    """Let Redis suffer while both pools work; afterwards both must claim again in time."""
    for number in range(BURST // 2):
        client.upload(_file(f"{hardship.name}-caught-{number}", seed))
    wait_until(lambda: client.log.first_claim_after(0, "embed") < float("inf"), "both pools work", 30)
    hardship.begin()
    try:
        ends_at = time.monotonic() + hardship.seconds
        if hardship.refuses:
            wait_until(lambda: _refuses(client.stack), f"{hardship.name}: Redis refuses to write", 6)
        client.try_upload(_file(f"{hardship.name}-during", seed))
        time.sleep(max(ends_at - time.monotonic(), 0))
    finally:
        hardship.end()
    healed_at = time.monotonic()
    result.hits[hardship.name] += 1
    probe = _file(f"{hardship.name}-probe", seed)
    wait_until(lambda: isinstance(client.try_upload(probe), Accepted), "an upload is taken", 30, poll=0.5)
    for pool, work in POOLS.items():
        seconds = _claimed(client, healed_at, work) - healed_at
        result.figures[f"{pool}_claim_after_{hardship.name}_s"] = round(seconds, 1)
        result.recovery_s = max(result.recovery_s, seconds)
        if seconds > CONSUMES_WITHIN_SECONDS:
            result.problems.append(f"{hardship.name}: {pool} claimed nothing for {seconds:.1f} s")


def _refuses(stack: Stack) -> bool:
    try:
        stack.client.set("chaos:probe", "1", ex=60)
    except redis.RedisError:
        return True
    return False


def _claimed(client: Client, since: float, work: str) -> float:
    def look() -> float:
        client.stack.tend()
        at = client.log.first_claim_after(since, work)
        return at if at != float("inf") else 0.0

    try:
        return float(wait_until(look, "a task is claimed", 90))
    except AssertionError:
        return float("inf")


def _compare(client: Client, seed: int, hardship: Hardship, before: dict[str, float], result: Result) -> None:
    """The rates must be those of before; a machine with other work on it may try again."""
    best = dict.fromkeys(before, 0.0)
    for attempt in range(TRIES):
        rates = _rates(client, seed, f"after-{hardship.name}-{attempt}")
        best = {pool: max(best[pool], rate) for pool, rate in rates.items()}
        if all(best[pool] >= LEAST_RATE * rate for pool, rate in before.items()):
            break
    result.figures |= {f"{pool}_per_s_after_{hardship.name}": rate for pool, rate in best.items()}
    result.problems += [
        f"{hardship.name}: {pool} run {best[pool]:.1f} tasks/s, before it were {rate:.1f}"
        for pool, rate in before.items()
        if best[pool] < LEAST_RATE * rate
    ]


def _rates(client: Client, seed: int, label: str) -> dict[str, float]:
    """Return the tasks a second of each pool while it works off a burst that waits for it."""
    client.wait_all(120)
    stack = client.stack
    workers = [*stack.names("documents"), *stack.names("embeddings")]
    for name in workers:
        stack.send(name, signal.SIGSTOP)
    try:
        files = [_file(f"{label}-{number}", seed) for number in range(BURST)]
        with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
            accepted = list(pool.map(client.upload, files))
    finally:
        for name in workers:
            stack.send(name, signal.SIGCONT)
    client.wait_all(120)
    rows = [row for one in accepted for row in client.tasks(one)]
    return {pool: _rate([row for row in rows if row.get("queue") == pool]) for pool in POOLS}


def _file(name: str, seed: int) -> File:
    """Return a file that takes some time to read and has few chunks; all have the same pages."""
    return replace(_pages(seed), name=f"{name}.pdf")


@cache
def _pages(seed: int) -> File:
    return pdf_file("pages", seed, PAGES, PAGE_CHARACTERS)


def _rate(rows: list[dict[str, str]]) -> float:
    ended = [row for row in rows if row.get("completed_at")]
    if len(ended) < len(rows) or not ended:
        return 0.0
    start = min(float(row["started_at"]) for row in ended)
    return round(len(ended) / max(max(float(row["completed_at"]) for row in ended) - start, 1e-3), 1)
