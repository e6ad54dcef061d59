"""Finding chunks: the query's vector, and only hits of the generation that a document shows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.search import Hit
from embedfleet.encoders.base import Encoder, Vectors, load, pad
from embedfleet.encoders.models import locate
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import EngineSettings, ModelSettings
from embedfleet.vectors import Generation, ScoredChunk

FIRST_EXTRA = 10
MOST_POINTS = 2000
MOST_ROUNDS = 10
MOST_DEAD = 1000


@dataclass(frozen=True, slots=True)
class QueryEncoder:
    """Text to the vector to search with; thread-safe.

    Attributes:
        model_key: vectors can be compared with those of the same key only.
    """

    tokenizer: TextTokenizer
    encoder: Encoder
    model_key: str

    @classmethod
    def load(cls, model: ModelSettings, engine: EngineSettings) -> Self:
        """Load the model for ONNX Runtime in fp32 on the CPU, whatever the workers use.

        Raises:
            ConfigurationError: the model is missing or damaged.
        """
        # A query is one short row: reduced precision would gain nothing there.
        on_cpu = engine.model_copy(update={"backend": "onnx", "device": "cpu", "precision": "fp32"})
        encoder = load(model, on_cpu)
        return cls(TextTokenizer(locate(model, "onnx")), encoder, encoder.model_key)

    def encode(self, query: str) -> Vectors:
        """Return the query's vector: float32 ``[dim]``, of length 1.

        Raises:
            EmbeddingError: the model failed.
        """
        ids, lengths = pad([self.tokenizer.encode_query(query)], self.tokenizer.pad_id)
        vector: Vectors = self.encoder.encode(ids, lengths)[0]
        if not np.isfinite(vector).all():
            raise EmbeddingError("the model gave this query a vector that has no direction")
        return vector


def live_hits(
    search: Callable[[int, Collection[Generation]], Sequence[ScoredChunk]],
    live_generations: Callable[[Sequence[str]], dict[str, int]],
    limit: int,
) -> list[Hit]:
    """Return the best hits that readers may see, best first.

    Points of a dead generation (half written, replaced, or of a deleted document) take places. So the
    search is done again without the dead generations that it showed, up to `MOST_ROUNDS` times. What is
    live is read after each search, never before: all points of a generation are stored before it goes
    live, so one that went live since then has its points in the next round.

    Args:
        search: returns this many of the nearest points without those of some generations, or fewer where
            there are no more.
        live_generations: returns the live generation of those documents that have one.
        limit: hits wanted.
    """
    dead: set[Generation] = set()
    shown: list[ScoredChunk] = []
    wanted = limit + FIRST_EXTRA
    for _ in range(MOST_ROUNDS):
        points = search(wanted, dead)
        seen = dead | {_generation(point) for point in points}
        live = live_generations(sorted({document for document, _ in seen}))
        shown = [point for point in points if _is_live(_generation(point), live)]
        dead_now = {generation for generation in seen if not _is_live(generation, live)}
        enough = len(shown) >= limit and not _may_lack_points(dead, dead_now, live)
        if enough or dead_now == dead or len(dead_now) > MOST_DEAD:
            break
        dead, wanted = dead_now, min(2 * wanted, MOST_POINTS)
    return [_hit(point) for point in shown[:limit]]


def _may_lack_points(dead: set[Generation], dead_now: set[Generation], live: dict[str, int]) -> bool:
    """Say whether the search may have missed a live generation that went live after it.

    It left one out as dead that is live now, or showed points of one that a newer one replaced.
    """
    return not dead <= dead_now or any(number < live.get(document, 0) for document, number in dead_now - dead)


def _generation(point: ScoredChunk) -> Generation:
    return point.payload["document_id"], point.payload["generation"]


def _is_live(generation: Generation, live: dict[str, int]) -> bool:
    document, number = generation
    return live.get(document) == number


def _hit(point: ScoredChunk) -> Hit:
    return Hit.model_validate({**point.payload, "score": point.score})
