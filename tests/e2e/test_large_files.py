"""A large file is taken by workers of its own queue, and an autoscaler sees it there."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from embedfleet.contracts.states import TERMINAL_TASK_STATES, TaskState
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.e2e.fleet import until
from tests.e2e.workers import environment, worker
from tests.runtime.uploads import upload

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

RULE = "documents-large=1000"
TEXT = "Bến phà đóng cửa lúc mười giờ đêm. " * 100
PUBLISH = """
import os
from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.runtime.broker import publish
publish([ProcessDocument(task_id=os.environ["TASK"], sequence=1).on(os.environ["QUEUE"])])
"""
WAIT_SECONDS = 60


def test_a_large_file_is_chunked_by_a_worker_of_its_own_queue(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    client = connect(empty_redis.url)
    ledger = Ledger(client, LedgerSettings(document_queues=RULE))
    document = upload(str(uuid.uuid4())).model_copy(update={"size_bytes": len(TEXT.encode())})
    Blobs(tmp_path).put(document.blob, TEXT.encode())
    (job,) = ledger.accept(document).publish
    env = environment(empty_redis.url, "http://127.0.0.1:1", tmp_path, probe_port=0)
    env |= {"FLEET_DOCUMENT_QUEUES": RULE, "TASK": job.task_id, "QUEUE": job.destination}
    subprocess.run([sys.executable, "-c", PUBLISH], env=env, check=True)
    assert counts(ledger) == {"documents": (0, 0), "embeddings": (0, 0), "documents-large": (1, 0)}
    with worker("documents-large", env, tmp_path / "worker.log", 1, kind="documents"):
        deadline = time.monotonic() + WAIT_SECONDS
        while (task := ledger.task("default", job.task_id)) is None or task.state not in TERMINAL_TASK_STATES:
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text("utf-8")
        until(lambda: ledger.pool("documents-large").workers == 1, "it beats")
        assert ledger.pool("documents").workers == 0
    assert task.state is TaskState.SUCCESS
    assert counts(ledger)["documents-large"] == (0, 0)
    assert ledger.pool("documents-large").workers == 0, "it has left, and said so"
    client.close()


def counts(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Return what waits and what runs, by queue."""
    return {one.name: (one.depth, one.inflight) for one in ledger.overview().queues}
