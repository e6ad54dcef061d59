"""C15, C16, C18: a black hole, a Qdrant that is away, and two apis that are asked the same."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.chaos.client import Accepted, Client, Refusal
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.scenarios.outages import judge_refusals, wait_claim
from tests.chaos.stack import Stack, wait_until

BLACK_HOLE_SECONDS = 40.0
QDRANT_SECONDS = 45.0
RECOVERS_WITHIN_SECONDS = 60.0
COPIES = 8
UNSEAT_SECONDS = 0.05


def black_hole(stack: Stack, seed: int) -> Result:
    """C15: for 40 s nothing passes between the fleet and Redis: within 60 s all work goes on."""
    result = Result("C15")
    with Client(stack, "c15") as client:
        for number in range(6):
            client.upload(text_file(f"before-{number}", seed, 20_000))
        stack.relay.swallow()
        try:
            deadline = time.monotonic() + BLACK_HOLE_SECONDS
            client.try_upload(text_file("refused", seed, 1_000))
            time.sleep(max(deadline - time.monotonic(), 0))
        finally:
            stack.relay.heal()
        healed_at = time.monotonic()
        result.hits["network"] += 1
        judge_refusals(client, result)
        after = client.upload(text_file("after", seed, 2_000)) if _answers(client) else None
        result.recovery_s = wait_claim(client, healed_at) - healed_at
        if result.recovery_s > RECOVERS_WITHIN_SECONDS:
            result.problems.append(f"nothing was claimed for {result.recovery_s:.1f} s")
        if after:
            client.wait_state(after, "READY", seconds=90)
        client.wait_all(120)
        result.verdict = check(client)
    return result


def qdrant_away(stack: Stack, seed: int) -> Result:
    """C16: Qdrant is away for longer than a lease: the pool parks, no attempt is spent, then READY."""
    result = Result("C16")
    with Client(stack, "c16") as client:
        accepted = client.upload(text_file("parked", seed, 40_000))
        client.wait_work(accepted, "embed")
        stack.qdrant.kill()
        result.hits["embed"] += 1
        waiting = [client.upload(text_file(f"waiting-{number}", seed, 2_000)) for number in range(4)]
        wait_until(lambda: stack.ledger.pool("embeddings").parked, "the pool says that it waits", 60)
        time.sleep(QDRANT_SECONDS)
        stack.qdrant.start()
        healed_at = time.monotonic()
        for one in (accepted, *waiting):
            client.wait_state(one, "READY", seconds=120)
        result.recovery_s = time.monotonic() - healed_at
        result.problems += client.spent()
        result.verdict = check(client)
    return result


def two_apis(stack: Stack, seed: int) -> Result:
    """C18: the same file to two apis at once, both janitors elected: one document, its points once."""
    result = Result("C18")
    with Client(stack, "c18") as client, _no_election(stack):
        file = text_file("same", seed, 8_000)
        apis = range(len(stack.urls))
        with ThreadPoolExecutor(COPIES) as pool:
            answers = list(pool.map(lambda n: client.try_upload(file, n % len(apis)), range(COPIES)))
        ids = {one.document_id for one in answers if isinstance(one, Accepted)}
        tasks = {one.task_id for one in answers if isinstance(one, Accepted)}
        if len(ids) != 1 or len(tasks) != 1:
            result.problems.append(f"one file became {len(ids)} documents and {len(tasks)} tasks")
        if len(apis) < 2:
            result.problems.append("there is one api only")
        client.wait_all(60)
        result.figures["uploads"] = float(COPIES)
        if reruns := [
            row["id"] for one in _taken(answers) for row in client.tasks(one) if row["fence"] != "1"
        ]:
            result.problems.append(f"two janitors had these tasks run twice: {reruns}")
        result.verdict = check(client)
        documents = stack.ledger.documents_by_id("default", list(ids))
        generations = {document.generation for document in documents.values()}
        if generations != {1}:
            result.problems.append(f"one file became generations {generations}")
    return result


def _taken(answers: list[Accepted | Refusal]) -> list[Accepted]:
    """Return the first of the answers that took the upload."""
    return [one for one in answers if isinstance(one, Accepted)][:1]


@contextmanager
def _no_election(stack: Stack) -> Iterator[None]:
    """Take the janitors' role away all the time, so that each of them believes to hold it."""
    stopping = threading.Event()

    def unseat() -> None:
        while not stopping.wait(UNSEAT_SECONDS):
            stack.client.delete("role:janitor")

    thread = threading.Thread(target=unseat, name="no-election")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(timeout=10)


def _answers(client: Client) -> bool:
    """Wait until the api takes requests that need Redis."""
    return bool(wait_until(lambda: client.http.get("/tasks").is_success, "the api answers", 60, poll=0.5))
