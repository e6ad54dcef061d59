"""A part of a document's generation: its chunks become points, by the cheapest way for each.

==========  ==========================================================================================
skipped     an earlier run of this task has stored the point
reused      the live generation has a vector of the same text, model and precision: it is copied
embedded    all others go through the lane
==========  ==========================================================================================

A task's thread tokenises and submits a piece after the other, as far ahead as the lane has room for; what the
lane has done is stored behind its back, and the thread counts it.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from embedfleet.contracts.documents import Chunk, point_id, qdrant_collection, text_hash
from embedfleet.contracts.errors import FleetError, VectorStoreError
from embedfleet.embeddings import metrics, upserts
from embedfleet.embeddings.engine import Engine
from embedfleet.embeddings.submissions import Submission, Vectors, result_of
from embedfleet.embeddings.upserts import Points
from embedfleet.runtime import tracing
from embedfleet.runtime.worker.runs import Run

SLICE_CHUNKS = 32
REUSED_CHUNKS = 256
PATIENCE_SECONDS = 300.0
REMEMBERED_DOCUMENTS = 1024

_log = logging.getLogger(__name__)
_told_of_truncation: deque[tuple[str, int]] = deque(maxlen=REMEMBERED_DOCUMENTS)


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
        engine: encodes what is new and stores the points.
    """

    def __init__(self, run: Run, hold: Callable[[Run, Callable[[], object]], object], engine: Engine) -> None:
        self._run = run
        self._hold = hold
        self._engine = engine
        self._store = engine.store
        self._encoder = engine.lane.encoder
        self._submissions: list[Submission] = []
        self._written: deque[Points] = deque()  # in the order in which they were begun
        self._done = self._total = 0
        self.collection = qdrant_collection(run.document.tenant, run.document.collection)

    def write(self, chunks: Sequence[Chunk]) -> Counts:
        """Store a point for each chunk; those that are stored already stay as they are.

        Raises:
            DependencyDown: the vector store is down for longer than work is held, or the device's memory
                is in others' hands.
            VectorStoreError: it refuses the points.
            EmbeddingError: the encoder failed on these texts.
            Stopped: the run has to end; what was stored stays, and the next run skips it.
        """
        self._hold(self._run, lambda: self._store.ensure_collection(self.collection, self._encoder.dim))
        missing = self._missing(chunks)
        known = self._live_vectors(missing)
        kept, fresh = list[Chunk](), list[Chunk]()
        for chunk in missing:
            (kept if known and text_hash(chunk.text) in known else fresh).append(chunk)
        self._run.enter("encode", PATIENCE_SECONDS)
        self._advance(len(chunks) - len(missing), total=len(chunks))
        try:
            for piece in _slices(kept, REUSED_CHUNKS):
                self._copy(piece, np.stack([known[text_hash(chunk.text)] for chunk in piece]))
            for piece in _slices(fresh, SLICE_CHUNKS):
                self._embed(piece)
            while self._written:
                self._finish()
        finally:
            self._leave()
        return Counts(embedded=len(fresh), reused=len(kept), skipped=len(chunks) - len(missing))

    def _copy(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        points = self._begin(chunks)
        points.vectors = vectors
        self._engine.upserts.put(points)

    def _embed(self, chunks: Sequence[Chunk]) -> None:
        rows, truncated = self._engine.tokenizer.encode_chunks([chunk.text for chunk in chunks])
        if truncated:
            self._tell_of_truncation(truncated)
        points = self._begin(chunks)
        submission = self._engine.lane.submit(
            self._run.document.id, rows, [chunk.index for chunk in chunks], self._check_and_finish
        )
        self._submissions.append(submission)
        submission.future.add_done_callback(partial(self._pass_on, points))

    def _begin(self, chunks: Sequence[Chunk]) -> Points:
        points = Points(
            self.collection,
            [self._point(chunk) for chunk in chunks],
            [self._payload(chunk) for chunk in chunks],
            self._run.check,
            trace=tracing.context(),
        )
        self._written.append(points)
        return points

    def _pass_on(self, points: Points, vectors: "Future[Vectors]") -> None:
        """Hand what the lane has done to the writers; called on a thread of the lane."""
        try:
            points.vectors = vectors.result()
        except CancelledError:
            points.future.cancel()
        except FleetError as error:
            with suppress(InvalidStateError):  # its task has left
                points.future.set_exception(error)
        else:
            self._engine.upserts.put(points)

    def _finish(self) -> None:
        """Wait until the oldest points are stored, and count them."""
        points = self._written[0]
        if not result_of(points.future, self._check) and points.vectors is not None:
            self._hold(self._run, lambda: upserts.write(self._store, [points]))
        self._written.popleft()
        self._advance(len(points.ids), self._total)

    def _check_and_finish(self) -> None:
        self._check()
        while self._written and self._written[0].future.done():
            self._finish()

    def _leave(self) -> None:
        """See that nothing of this run is encoded or written any more."""
        for submission in self._submissions:
            self._engine.lane.cancel(submission)
        for points in self._written:
            points.cancel()

    def _tell_of_truncation(self, chunks: int) -> None:
        """Count chunks whose end is lost; log it once a document."""
        metrics.TRUNCATED.inc(chunks)
        document = (self._run.document.id, self._run.task.generation)
        if document not in _told_of_truncation:
            _told_of_truncation.append(document)
            _log.warning(
                "chunks are longer than the model's %d tokens and lose their end; upload the document again, "
                "and if this comes again, see that api and workers run the same version and FLEET_MODEL_ID",
                self._encoder.max_tokens,
            )

    def _missing(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        if self._run.claim.fence == 1:
            return chunks
        ids = [self._point(chunk) for chunk in chunks]
        stored: set[str] = set()
        self._hold(self._run, lambda: stored.update(self._store.stored(self.collection, ids)))
        return [chunk for chunk, point in zip(chunks, ids, strict=True) if point not in stored]

    def _live_vectors(self, chunks: Sequence[Chunk]) -> dict[str, Vectors]:
        """Return the vectors that the live generation has for these chunks' texts, by text hash."""
        document, encoder = self._run.document, self._encoder
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

    def _check(self) -> None:
        self._run.check()
        if self._engine.lane.holds_any(self._submissions, PATIENCE_SECONDS):
            raise self._run.stall_error()
        self._run.alive()  # rows of other tasks are before ours: to wait for them is no stall

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
            "precision": self._encoder.precision,
        }


def _slices(chunks: Sequence[Chunk], size: int) -> Iterator[Sequence[Chunk]]:
    return (chunks[at : at + size] for at in range(0, len(chunks), size))
