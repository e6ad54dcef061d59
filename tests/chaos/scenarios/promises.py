"""C7, C12, C17: what a task id, a revocation and a message are worth, faults or not."""

import signal
import time
import uuid

import httpx

from embedfleet.contracts.jobs import JOB_OF_NAME
from embedfleet.runtime.broker import create_app
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check, points_of
from tests.chaos.judge.report import Result
from tests.chaos.load import ForeignLoad
from tests.chaos.stack import Stack, wait_until

COPIES = 5
STOP_SECONDS = 5.0


def ids_that_are_not_known(stack: Stack, seed: int) -> Result:
    """C7: an unknown id is 404, an expired one 410, another tenant's 404; none of them is PENDING."""
    result = Result("C7")
    with Client(stack, "c7") as client, stack.http("other") as stranger:
        accepted = client.upload(text_file("seven", seed, 2_000))
        client.wait_state(accepted, "READY")

        def expect(status: int, http: httpx.Client, task_id: str, what: str) -> None:
            answer = http.get(f"/tasks/{task_id}")
            if answer.status_code != status:
                result.problems.append(f"{what}: {answer.status_code}, not {status}")

        expect(404, client.http, str(uuid.uuid4()), "an id that never was")
        expect(404, stranger, accepted.task_id, "another tenant's task")
        if stranger.get(f"/documents/{accepted.document_id}").status_code != httpx.codes.NOT_FOUND:
            result.problems.append("another tenant's document is shown")
        if stranger.post(f"/tasks/{accepted.task_id}/revoke").status_code != httpx.codes.NOT_FOUND:
            result.problems.append("another tenant's task can be revoked")
        # An hour goes by: what Redis does at its end is done now.
        stack.client.delete(f"task:{accepted.task_id}")
        client.forget()
        expect(410, client.http, accepted.task_id, "a task whose details have expired")
        expect(404, stranger, accepted.task_id, "another tenant's expired task")
        if client.document(accepted).get("state") != "READY":
            result.problems.append("the document went with its task's details")
        stack.client.delete(f"tombstone:default:{accepted.task_id}")
        expect(404, client.http, accepted.task_id, "a task of long ago")
        result.verdict = check(client)
    return result


def revoke(stack: Stack, seed: int) -> Result:
    """C12: revoked while it waits: it never runs, whatever restarts; while it runs: it stops, traceless."""
    result = Result("C12")
    with Client(stack, "c12") as client:
        names = [*stack.names("documents"), *stack.names("embeddings")]
        for name in names:
            stack.send(name, signal.SIGKILL)
            stack.wait_ended(name, 10)
        queued = client.upload(text_file("queued", seed, 2_000))
        if not client.revoke(queued):
            result.problems.append("a queued document can't be revoked")
        late = _revoke_and_lose_it(stack, client, seed)
        for name in stack.names("api"):
            stack.restart(name)
        stack.wait_ready()
        witness = client.upload(text_file("witness", seed, 2_000))
        client.wait_state(witness, "READY", seconds=60)
        row = client.task(queued)
        if (row["state"], row["fence"]) != ("REVOKED", "0"):
            result.problems.append(f"revoked while queued, and then {row['state']} at fence {row['fence']}")
        _stays_revoked(client, late, result)
        result.figures["stopped_after_s"] = _revoke_running(stack, client, seed, result)
        result.verdict = check(client)
        if result.verdict.revoked != len(client.promises.revoked):
            result.problems.append("not every revoked document is REVOKED")
    return result


def _revoke_and_lose_it(stack: Stack, client: Client, seed: int) -> Accepted:
    """Revoke an upload, and have Redis come back with the upload and without the revocation."""
    late = client.upload(text_file("revoked-late", seed, 2_000))
    size = stack.redis_log().stat().st_size
    assert client.revoke(late), "a queued document can't be revoked"
    stack.cut_redis(size)
    client.forget()
    return late


