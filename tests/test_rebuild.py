"""The comparison of Redis with the blobs: it comes to an end, whatever meets it on the way."""

import pytest

from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import pending_key
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import upload
from tests.test_janitor import House, house, make_old

__all__ = ["house"]


@pytest.mark.parametrize("what", ["deleted", "pending"])
def test_the_role_is_kept_while_much_is_read(
    house: House, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        document = upload(f"t{number}", key=f"{number}.txt")
        if what == "deleted":
            Tombstones(house.blobs).put(Tombstone.of(document))
        else:
            house.blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
            make_old(house.blobs, pending_key(document.task_id))
    janitor = Janitor(house.ledger, house.blobs, house.store, lambda jobs: None, LedgerSettings())
    janitor._interval = 0
    looks, reads = [], []
    wake, read = janitor._wake, house.blobs.read
    monkeypatch.setattr(janitor, "_wake", lambda: (wake(), looks.append(len(reads))))
    monkeypatch.setattr(house.blobs, "read", lambda kind, key: (reads.append(key), read(kind, key))[1])
    if what == "deleted":
        janitor._rebuild()
    else:
        janitor._take_up_pending()
    assert [number for number in range(9) if number not in looks] == [], "tasks are woken between any two"
