"""The engine of an embedding worker, put together in the order that chunks flow through it.

task threads: `tokenizer` → `lane.submit` ┄ lane threads: batches, `encoder` ┄ writers: `upserts` → store
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from embedfleet.embeddings.lane import Lane
from embedfleet.embeddings.sizing import measured
from embedfleet.embeddings.upserts import Upserts
from embedfleet.encoders.base import Encoder
from embedfleet.runtime.settings import EngineSettings
from embedfleet.vectors import VectorStore


class Tokenizer(Protocol):
    """Cuts texts into the model's token ids; safe for all task threads at once."""

    pad_id: int

    def encode_chunks(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Return one row of ids a text, and how many texts were too long and lost their end."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """What all tasks of a worker share."""

    tokenizer: Tokenizer
    lane: Lane
    upserts: Upserts
    store: VectorStore

    @classmethod
    def start(
        cls, encoder: Encoder, tokenizer: Tokenizer, store: VectorStore, settings: EngineSettings
    ) -> "Engine":
        """Probe the encoder and start the threads.

        Raises:
            ConfigurationError: the device's memory can't be read, or is too little.
            EmbeddingError: the encoder failed on a probe.
        """
        lane = Lane(encoder, measured(encoder, settings), tokenizer.pad_id)
        return cls(tokenizer, lane, Upserts(store), store)

    def close(self) -> None:
        """Stop after the batches and the requests in hand."""
        self.lane.close()
        self.upserts.close()
