"""C5, C6: Redis comes back without its last seconds, or without anything at all."""

from collections.abc import Callable

from tests.chaos.client import Client
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.stack import Stack, wait_until

UPLOADS = 12
CHARACTERS = 6_000
CUT_BYTES = 60_000
SETTLED_SECONDS = 60


def lose_the_tail(stack: Stack, seed: int) -> Result:
    """C5: the append-only file loses its tail: what was answered 202 ends all the same."""

    return _lose(Result("C5"), stack, seed, lambda: stack.cut_redis(-CUT_BYTES))


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
        late = client.upload(text_file("revoked-late", seed, CHARACTERS))
        client.revoke(late)
        # Nothing has to be kept of a revoked document, but it must not come back.
        client.promises.accepted.remove(revoked)
        client.promises.accepted.remove(late)
        lose()
        client.forget()
        # A quick worker may have ended some of them within what was lost; what was settled stays as it was.
        client.log.forget_documents(but=before.document_id)
        result.hits["redis"] += 1
        result.figures["ended_after_s"] = round(client.wait_all(180), 1)
        for one in (revoked, late):
            document = stack.ledger.document("default", one.document_id)
            if document and document.state != "REVOKED":
                result.problems.append(f"{one.file.name} was revoked and is {document.state} after the loss")
        body = {"collection": client.collection, "query": "harbour tide", "limit": 50}
        hits = client.http.post("/search", json=body).raise_for_status().json()["hits"]
        if before.document_id not in {hit["document_id"] for hit in hits}:
            wanted = client.document(before)
            result.problems.append(f"what was READY before is not found: {wanted.get('state')}")
        result.verdict = check(client)
        gone = {revoked.document_id, late.document_id}
        if left := [hit for hit in hits if hit["document_id"] in gone]:
            result.problems.append(f"{len(left)} hits of a revoked document")
    return result
