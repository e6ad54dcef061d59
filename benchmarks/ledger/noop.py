"""No-op tasks per second: through the ledger, and by bare Celery, in rounds that alternate."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.ledger.documents import accepted, chunked
from embedfleet.contracts.jobs import Job
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings

CONCURRENCY = 4
WARM_UP_SHARE = 0.1
POLL_SECONDS = 0.02
DEADLINE_SECONDS = 120

# What a round prepares: given a ledger and a count, the messages (task name, id, body) it needs.
Prepare = Callable[[Ledger, int], list[tuple[str, str, dict[str, Any]]]]


def rounds(url: str, tasks: int, count: int) -> dict[str, list[float]]:
    """Return seconds a task, of each kind, of each round."""
    kinds: dict[str, tuple[str, Prepare]] = {
        "bare": ("bare", _bare_messages),
        "embedded": ("embeddings", embedded_messages),
        "chunked": ("documents", _chunked_messages),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(count):
        for kind, (queue, prepare) in kinds.items():
            seconds[kind].append(_round(url, kind, queue, prepare, tasks))
    return seconds


def ratio(seconds: dict[str, list[float]], kind: str) -> float:
    """Return how much longer the median task of a kind takes than a bare one."""
    return statistics.median(seconds[kind]) / statistics.median(seconds["bare"])


def _round(url: str, kind: str, queue: str, prepare: Prepare, tasks: int) -> float:
    client: Any = connect(url)
    client.flushall()
    publish(url, queue, prepare(Ledger(client, LedgerSettings()), tasks))
    with worker(url, kind, queue):
        left = wait(client, queue, int(tasks * (1 - WARM_UP_SHARE)))
        started = time.perf_counter()
        wait(client, queue, 0)
        passed = time.perf_counter() - started
    client.close()
    return passed / left


def wait(client: Any, queue: str, at_most: int) -> int:
    """Wait until so few tasks are queued or not acknowledged; return how many there are."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with client.pipeline(transaction=False) as pipe:
            queued, held = pipe.llen(queue).hlen("unacked").execute()
        if queued + held <= at_most:
            return int(queued + held)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{queued} messages of {queue} are left after {DEADLINE_SECONDS} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def worker(url: str, kind: str, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker of a kind; raise with its log when it ends badly."""
    command = [sys.executable, "-m", "celery", "-A", f"benchmarks.ledger.{kind}", "worker"]
    command += [f"--queues={queue}", f"--concurrency={CONCURRENCY}"]
    env = {**os.environ, "CELERY_BROKER_URL": url, "FLEET_PROBE_PORT": "0", "LOG_LEVEL": "WARNING"}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)  # noqa: S603 — no shell
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(timeout=30)
            finally:
                process.kill()
            if code:
                raise RuntimeError(Path(log.name).read_text("utf-8"))


def publish(url: str, queue: str, messages: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Queue messages as `broker.publish` does, over one connection."""
    app = Celery("bench", broker=url)
    app.conf.task_serializer = "json"
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for name, task_id, body in messages:
            app.send_task(
                name, kwargs=body, task_id=task_id, queue=queue, producer=producer, ignore_result=True,
                argsrepr="", kwargsrepr="",
            )  # fmt: skip
    app.close()


def _bare_messages(_: Ledger, tasks: int) -> list[tuple[str, str, dict[str, Any]]]:
    ids = [str(uuid.uuid4()) for _ in range(tasks)]
    return [("bench.noop", task_id, {"task_id": task_id, "sequence": n}) for n, task_id in enumerate(ids)]


def embedded_messages(ledger: Ledger, tasks: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Bring documents to their embedding task; return the messages of those."""
    return _messages(list(chunked(ledger, range(tasks))))


def _chunked_messages(ledger: Ledger, tasks: int) -> list[tuple[str, str, dict[str, Any]]]:
    return _messages(list(accepted(ledger, range(tasks))))


def _messages(jobs: list[Job]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(job.task_name, job.task_id, job.model_dump()) for job in jobs]
