"""The book: what counts as lost, and the figures."""

import math

import pytest
from loadtests.book import IDLE, LOAD, Book, Search, Upload, percentile, without_nan


def upload(number: int = 1, **more: object) -> Upload:
    fields: dict[str, object] = {"due": 0.0, "ended": 2.0, "state": "READY", "chunks": 10} | more
    return Upload(
        "txt small vi", "a.txt", 100, 1, False, document_id=f"d{number}", task_id=f"t{number}", **fields
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "fate"),
    [
        ({}, "READY"),
        ({"state": "FAILED", "code": "no_text"}, "FAILED"),
        ({"state": "FAILED"}, "LOST"),
        ({"state": "REVOKED", "is_stopped": True}, "REVOKED"),
        ({"state": "REVOKED"}, "LOST"),
        ({"state": "READY", "is_stopped": True}, "LOST"),
        ({"state": "EMBEDDING", "ended": None}, "LOST"),
        ({"state": "", "ended": None}, "LOST"),
        ({"state": "MISSING"}, "LOST"),
    ],
)
def test_an_upload_is_lost_unless_it_ended_as_promised(seen: dict[str, object], fate: str) -> None:
    assert upload(**seen).fate == fate


def test_the_summary_counts_each_upload_once_and_seeds_only_when_lost() -> None:
    book = Book(
        uploads=[
            upload(1),
            upload(2, due=1.0, ended=9.0, chunks=30),
            upload(3, state="FAILED", code="no_text"),
            upload(4, state="REVOKED", is_stopped=True),
            upload(5, state="EMBEDDING", ended=None),
        ],
        given_up=7,
        late_s=0.5,
        searches=[Search(0.0, 10.0, IDLE), Search(1.0, 20.0, LOAD), Search(2.0, 40.0, LOAD)],
        refused=3,
        last_arrival=5.0,
    )
    seed = upload(6, due=-20.0, ended=-15.0, state="MISSING")
    seed.is_seed = True
    book.uploads.append(seed)
    found = book.summary(errors=4)
    assert (found.uploads, found.ready, found.failed, found.revoked, found.lost) == (5, 2, 1, 1, 2)
    assert (found.errors, found.refused, found.given_up, found.late_s, found.searches) == (4, 3, 7, 0.5, 2)
    assert (found.searchable_p50_s, found.searchable_p95_s) == (2.0, 8.0)
    assert (found.search_idle_p95_ms, found.search_p95_ms) == (10.0, 40.0)
    assert found.drain_s == 4.0
    assert found.docs_s == pytest.approx(2 / 9)
    assert found.chunks_s == pytest.approx(40 / 9)


def test_the_last_line_has_its_form() -> None:
    book = Book(uploads=[upload(1)], searches=[Search(0.0, 12.6, LOAD)])
    assert book.summary(errors=0).line("load") == (
        "load ok: uploads=1 errors=0 lost=0 searchable_p95_s=2.00 search_p95_ms=13 docs_s=0.50 chunks_s=5.0"
    )


def test_chunks_of_a_document_uploaded_again_are_copies_and_are_not_counted() -> None:
    again = upload(1, due=2.0, ended=4.0)
    again.version = 2
    found = Book(uploads=[upload(1), again]).summary(errors=0)
    assert (found.docs_s, found.chunks_s) == (0.5, 2.5)


@pytest.mark.parametrize(("ratio", "grown"), [(0.9, 0.0), (1.05, 2.0), (1.13, 5.2)])
def test_waits_of_a_rate_above_the_sustained_one_grow(ratio: float, grown: float) -> None:
    waits = [1.0 + at * max(ratio - 1, 0) for at in range(60)]
    uploads = [upload(at, due=float(at), ended=at + wait) for at, wait in enumerate(waits)]
    large = upload(99, due=50.5, ended=90.5)
    copies = [upload(100 + at, due=40.0 + at, ended=40.1 + at) for at in range(20)]
    for copy in copies:
        copy.version = 2
    found = Book(uploads=[*copies, large, *reversed(uploads)]).summary(errors=0)
    assert found.growth_s == pytest.approx(grown, abs=0.2)
    assert math.isnan(Book(uploads=uploads[:2]).summary(errors=0).growth_s)


def test_what_is_not_a_number_is_none_in_json() -> None:
    assert without_nan({"a": math.nan, "b": 1.5}) == {"a": None, "b": 1.5}


def test_without_anything_figures_are_no_numbers_and_not_good_ones() -> None:
    found = Book().summary(errors=0)
    assert math.isnan(found.searchable_p95_s)
    assert math.isnan(found.search_p95_ms)
    assert found.docs_s == 0


def test_a_document_is_balanced_by_its_last_upload() -> None:
    first, again, other = upload(1), upload(1, due=5.0), upload(2)
    assert Book(uploads=[first, other, again]).newest() == [again, other]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 10), (0.95, 19), (1.0, 20)])
def test_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile([*range(20, 0, -1)], share) == value
