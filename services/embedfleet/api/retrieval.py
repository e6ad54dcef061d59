"""Finding chunks: the query's vector, and only hits of the generation that a document shows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from embedfleet.contracts.search import Hit
from embedfleet.encoders.base import Encoder, Vectors, build, pad
from embedfleet.encoders.models import locate, verify
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import EngineSettings, ModelSettings
from embedfleet.vectors import ScoredChunk

FIRST_EXTRA = 10
MOST_POINTS = 2000


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
        """Load the model for ONNX Runtime on the CPU, whatever the workers use.

        Raises:
            ConfigurationError: the model is missing or damaged.
        """
        files = locate(model, "onnx")
        verify(files)
        on_cpu = engine.model_copy(update={"backend": "onnx", "device": "cpu"})
        return cls(TextTokenizer(files), build(files, on_cpu), files.model_key)

    def encode(self, query: str) -> Vectors:
        """Return the query's vector: float32 ``[dim]``, of length 1.

        Raises:
            EmbeddingError: the model failed.
        """
        ids, lengths = pad([self.tokenizer.encode_query(query)], self.tokenizer.pad_id)
        vector: Vectors = self.encoder.encode(ids, lengths)[0]
        return vector


def live_hits(
    search: Callable[[int], Sequence[ScoredChunk]],
    live_generations: Callable[[Sequence[str]], dict[str, int]],
    limit: int,
) -> list[Hit]:
    """Return the best hits that readers may see, best first.

    Points of a generation that isn't live (half written, or replaced and not yet deleted) take
    places, so more is asked for, twice as much each time, up to `MOST_POINTS`.

    Args:
        search: returns this many of the nearest points, or fewer where there are no more.
        live_generations: returns the live generation of those documents that have one.
        limit: hits wanted.
    """
    live: dict[str, int] = {}
    wanted = limit + FIRST_EXTRA
    while True:
        points = search(wanted)
        unknown = {point.payload["document_id"] for point in points} - live.keys()
        live |= dict.fromkeys(unknown, 0) | live_generations(sorted(unknown))
        hits = [_hit(point) for point in _shown(points, live)]
        if len(hits) >= limit or len(points) < wanted or wanted >= MOST_POINTS:
            return hits[:limit]
        wanted = min(2 * wanted, MOST_POINTS)


def _shown(points: Iterable[ScoredChunk], live: dict[str, int]) -> Iterable[ScoredChunk]:
    return (point for point in points if live[point.payload["document_id"]] == point.payload["generation"])


def _hit(point: ScoredChunk) -> Hit:
    return Hit.model_validate({**point.payload, "score": point.score})
