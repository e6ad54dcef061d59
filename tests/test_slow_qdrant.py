"""A collection that lets the janitor wait, while Qdrant itself answers."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from embedfleet import sparing
from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones
from tests.runtime.uploads import upload
from tests.test_janitor import COLLECTION, House, house

__all__ = ["house"]

TIMEOUT = 30


class SlowQdrant:
    """Lets everybody who asks for points of `name` wait for `TIMEOUT` seconds of a clock of its own."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.now, self.asked = COLLECTION, 0.0, list[tuple[str, str]]()
        self.is_down = False
        remove, ping = house.store.delete_generations, house.store.ping

        def delete(
            name: str, document_id: str, *, keep: int | None = None, through: int | None = None
        ) -> None:
            self.asked.append((name, document_id))
            if name == self.name:
                self.now += TIMEOUT
                raise DependencyDown("Qdrant", "there", "it didn't answer in time")
            remove(name, document_id, keep, through)

        def asked_to_ping() -> None:
            if self.is_down:
                raise DependencyDown("Qdrant", "there", "it didn't answer in time")
            ping()

        monkeypatch.setattr(house.store, "delete_generations", delete)
        monkeypatch.setattr(house.store, "ping", asked_to_ping)
        monkeypatch.setattr(sparing, "time", SimpleNamespace(monotonic=lambda: self.now))

    def taken(self) -> list[tuple[str, str]]:
        """Return who was asked for since the last time."""
        asked, self.asked = self.asked, []
        return asked


def deleted(house: House, document: Document) -> None:
    Tombstones(house.blobs).put(Tombstone.of(document))


def revoked(house: House, document: Document) -> None:
    house.take(document)
    house.ledger.revoke(document.tenant, document.task_id)


@pytest.mark.parametrize("end", [deleted, revoked])
def test_a_collection_that_does_not_answer_is_asked_once_and_holds_up_no_other(
    house: House, end: Callable[[House, Document], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        end(house, upload(f"t{number}", key=f"{number}.txt"))
    other = upload("other", key="other.txt").model_copy(update={"collection": "zoo"})
    end(house, other)
    house.janitor._interval = 0
    qdrant, looks = SlowQdrant(house, monkeypatch), list[int]()
    wake = house.janitor._wake
    monkeypatch.setattr(house.janitor, "_wake", lambda: (wake(), looks.append(len(qdrant.asked))))
    house.janitor.round()
    (first, *_), last = [one for one in qdrant.asked if one[0] == COLLECTION], ("default__zoo", other.id)
    assert sorted(qdrant.taken()) == sorted({first, last})
    assert 1 in looks, "tasks are woken right after it let the janitor wait"
    qdrant.now += sparing.COLLECTION_WAITS * TIMEOUT - TIMEOUT
    house.janitor.round()
    assert COLLECTION not in dict(qdrant.taken()), (
        "another janitor may have had the role: nothing is forgotten"
    )
    qdrant.now += TIMEOUT
    house.janitor.round()
    (again,) = [one for one in qdrant.taken() if one[0] == COLLECTION]
    assert again != first, "one document that takes too long holds up no other of its collection"
    qdrant.name = "no other"
    qdrant.now += sparing.DOCUMENT_WAITS * TIMEOUT
    house.janitor.round()
    assert len({one for one in qdrant.taken() if one[0] == COLLECTION}) == 6


def test_a_qdrant_that_was_down_for_all_is_asked_again_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = upload("t1", key="one.txt")
    deleted(house, document)
    qdrant = SlowQdrant(house, monkeypatch)
    qdrant.is_down = True
    with pytest.raises(DependencyDown):
        house.janitor.round()
    qdrant.is_down, qdrant.name = False, "no other"
    qdrant.taken()
    house.janitor.round()
    assert qdrant.taken() == [(COLLECTION, document.id)]
