import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.api.retrieval import MOST_POINTS, live_hits
from embedfleet.vectors import ScoredChunk

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


@given(GENERATIONS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)), st.integers(1, 20))
def test_hits_are_the_best_of_the_live_generations(
    stored: list[tuple[str, int]], live: dict[str, int], limit: int
) -> None:
    points = [point(number, *pair) for number, pair in enumerate(stored)]
    hits = live_hits(
        lambda wanted: points[:wanted], lambda ids: {i: live[i] for i in ids if i in live}, limit
    )
    expected = [
        number for number, (document, generation) in enumerate(stored) if live.get(document) == generation
    ]
    assert [hit.chunk_index for hit in hits] == expected[:limit]


def test_more_is_fetched_while_dead_points_take_the_places() -> None:
    points = [point(number, "a", 1) for number in range(100)] + [point(100, "a", 2)]
    asked: list[int] = []

    def search(wanted: int) -> list[ScoredChunk]:
        asked.append(wanted)
        return points[:wanted]

    hits = live_hits(search, lambda ids: dict.fromkeys(ids, 2), 1)
    assert [hit.chunk_index for hit in hits] == [100]
    assert asked == [11, 22, 44, 88, 176]


def test_fetching_more_is_bounded() -> None:
    asked: list[int] = []

    def search(wanted: int) -> list[ScoredChunk]:
        asked.append(wanted)
        return [point(number, "a", 1) for number in range(wanted)]

    assert live_hits(search, lambda ids: {}, 100) == []
    assert asked[-1] == MOST_POINTS
    assert len(asked) < 8


def test_a_live_generation_is_asked_for_once() -> None:
    asked: list[str] = []

    def live(ids: list[str]) -> dict[str, int]:
        asked.extend(ids)
        return {}

    points = [point(number, "ab"[number % 2], 1) for number in range(200)]
    live_hits(lambda wanted: points[:wanted], live, 1)  # type: ignore[arg-type]
    assert sorted(asked) == ["a", "b"]


def test_a_hit_shows_what_the_contract_says() -> None:
    hit = live_hits(lambda wanted: [point(0, "a", 1)], lambda ids: {"a": 1}, 1)[0]
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
