from math import inf

from embedfleet.runtime.ledger import Ledger
from tests.runtime.uploads import claim, upload


def test_the_next_expiry_is_that_of_the_first_lease_of_both_pools(ledger: Ledger) -> None:
    assert ledger.next_expiry() == inf
    (job,) = ledger.accept(upload()).publish
    claim(ledger, job)
    assert 0 < ledger.next_expiry() <= 0.5
    ledger._redis.zadd("leases:embeddings", {"p": 1})
    assert ledger.next_expiry() == 0
