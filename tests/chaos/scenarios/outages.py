"""C4: Redis dies and comes back with its append-only file, three times, while uploads go on."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.chaos.client import Client
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.stack import Stack, wait_until

KILLS = 3
DOWN_SECONDS = 2.0
REFUSED_WITHIN_SECONDS = 2.0
CONSUMES_WITHIN_SECONDS = 30.0
CHARACTERS = 2_000


def kill_redis(stack: Stack, seed: int) -> Result:
    """C4: uploads are taken or refused by 503 within 2 s; both pools consume again within 30 s."""
    result = Result("C4")
    ended_before = len(stack.ended)
    with Client(stack, "c4") as client:
        with uploading(client, seed, every=0.25):
            for _ in range(KILLS):
                taken = len(client.promises.accepted)
                wait_until(lambda n=taken: len(client.promises.accepted) >= n + 6, "uploads are taken", 30)
                stack.redis.kill()
                refused = len(client.promises.refused)
                time.sleep(DOWN_SECONDS)
                wait_until(lambda n=refused: len(client.promises.refused) > n, "an upload is refused", 10)
                stack.redis.start()
                healed_at = time.monotonic()
                result.hits["redis"] += 1
                claimed = wait_claim(client, healed_at)
                result.recovery_s = max(result.recovery_s, claimed - healed_at)
        if result.recovery_s > CONSUMES_WITHIN_SECONDS:
            result.problems.append(f"nothing was claimed for {result.recovery_s:.1f} s")
        judge_refusals(client, result)
        client.wait_all(90)
        # Nobody killed these: a worker has to outlive its Redis.
        result.problems += stack.ended[ended_before:]
        result.problems += client.spent()
        result.verdict = check(client)
    return result


@contextmanager
def uploading(client: Client, seed: int, every: float) -> Iterator[None]:
    """Upload small texts from a thread of its own while the block runs."""
    stopping = threading.Event()

    def upload() -> None:
        for number in itertools.count():
            if stopping.wait(every):
                return
            client.try_upload(text_file(f"small-{number}", seed, CHARACTERS))

    thread = threading.Thread(target=upload, name="uploads")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(timeout=60)


def judge_refusals(client: Client, result: Result) -> None:
    """Every refusal has to be a 503 with Retry-After, and quick."""
    refused = client.promises.refused
    result.figures["refused"] = len(refused)
    result.figures["slowest_refusal_s"] = round(max((one.seconds for one in refused), default=0.0), 2)
    allowed = REFUSED_WITHIN_SECONDS * client.load.stretch
    result.figures["refusal_allowed_s"] = round(allowed, 2)
    for one in refused:
        if one.status != httpx.codes.SERVICE_UNAVAILABLE or not one.retry_after:
            result.problems.append(f"an upload was answered {one.status}, Retry-After {one.retry_after!r}")
        elif one.seconds > allowed:
            result.problems.append(f"an upload was refused after {one.seconds:.1f} s")


def wait_claim(client: Client, since: float) -> float:
    """Return when the first task was claimed after a moment; waits for it."""

    def claimed() -> float:
        client.stack.tend()
        at = client.log.first_claim_after(since)
        return at if at != float("inf") else 0.0

    try:
        return float(wait_until(claimed, "a task is claimed", 90))
    except AssertionError:
        return float("inf")
