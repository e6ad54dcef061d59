import threading
from collections.abc import Iterator

import numpy as np
import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.engine import Lane

WAIT_SECONDS = 20


class Gated:
    """An encoder whose vectors are known, and that computes only when it is let."""

    dim, max_tokens, model_key, precision = 3, 256, "test", "fp32"

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.batches.append(token_ids[:, 0].tolist())
        self.started.release()
        assert self.go.acquire(timeout=WAIT_SECONDS)
        if 666 in token_ids:
            raise RuntimeError("this row breaks the encoder")
        return np.repeat(token_ids[:, :1].astype(np.float32), 3, axis=1)

    def memory(self) -> int:
        return 0


@pytest.fixture
def encoder() -> Gated:
    return Gated()


@pytest.fixture
def lane(encoder: Gated) -> Iterator[Lane]:
    lane = Lane(encoder, max_batch_tokens=64, pad_id=0)
    yield lane
    for _ in range(100):
        encoder.go.release()
    lane.close()


def busy(lane: Lane, encoder: Gated) -> None:
    """Put a batch in hand, so that what is submitted next waits together."""
    lane.submit("t0", [[0]])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)


def never() -> None:
    pass


def test_tasks_that_wait_share_a_batch_and_each_gets_its_own_vectors(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    first, second = lane.submit("t1", [[1], [2]]), lane.submit("t2", [[3]])
    encoder.go.release()
    encoder.go.release()
    assert first.wait(never)[:, 0].tolist() == [1, 2]
    assert second.wait(never)[:, 0].tolist() == [3]
    assert list(map(sorted, encoder.batches)) == [[0], [1, 2, 3]]


def test_no_rows_are_no_vectors(lane: Lane) -> None:
    assert lane.submit("t3", []).wait(never).shape == (0, 3)


def test_a_cancelled_task_takes_only_its_rows_along(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    leaving, staying = lane.submit("t4", [[1]]), lane.submit("t5", [[2]])

    def cancel() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        leaving.wait(cancel)
    encoder.go.release()
    encoder.go.release()
    assert staying.wait(never)[:, 0].tolist() == [2]
    assert encoder.batches == [[0], [2]]


def test_a_failing_batch_fails_its_tasks_and_the_lane_goes_on(lane: Lane, encoder: Gated) -> None:
    doomed = lane.submit("t6", [[666]])
    encoder.go.release()
    with pytest.raises(EmbeddingError, match="breaks the encoder"):
        doomed.wait(never)
    after = lane.submit("t7", [[5]])
    encoder.go.release()
    assert after.wait(never)[:, 0].tolist() == [5]


def test_a_bad_row_fails_its_own_task_and_not_its_neighbours(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    good, bad = lane.submit("good", [[1], [2]]), lane.submit("bad", [[666]])
    for _ in range(8):
        encoder.go.release()
    with pytest.raises(EmbeddingError, match="breaks the encoder"):
        bad.wait(never)
    assert good.wait(never)[:, 0].tolist() == [1, 2]


def test_a_small_task_is_not_starved_by_a_big_one(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    lane.submit("t8", [[7] * 16] * 400)
    small = lane.submit("t9", [[8] * 2])
    while 8 not in encoder.batches[-1]:
        encoder.go.release()
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert len(encoder.batches) <= 3
    encoder.go.release()
    assert small.wait(never)[:, 0].tolist() == [8]


def test_a_closed_lane_takes_nothing(encoder: Gated) -> None:
    lane = Lane(encoder, 64, pad_id=0)
    lane.close()
    with pytest.raises(EmbeddingError, match="closed"):
        lane.submit("t10", [[1]])