def _stays_revoked(client: Client, late: Accepted, result: Result) -> None:
    """The durable mark of the revocation holds, whatever Redis has forgotten."""
    state = client.wait_state(late, "REVOKED", "READY", "FAILED", seconds=60)["state"]
    if state != "REVOKED":
        result.problems.append(f"revoked a moment before Redis lost it, and now {state}")
    if any(payload["document_id"] == late.document_id for _, payload in points_of(client)):
        result.problems.append("a revoked document has run: its points are there")
    if (stage := client.task(late).get("stage", "queued")) not in ("queued", "claimed"):
        result.problems.append(f"revoked while queued, then lost by Redis, and run: stage {stage}")


def _revoke_running(stack: Stack, client: Client, seed: int, result: Result) -> float:
    """Revoke a document with some of its points stored; return the seconds until its worker has stopped."""
    running = client.upload(text_file("running", seed, 80_000))

    def points() -> int:
        return sum(payload["document_id"] == running.document_id for _, payload in points_of(client))

    wait_until(points, "some points are stored", 30)
    parts = [row["id"] for row in client.parts(running) if row["state"] == "STARTED"]
    result.hits["embed"] += 1
    start, load = time.monotonic(), ForeignLoad()
    if not client.revoke(running):
        result.problems.append("a running document can't be revoked")

    def stopped() -> bool:
        logs = "".join(stack.log_of(name) for name in stack.names("embeddings"))
        lines = [line for line in logs.splitlines() if "the claim is lost" in line]
        return all(any(part in line for line in lines) for part in parts)

    try:
        wait_until(stopped, "the worker lets go", 20)
    except AssertionError:
        result.problems.append("a revoked task was never let go")
    seconds = time.monotonic() - start
    if seconds > STOP_SECONDS * load.stretch:
        result.problems.append(f"a revoked task ran on for {seconds:.1f} s")
    wait_until(lambda: not points(), "its points are gone", 20)
    return round(seconds, 2)


def copies(stack: Stack, seed: int) -> Result:
    """C17: the same message five times more, while it waits, while it runs, when it is done: no change."""
    result = Result("C17")
    with Client(stack, "c17") as client:
        workers = [*stack.names("documents"), *stack.names("embeddings")]
        for name in workers:
            stack.send(name, signal.SIGSTOP)
        accepted = client.upload(text_file("copied", seed, 30_000))
        _repeat(stack, [client.task(accepted) | {"id": accepted.task_id}])
        for name in workers:
            stack.send(name, signal.SIGCONT)
        client.wait_work(accepted, "embed")
        _repeat(stack, [client.task(accepted) | {"id": accepted.task_id}, *client.parts(accepted)])
        client.wait_state(accepted, "READY", seconds=60)
        rows = client.tasks(accepted)
        before = client.document(accepted), rows
        _repeat(stack, rows)
        wait_until(
            lambda: not any(stack.client.llen(queue) for queue in ("documents", "embeddings")),
            "all copies are taken",
            30,
        )
        after_them = client.upload(text_file("after-copies", seed, 1_000))
        client.wait_state(after_them, "READY", seconds=60)
        if (client.document(accepted), client.tasks(accepted)) != before:
            result.problems.append("a copy of a message changed a finished task or document")
        if fences := {row["id"]: row["fence"] for row in rows if row["fence"] != "1"}:
            result.problems.append(f"copies were run: fences {fences}")
        result.figures["copies"] = float(COPIES * (2 + 2 * (len(rows) - 1) + 1))
        result.verdict = check(client)
    return result


def _repeat(stack: Stack, rows: list[dict[str, str]]) -> None:
    """Send the messages of these tasks again, some times each."""
    app = create_app(BrokerSettings(broker_url=stack.redis.url), LedgerSettings())
    try:
        for row in rows:
            job = JOB_OF_NAME[row["name"]](task_id=row["id"], sequence=int(row["sequence"]))
            for _ in range(COPIES):
                app.send_task(
                    job.task_name,
                    kwargs=job.model_dump(),
                    task_id=job.task_id,
                    queue=str(job.queue),
                    ignore_result=True,
                )
    finally:
        app.close()
