"""Which points become hits: pure, on lists of points in place of a vector store."""

from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.api.retrieval import FIRST_EXTRA, MOST_DEAD, MOST_POINTS, MOST_ROUNDS, live_hits
from embedfleet.vectors import Generation, ScoredChunk

GENERATIONS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=300)


def point(number: int, document: str, generation: int) -> ScoredChunk:
    payload = {
        "document_id": document,
        "generation": generation,
        "chunk_index": number,
        "text": f"text {number}",
        "filename": f"{document}.txt",
        "page": None,
        "metadata": {"a": 1},
        "model_key": "m",
    }
    return ScoredChunk(1 - number / 10_000, payload)


class Points:
    """A vector store that holds points in the order of their scores, and a ledger.

    Attributes:
        asked: how many points each search wanted.
    """

    def __init__(self, stored: Sequence[Generation], live: dict[str, int]) -> None:
        self.stored = list(stored)
        self.live = live
        self.asked: list[int] = []

    def search(self, wanted: int, without: Collection[Generation]) -> list[ScoredChunk]:
        self.asked.append(wanted)
        points = (point(number, *pair) for number, pair in enumerate(self.stored) if pair not in without)
        return [each for each, _ in zip(points, range(wanted), strict=False)]

    def live_generations(self, ids: Sequence[str]) -> dict[str, int]:
        return {document: self.live[document] for document in ids if document in self.live}

    def hits(self, limit: int) -> list[int]:
        """Return the numbers of the points that `live_hits` shows."""
        return [hit.chunk_index for hit in live_hits(self.search, self.live_generations, limit)]


@given(GENERATIONS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)), st.integers(1, 20))
def test_hits_are_the_best_of_the_live_generations(
    stored: list[Generation], live: dict[str, int], limit: int
) -> None:
    expected = [
        number for number, (document, generation) in enumerate(stored) if live.get(document) == generation
    ]
    assert Points(stored, live).hits(limit) == expected[:limit]


def test_one_search_is_enough_where_all_is_live() -> None:
    points = Points([("a", 1)] * 100, {"a": 1})
    assert points.hits(5) == [0, 1, 2, 3, 4]
    assert points.asked == [5 + FIRST_EXTRA]


def test_a_half_written_document_of_any_size_hides_nothing() -> None:
    points = Points([("big", 1)] * 5000 + [("small", 1)] * 5, {"small": 1})
    assert points.hits(5) == [5000, 5001, 5002, 5003, 5004]
    assert len(points.asked) == 2


def test_hundreds_of_half_written_documents_hide_nothing() -> None:
    stored = [(f"half {number // 10}", 1) for number in range(4000)]
    points = Points([*stored, ("small", 1)], {"small": 1})
    assert points.hits(5) == [4000]
    assert len(points.asked) <= MOST_ROUNDS


@pytest.mark.parametrize("each", [1, 1000])
def test_rounds_and_exclusions_are_bounded(each: int) -> None:
    class Endless(Points):
        excluded = 0

        def search(self, wanted: int, without: Collection[Generation]) -> list[ScoredChunk]:
            self.asked.append(wanted)
            self.excluded = len(without)
            first = len(self.asked) * MOST_POINTS
            return [point(0, f"half {(first + number) // each}", 1) for number in range(wanted)]

    points = Endless([], {})
    assert points.hits(100) == []
    assert len(points.asked) <= MOST_ROUNDS
    assert max(points.asked) <= MOST_POINTS
    assert points.excluded <= MOST_DEAD


@pytest.mark.parametrize("others", [0, 50])
@pytest.mark.parametrize("limit", [1, 20])
@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_flip_after_any_search_loses_no_ready_document(moment: int, limit: int, others: int) -> None:
    """Generation 2 of `a` is stored half before the first search, and whole and live after a later one."""

    class Flipping(Points):
        def live_generations(self, ids: Sequence[str]) -> dict[str, int]:
            if len(self.asked) == moment:
                self.stored[2:2] = [("a", 2)]
                self.live["a"] = 2
            return super().live_generations(ids)

    stored = [("a", 1), ("a", 2), ("half", 1), ("half", 2), *[("other", 1)] * others]
    points = Flipping(stored, {"a": 1, "other": 1})
    hits = live_hits(points.search, points.live_generations, limit)
    flipped = len(points.asked) >= moment
    first = [hit for hit in hits if hit.document_id == "a"]
    assert hits[0].document_id == "a"
    assert len(first) == (min(2, limit) if flipped else 1)
    assert len(hits) == min(limit, len(first) + others)


def test_a_hit_shows_what_the_contract_says() -> None:
    hit = live_hits(lambda wanted, without: [point(0, "a", 1)], lambda ids: {"a": 1}, 1)[0]
    assert hit.model_dump() == {
        "score": pytest.approx(1),
        "text": "text 0",
        "document_id": "a",
        "filename": "a.txt",
        "chunk_index": 0,
        "page": None,
        "heading": None,
        "metadata": {"a": 1},
    }
