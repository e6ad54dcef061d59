"""C5, C6: Redis comes back without its last seconds, or without anything at all."""

from collections.abc import Callable

from tests.chaos.checker import check
from tests.chaos.client import Client
from tests.chaos.corpus import text_file
from tests.chaos.report import Result
from tests.chaos.stack import Stack, wait_until

UPLOADS = 12
CHARACTERS = 6_000
CUT_BYTES = 60_000
SETTLED_SECONDS = 60


def lose_the_tail(stack: Stack, seed: int) -> Result:
    """C5: the append-only file loses its tail: what was answered 202 ends all the same."""

    def lose() -> None:
        stack.redis.kill()
        # Redis 6 has one file; from 7 on the last of several is the one that grows.
        files = sorted(stack.redis.path.rglob("*.aof"), key=lambda path: path.stat().st_mtime)
        size = files[-1].stat().st_size
        with files[-1].open("r+b") as file:
            file.truncate(max(0, size - CUT_BYTES))
        stack.redis.start()

    return _lose(Result("C5"), stack, seed, lose)


def lose_everything(stack: Stack, seed: int) -> Result:
    """C6: FLUSHALL: accepted uploads end, what was READY is found, what was revoked stays so."""
    return _lose(Result("C6"), stack, seed, stack.client.flushall)


def _lose(result: Result, stack: Stack, seed: int, lose: Callable[[], object]) -> Result:
    with Client(stack, result.name.lower()) as client:
        before = client.upload(text_file("before", seed, CHARACTERS))
        revoked = client.upload(text_file("revoked", seed, 80_000))
        client.revoke(revoked)
        client.wait_state(before, "READY")
        wait_until(lambda: not stack.ledger.unsettled(100), "what has ended is settled", SETTLED_SECONDS)
        for number in range(UPLOADS):
            client.upload(text_file(f"in-flight-{number}", seed, CHARACTERS))
        # A revoked document was never READY: nothing durable is kept of it, and it must not come back.
        client.promises.accepted.remove(revoked)
        lose()
        client.log.forget_tasks()
        result.hits["redis"] += 1
        result.figures["ended_after_s"] = round(client.wait_all(180), 1)
        document = stack.ledger.document("default", revoked.document_id)
        if document and document.state != "REVOKED":
            result.problems.append(f"what was revoked is {document.state} after the loss")
        body = {"collection": client.collection, "query": "harbour tide", "limit": 50}
        hits = client.http.post("/search", json=body).raise_for_status().json()["hits"]
        if before.document_id not in {hit["document_id"] for hit in hits}:
            wanted = client.document(before)
            result.problems.append(f"what was READY before is not found: {wanted.get('state')}")
        result.verdict = check(client)
        if left := [hit for hit in hits if hit["document_id"] == revoked.document_id]:
            result.problems.append(f"{len(left)} hits of a revoked document")
    return result
