"""Lanes whose encoder computes only when it is let, on a device whose memory the test is."""

import threading
import time
from collections.abc import Callable

import numpy as np

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.lane import Lane
from embedfleet.embeddings.memory import MemoryBudget, MemoryModel
from embedfleet.embeddings.sizing import Sizing
from embedfleet.encoders.base import OUT_OF_MEMORY

WAIT_SECONDS = 20
BAD, NOT_A_NUMBER, INFINITE = 666, 667, 668


class Room:
    """A device with so many bytes; a batch takes a byte a token, padding included."""

    def __init__(self, size: int = 1 << 40) -> None:
        self.size = size

    def total(self) -> int:
        return 1 << 40

    def free(self) -> int:
        return self.size

    def reserved(self) -> int:
        return 0


class Gated:
    """An encoder whose vectors are known, and that computes only when it is let.

    Attributes:
        batches: first ids of the rows of each batch.
        shapes: (rows, width) of each.
    """

    dim, max_tokens, multiple, streams = 3, 256, 1, 1
    model_key, provider, precision, device = "test", "cpu", "fp32", "cpu"

    def __init__(self, room: Room | None = None) -> None:
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.shapes: list[tuple[int, int]] = []
        self.given_back = 0
        self._room = room or Room()

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.batches.append(token_ids[:, 0].tolist())
        self.shapes.append((token_ids.shape[0], token_ids.shape[1]))
        self.started.release()
        assert self.go.acquire(timeout=WAIT_SECONDS)
        if token_ids.size > self._room.size:
            raise EmbeddingError("the device is full", code=OUT_OF_MEMORY)
        if BAD in token_ids:
            raise RuntimeError("this row breaks the encoder")
        vectors = np.repeat(token_ids[:, :1].astype(np.float32), 3, axis=1)
        vectors[token_ids[:, 0] == NOT_A_NUMBER, 1] = np.nan
        vectors[token_ids[:, 0] == INFINITE, 2] = -np.inf
        return vectors

    def give_back(self) -> None:
        self.given_back += 1

    def open(self) -> None:
        """Let it compute whatever comes."""
        for _ in range(10_000):
            self.go.release()


def sizing_of(
    encoder: Gated,
    cap: int = 64,
    room: Room | None = None,
    model: MemoryModel | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Sizing:
    """Return a sizing on the budget that a worker has; without `room` only the cap binds."""
    budget = MemoryBudget(model or MemoryModel(0, 1, 0), room or Room(), clock, cap)
    return Sizing(budget, encoder, overhead=10_000)


def lane_of(encoder: Gated, cap: int = 64, room: Room | None = None, **options: object) -> Lane:
    return Lane(encoder, sizing_of(encoder, cap, room, **options), pad_id=0)  # type: ignore[arg-type]


def busy(lane: Lane, encoder: Gated) -> None:
    """Put a batch in hand, so that what is submitted next waits together."""
    lane.submit("the first", [[0]])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
