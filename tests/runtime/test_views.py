import time
from math import inf

import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger import Ledger
from tests.runtime.uploads import claim, upload


def test_the_next_expiry_is_that_of_the_first_lease_of_both_pools(ledger: Ledger) -> None:
    assert ledger.next_expiry() == inf
    (job,) = ledger.accept(upload()).publish
    claim(ledger, job)
    assert 0 < ledger.next_expiry() <= 0.5
    ledger._redis.zadd("leases:embeddings", {"p": 1})
    assert ledger.next_expiry() == 0


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_the_clock_of_a_process_decides_nothing(
    ledger: Ledger, skew: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + skew)
    ledger._redis.zadd("workers:documents", {"died a minute ago": ledger.now() - 60})
    assert ledger.pool("documents").workers == 0
    ledger.beat("documents", "worker", [])
    assert ledger.pool("documents").workers == 1
    (job,) = ledger.accept(upload()).publish
    ledger.fail(claim(ledger, job), EmbeddingError("no"), retryable=False)
    assert [task.id for task in ledger.tasks("default", [TaskState.FAILURE], 9)[0]] == ["t1"]
    ledger._redis.zadd("index:tasks:default:FAILURE", {"t1": ledger.now() - 3700})
    assert ledger.tasks("default", [TaskState.FAILURE], 9) == ([], 0, None)
