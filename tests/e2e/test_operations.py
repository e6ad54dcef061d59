"""What an operator looks at: Celery's own commands, queue lengths, results, memory."""

import subprocess
import sys

import psutil
import pytest
from celery import Celery
from celery.result import AsyncResult

from embedfleet.contracts.jobs import JOBS
from embedfleet.runtime.ledger.redis_client import connect
from tests.e2e.fleet import EXAMPLES, Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]

MEGABYTE = 1_000_000


@pytest.mark.parametrize("question", ["active", "registered", "stats"])
def test_celery_inspect_answers_for_both_pools(fleet: Fleet, question: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "embedfleet.runtime.broker", "inspect", question]
    done = subprocess.run(
        [*command, "--timeout", "10"], env=fleet.env, capture_output=True, text=True, check=True, timeout=60
    )
    assert "2 nodes online" in done.stdout
    if question == "registered":
        assert all(job.task_name in done.stdout for job in JOBS)


def test_async_result_tells_what_the_ledger_knows(fleet: Fleet) -> None:
    app = Celery(backend=fleet.ready["redis"])
    good = fleet.upload(EXAMPLES / "rim-brake-adjustment.txt", "results")
    bad = fleet.upload(("empty.txt", b" \n \n"), "results")
    fleet.ended(good["document_id"])
    fleet.ended(bad["document_id"])
    success = AsyncResult(good["task_id"], app=app)
    until(lambda: success.state == "SUCCESS", "the mirror is written")
    assert success.info["chunk_count"] == fleet.document(good["document_id"])["progress"]["total"]
    failure = AsyncResult(bad["task_id"], app=app)
    until(lambda: failure.state == "FAILURE", "the mirror is written")
    assert "no_text" in failure.traceback
    assert type(failure.info).__name__ == "DocumentProcessingError"


def test_queues_are_lists_with_the_documented_names(fleet: Fleet) -> None:
    client = connect(fleet.ready["redis"])
    assert (client.llen("documents"), client.llen("embeddings")) == (0, 0)
    client.close()


def test_an_idle_fleet_is_small(fleet: Fleet) -> None:
    def resident(processes: list[psutil.Process]) -> float:
        return sum(process.memory_info().rss for process in processes) / MEGABYTE

    tree = fleet.tree("documents")
    assert resident(tree[:1]) < 120
    assert resident(tree) < 300
    assert resident(fleet.tree("api")) < 450
