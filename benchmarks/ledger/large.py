"""How long Redis works on one call while a document of many embedding tasks goes through every edge.

Counted is the processor time that Redis has used (`INFO cpu` before and after each call, one answer of it
included): the time on the wall has what other processes took in it, 4 ms and more at a time.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.ledger.documents import document
from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import Job
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part, Pulse
from embedfleet.runtime.settings import LedgerSettings

CHUNKS = 256
CLAIMS = 50

Course = Callable[[Ledger, Document, list[Job]], object]


class Measured(Ledger):
    """A ledger that notes how long Redis works on each call; ms."""

    longest = 0.0

    def _call(self, edge: str, arguments: dict[str, Any]) -> dict[str, Any]:
        before = self._used_ms()
        answer = super()._call(edge, arguments)
        self.longest = max(self.longest, self._used_ms() - before)
        return answer

    def _used_ms(self) -> float:
        used = self._redis.info("cpu")
        return 1000 * (float(used["used_cpu_user"]) + float(used["used_cpu_sys"]))


def busiest_ms(client: Any, parts: int) -> dict[str, float]:
    """Return the longest single call of each course, ms: how a document of so many tasks ends."""
    return {name: _busiest(client, parts, course) for name, course in COURSES.items()}


def _busiest(client: Any, parts: int, course: Course) -> float:
    client.flushall()
    ledger, one = Measured(client, LedgerSettings()), document(0)
    (job,) = ledger.accept(one).publish
    pieces = [
        Part(
            f"{number:08d}-0000-4000-8000-000000000000", number, CHUNKS, f"chunks/{one.id}/1/{number}", 60_000
        )
        for number in range(parts)
    ]
    result = {"success": True, "embedding_task_ids": [piece.task_id for piece in pieces]}
    jobs = ledger.chunked(_claim(ledger, job), pieces, result)
    if not jobs or len(jobs) != parts:
        raise RuntimeError("not all embedding tasks came into being")
    course(ledger, one, jobs)
    ledger.scan()
    client.delete("grace")
    while ledger.scan()[1]:
        pass
    return ledger.longest


def _embed(ledger: Ledger, one: Document, jobs: list[Job]) -> None:
    claims = [_claim(ledger, job) for job in jobs]
    pulses = [Pulse(claim.task.id, claim.fence, claim.owner, "encode", 9, CHUNKS) for claim in claims]
    for at in range(0, len(pulses), CLAIMS):
        ledger.beat("embeddings", "bench", pulses[at : at + CLAIMS])
    for claim in claims:
        ledger.embedded(claim, {"success": True})


def _claim(ledger: Ledger, job: Job) -> Claim:
    claim = ledger.claim(job, "bench")
    if not isinstance(claim, Claim):
        raise RuntimeError(f"the claim was refused: {claim}")
    return claim


COURSES: dict[str, Course] = {
    "embedded": _embed,
    "revoked": lambda ledger, one, jobs: ledger.revoke(one.tenant, one.task_id),
    "failed": lambda ledger, one, jobs: ledger.fail(
        _claim(ledger, jobs[0]), EmbeddingError("the bench ends it"), retryable=False
    ),
    "overtaken": lambda ledger, one, jobs: ledger.accept(
        one.model_copy(update={"task_id": "again", "content_hash": "another"})
    ),
    "deleted": lambda ledger, one, jobs: ledger.delete(one.tenant, one.id, 1),
}
