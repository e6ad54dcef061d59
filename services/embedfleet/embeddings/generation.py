"""A part of a document's generation: its chunks become points, by the cheapest way for each.

==========  ==========================================================================================
skipped     an earlier run of this task has stored the point
reused      the live generation has a vector of the same text, model and precision: it is copied
embedded    all others go through the lane
==========  ==========================================================================================
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from embedfleet.contracts.documents import Chunk, point_id, qdrant_collection, text_hash
from embedfleet.contracts.errors import VectorStoreError
from embedfleet.embeddings.engine import Lane, Submission, Vectors
from embedfleet.runtime.worker.runs import Run
from embedfleet.vectors import VectorStore

SLICE_CHUNKS = 32
REUSED_CHUNKS = 256
PATIENCE_SECONDS = 300.0

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """Cuts texts into the model's token ids."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return one row of ids a text."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many chunks became points, and how."""

    embedded: int
    reused: int
    skipped: int


class GenerationWriter:
    """Writes the points of one run's chunks.

    Args:
        run: the claimed task; told of progress, asked whether it may go on.
        hold: calls the vector store, and again while it is down (`Worker.hold`).
        store: where the points go, and where those of the live generation are.
        lane: encodes what is new.
        tokenizer: of the lane's model.
    """

    def __init__(
        self,
        run: Run,
        hold: Callable[[Run, Callable[[], object]], object],
        store: VectorStore,
        lane: Lane,
        tokenizer: Tokenizer,
    ) -> None:
        self._run = run
        self._hold = hold
        self._store = store
        self._lane = lane
        self._tokenizer = tokenizer
        self._done = self._total = 0
        self.collection = qdrant_collection(run.document.tenant, run.document.collection)

    def write(self, chunks: Sequence[Chunk]) -> Counts:
        """Store a point for each chunk; those that are stored already stay as they are.

        Raises:
            DependencyDown: the vector store is down for longer than work is held.
            VectorStoreError: it refuses the points.
            EmbeddingError: the encoder failed on these texts.
            Stopped: the run has to end; what was stored stays, and the next run skips it.
        """
        self._hold(self._run, lambda: self._store.ensure_collection(self.collection, self._lane.encoder.dim))
        missing = self._missing(chunks)
        known = self._live_vectors(missing)
        kept = [chunk for chunk in missing if text_hash(chunk.text) in known]
        fresh = [chunk for chunk in missing if text_hash(chunk.text) not in known]
        self._run.enter("encode", PATIENCE_SECONDS)
        self._advance(len(chunks) - len(missing), total=len(chunks))
        # All are submitted at once: while points are stored the lane encodes the next.
        submissions = [(piece, self._submit(piece)) for piece in _slices(fresh, SLICE_CHUNKS)]
        try:
            for piece in _slices(kept, REUSED_CHUNKS):
                self._upsert(piece, np.stack([known[text_hash(chunk.text)] for chunk in piece]))
            for piece, submission in submissions:
                self._upsert(piece, submission.wait(self._check))
        finally:
            for _, submission in submissions:
                submission.future.cancel()
        return Counts(embedded=len(fresh), reused=len(kept), skipped=len(chunks) - len(missing))

    def _missing(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        if self._run.claim.fence == 1:
            return chunks
        ids = [self._point(chunk) for chunk in chunks]
        stored: set[str] = set()
        self._hold(self._run, lambda: stored.update(self._store.stored(self.collection, ids)))
        return [chunk for chunk, point in zip(chunks, ids, strict=True) if point not in stored]

    def _live_vectors(self, chunks: Sequence[Chunk]) -> dict[str, Vectors]:
        """Return the vectors that the live generation has for these chunks' texts, by text hash."""
        document, encoder = self._run.document, self._lane.encoder
        if not chunks or not document.live_generation:
            return {}
        hashes = [text_hash(chunk.text) for chunk in chunks]
        found: dict[str, Vectors] = {}

        def look() -> None:
            found.update(
                self._store.vectors_by_hash(
                    self.collection,
                    document.id,
                    document.live_generation,
                    document.model_key,
                    encoder.precision,
                    hashes,
                )
            )

        try:
            self._hold(self._run, look)
        except VectorStoreError as error:
            # Embedding them gives the same points, only later.
            _log.warning("no vectors are reused: %s", error)
        return {each: vector for each, vector in found.items() if vector.shape == (encoder.dim,)}

    def _submit(self, chunks: Sequence[Chunk]) -> Submission:
        texts = [chunk.text for chunk in chunks]
        return self._lane.submit(self._run.document.id, self._tokenizer.encode(texts))

    def _check(self) -> None:
        self._run.check()
        if self._lane.busy_seconds < PATIENCE_SECONDS:
            self._run.alive()  # rows of other tasks are before ours; only a hung lane is a stall

    def _upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        ids = [self._point(chunk) for chunk in chunks]
        payloads = [self._payload(chunk) for chunk in chunks]
        self._hold(self._run, lambda: self._store.upsert(self.collection, ids, vectors, payloads))
        self._advance(len(chunks), self._total)

    def _advance(self, chunks: int, total: int) -> None:
        self._done, self._total = self._done + chunks, total
        self._run.progress(self._done, total)

    def _point(self, chunk: Chunk) -> str:
        return point_id(self._run.document.id, self._run.task.generation, chunk.index)

    def _payload(self, chunk: Chunk) -> dict[str, Any]:
        document = self._run.document
        return {
            "document_id": document.id,
            "generation": self._run.task.generation,
            "chunk_index": chunk.index,
            "text_hash": text_hash(chunk.text),
            "text": chunk.text,
            "filename": document.filename,
            "page": chunk.page,
            "heading": chunk.heading,
            "start": chunk.start,
            "end": chunk.end,
            "metadata": document.metadata,
            "model_key": document.model_key,
            "precision": self._lane.encoder.precision,
        }


def _slices(chunks: Sequence[Chunk], size: int) -> Iterator[Sequence[Chunk]]:
    return (chunks[at : at + size] for at in range(0, len(chunks), size))
