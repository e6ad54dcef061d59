"""Pages of lists: whatever comes and goes meanwhile, what is there all the while is met once."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.contracts.states import TaskState
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.views import Page, Place
from tests.runtime.uploads import claim, upload

ALL = list(TaskState)


def walk(ask: Callable[[Place | None], Page[Any]], most: int = 1000) -> Iterator[Page[Any]]:
    """Yield page after page."""
    after: Place | None = None
    for _ in range(most):
        page = ask(after)
        yield page
        after = page.following
        if after is None:
            return
    raise AssertionError("it doesn't end")


def ids(ask: Callable[[Place | None], Page[Any]]) -> list[str]:
    return [item.id for page in walk(ask) for item in page.items]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_put_together_are_the_list(ledger: Ledger, limit: int) -> None:
    for number in range(7):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
    claim(ledger, ProcessDocument(task_id="t3"))
    ledger.revoke("default", "t5")
    whole = ledger.tasks("default", ALL, 100)
    assert whole.following is None
    pages = list(walk(lambda after: ledger.tasks("default", ALL, limit, after)))
    assert [task.id for page in pages for task in page.items] == [task.id for task in whole.items]
    assert {len(page.items) for page in pages[:-1]} <= {limit}
    assert {page.total for page in pages} == {7}
    assert len(pages) == -(-7 // limit)
    documents = ids(lambda after: ledger.documents("default", "notes", limit, after))
    assert documents == [document.id for document in ledger.documents("default", None, 100).items]
    assert len(set(documents)) == 7


@pytest.mark.parametrize("limit", [1, 10, 150])
def test_entries_of_one_instant_are_met_once(ledger: Ledger, limit: int) -> None:
    """More of them than a read reaches beyond a page."""
    for number in range(200):
        ledger.accept(upload(f"t{number:03}", key=f"{number}.txt"))
    redis = ledger._redis
    for index in ("index:tasks:default:PENDING", "index:documents:default"):
        redis.zadd(index, dict.fromkeys(redis.zrange(index, 5, 194), 1e9))
    tasks = ids(lambda after: ledger.tasks("default", ALL, limit, after))
    assert (len(tasks), len(set(tasks))) == (200, 200)
    documents = ids(lambda after: ledger.documents("default", None, limit, after))
    assert (len(documents), len(set(documents))) == (200, 200)


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_is_met_once_while_others_come_and_go(ledger: Ledger, seed: int) -> None:
    dice = random.Random(seed)
    documents = [upload(f"t{number}", key=f"{number}.txt") for number in range(30)]
    for document in documents:
        ledger.accept(document)
    goes = dice.sample(documents, 8)
    stays = [document for document in documents if document not in goes]
    met, met_tasks = list[str](), list[str]()
    pages = walk(lambda after: ledger.documents("default", "notes", dice.randint(1, 4), after))
    for number, page in enumerate(pages):
        met += [document.id for document in page.items]
        ledger.accept(upload(f"new{number}", key=f"new {number}"))
        again = dice.choice(stays)
        ledger.accept(upload(f"again{number}", key=again.document_key, content=f"newer {number}"))
        if goes:
            gone = goes.pop()
            ledger.delete("default", gone.id, 1)
    assert len(met) == len(set(met))
    assert {document.id for document in stays} <= set(met)
    assert not any(ledger.task("default", f"new{number}") is None for number in range(3))

    still = {task.id for task in ledger.tasks("default", [TaskState.PENDING], 1000).items}
    pages = walk(lambda after: ledger.tasks("default", [TaskState.PENDING], dice.randint(1, 4), after))
    for number, page in enumerate(pages):
        met_tasks += [task.id for task in page.items]
        ledger.accept(upload(f"later{number}", key=f"later {number}"))
        if number % 3 == 0:
            started = dice.choice(sorted(still))
            still.remove(started)
            claim(ledger, ProcessDocument(task_id=started))
    assert len(met_tasks) == len(set(met_tasks))
    assert still <= set(met_tasks)
    assert not any(each.startswith("later") for each in met_tasks)


def test_a_place_whose_entry_is_gone_is_still_a_place(ledger: Ledger) -> None:
    for number in range(4):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
    first = ledger.documents("default", None, 2)
    assert first.following
    ledger.delete("default", first.following.id, 1)
    rest = ledger.documents("default", None, 2, first.following)
    assert [document.document_key for document in rest.items] == ["1.txt", "0.txt"]
    assert rest.following is None


def test_a_page_far_behind_reads_no_more_than_the_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._redis.zadd("index:documents:default", {f"d{number:05}": number for number in range(20_000)})
    read = []
    rows = Ledger._rows
    monkeypatch.setattr(Ledger, "_rows", lambda self, keys: read.append(len(keys)) or rows(self, keys))
    ledger._redis.config_resetstat()
    ledger.documents("default", None, 10, Place(10_000.0, "d10000"))
    asked = ledger._redis.info("commandstats")
    assert read == [10]
    assert asked["cmdstat_zrevrangebyscore"]["calls"] == 1
