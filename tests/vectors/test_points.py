"""Bodies are bounded and hold what was given; what can't be stored or asked for is refused."""

import math
import uuid

import numpy as np
import orjson
import pytest

from embedfleet.contracts.errors import InvalidRequest, VectorStoreError
from embedfleet.vectors.points import metadata_equals, of_document, upsert_bodies

IDS = [str(uuid.UUID(int=n)) for n in range(50)]


def test_bodies_are_bounded_and_hold_every_point_once() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    payloads = [{"text": "x" * 40 * n} for n in range(50)]
    bodies = list(upsert_bodies(IDS, vectors, payloads, limit=3000))
    assert len(bodies) > 10
    assert max(map(len, bodies)) <= 3000 + len('{"points":[]}')
    points = [point for body in bodies for point in orjson.loads(body)["points"]]
    assert [point["id"] for point in points] == IDS
    assert [point["payload"] for point in points] == payloads
    assert np.array_equal(np.array([point["vector"] for point in points], np.float32), vectors)


def test_a_point_over_the_limit_goes_alone_and_no_points_make_no_body() -> None:
    bodies = list(upsert_bodies(IDS[:3], np.ones((3, 2), np.float32), [{}, {"t": "x" * 99}, {}], limit=60))
    assert [len(orjson.loads(body)["points"]) for body in bodies] == [1, 1, 1]
    assert list(upsert_bodies([], np.ones((0, 2), np.float32), [])) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_vectors_that_are_no_numbers_are_refused(bad: float) -> None:
    vectors = np.ones((2, 3), np.float32)
    vectors[1, 2] = bad
    with pytest.raises(VectorStoreError) as caught:
        list(upsert_bodies(IDS[:2], vectors, [{}, {}]))
    assert caught.value.code == "bad_vector"


@pytest.mark.parametrize("bad", ["\ud800", 2**70, object()])
def test_payloads_that_are_no_json_are_refused(bad: object) -> None:
    with pytest.raises(VectorStoreError) as caught:
        list(upsert_bodies(IDS[:1], np.ones((1, 3), np.float32), [{"metadata": {"k": bad}}]))
    assert caught.value.code == "bad_payload"
    assert IDS[0] in caught.value.detail


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(upsert_bodies(IDS[:2], np.ones((2, 3), np.float32), [{}]))


@pytest.mark.parametrize(("key", "value"), [("", 1), ('a"b', 1), ("a", 2**63), ("a", -(2**63) - 1)])
def test_what_can_not_be_asked_for_is_refused(key: str, value: int) -> None:
    with pytest.raises(InvalidRequest, match="can't be filtered by"):
        metadata_equals(key, value)


def test_generation_zero_is_kept_like_any_other() -> None:
    assert of_document("d", keep=0, through=0).must_not is not None
    assert of_document("d", keep=None, through=None).must_not is None
