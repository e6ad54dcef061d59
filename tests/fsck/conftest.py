from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors.audit import PointAudit
from tests.fsck.house import COLLECTION, SETTINGS, House


@pytest.fixture
def house(empty_redis: RedisServer, qdrant_url: str, tmp_path: Path) -> Iterator[House]:
    """A fleet with nothing in it."""
    client, qdrant = connect(empty_redis.url), QdrantClient(url=qdrant_url, check_compatibility=False)
    for each in qdrant.get_collections().collections:
        qdrant.delete_collection(each.name)
    qdrant.close()
    store = PointAudit(VectorSettings(url=qdrant_url))
    store.ensure_collection(COLLECTION, 2)
    ledger = LedgerAudit(client, SETTINGS)
    ledger._durable_after = ledger._quiet_after = 0
    ledger.rebuilt(ledger.run_id())
    yield House(ledger, Blobs(tmp_path / "blobs"), store)
    store.close()
    client.close()
