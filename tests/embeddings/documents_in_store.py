"""A document that lives through generations: a real store, a real lane, an encoder of known vectors."""

import random
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from embedfleet.contracts.documents import Chunk, ChunkOptions, Document, qdrant_collection
from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import GenerateEmbeddings, Queue
from embedfleet.contracts.states import DocumentState, TaskState
from embedfleet.embeddings.engine import Engine
from embedfleet.embeddings.generation import Counts, GenerationWriter
from embedfleet.runtime.ledger.records import Claim, Task
from embedfleet.runtime.settings import EngineSettings
from embedfleet.runtime.worker.runs import Run, Stopped
from embedfleet.vectors import VectorStore
from embedfleet.vectors.points import equals

DIM = 8


def vector_of(ids: Sequence[int]) -> np.ndarray:
    """Return a unit vector that only these ids give."""
    dice = random.Random(bytes(ids))
    row = np.array([dice.gauss(0, 1) for _ in range(DIM)], np.float32)
    return row / np.linalg.norm(row)


class Bytes:
    """A tokenizer: the bytes of a text, at most 256 of them."""

    pad_id = 0

    def encode_chunks(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        rows = [list(text.encode()) for text in texts]
        return [row[:256] for row in rows], sum(len(row) > 256 for row in rows)


class KnownEncoder:
    """An encoder that counts its rows."""

    dim, max_tokens, multiple, streams = DIM, 256, 1, 1
    model_key, provider, device = "known", "cpu", "cpu"

    def __init__(self) -> None:
        self.precision = "fp32"
        self.rows = 0

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.rows += len(lengths)
        return np.stack([vector_of(row[:n].tolist()) for row, n in zip(token_ids, lengths, strict=True)])

    def give_back(self) -> None:
        """It keeps nothing."""


def engine_of(encoder: KnownEncoder, store: VectorStore) -> Engine:
    return Engine.start(encoder, Bytes(), store, EngineSettings(max_batch_tokens=512))


def chunks_of(texts: Sequence[str], first: int = 0) -> list[Chunk]:
    return [
        Chunk(
            index, text, start=10 * index, end=10 * index + len(text), token_count=len(text), page=index % 3
        )
        for index, text in enumerate(texts, first)
    ]


class StoredDocument:
    """One document; the test is its ledger.

    Attributes:
        hold: how the store is called; a test may put a failure there.
        draining: set, it stops the runs.
    """

    def __init__(self, engine: Engine, collection: str = "") -> None:
        self.engine, self.store = engine, engine.store
        self.generation = self.live_generation = 0
        self.metadata: dict[str, Any] = {}
        self.draining = threading.Event()
        self.id, self.collection = str(uuid.uuid4()), collection or uuid.uuid4().hex
        self.name = qdrant_collection("default", self.collection)
        self.hold: Callable[[Run, Callable[[], object]], object] = lambda run, call: call()

    def begin(self) -> None:
        """Begin a generation."""
        self.generation += 1
        self.metadata = {"revision": self.generation}

    def run(self, fence: int = 1) -> Run:
        document = Document(
            id=self.id,
            tenant="default",
            collection=self.collection,
            document_key="k",
            filename="k.txt",
            media_type="text",
            size_bytes=1,
            content_hash="",
            options=ChunkOptions(),
            metadata=self.metadata,
            model_key="known",
            state=DocumentState.EMBEDDING,
            generation=self.generation,
            live_generation=self.live_generation,
            task_id="d",
            blob="b",
            created_at=0,
            updated_at=0,
        )
        task = Task(
            id="t",
            name=GenerateEmbeddings.task_name,
            queue=str(Queue.EMBEDDINGS),
            tenant="default",
            document_id=self.id,
            generation=self.generation,
            state=TaskState.STARTED,
            stage="queued",
            fence=fence,
            owner="worker",
            attempt=1,
            parks=0,
            done=0,
            total=0,
            chunk_file="",
            result=None,
            error=None,
            created_at=0,
            started_at=0,
            completed_at=None,
            next_at=None,
        )
        return Run(Claim(task, document), self.draining, soft_limit=60)

    def write(self, chunks: Sequence[Chunk], fence: int = 1) -> Counts:
        writer = GenerationWriter(self.run(fence), self.hold, self.engine)
        return writer.write(chunks)

    def write_until_stopped(self, chunks: Sequence[Chunk], calls: int) -> bool:
        """Write as a worker does that dies at a call to the store; say whether it came that far."""
        left = calls

        def spend() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        def stop(run: Run, call: Callable[[], object]) -> None:
            if not spend():
                raise Stopped
            call()

        class Dying:
            def upsert(dying, *points: Any) -> None:
                if not spend():
                    raise DependencyDown("Qdrant", "q", "the worker is dying")
                self.store.upsert(*points)

        usual, self.hold = self.hold, stop
        self.engine.upserts._store = Dying()
        try:
            self.write(chunks)
        except Stopped:
            return True
        finally:
            self.hold, self.engine.upserts._store = usual, self.store
        return False

    def flip(self) -> None:
        """Make the newest generation the live one, and remove what is older."""
        self.live_generation = self.generation
        self.store.delete_generations(self.name, self.id, keep=self.generation, through=self.generation)

    def abandon(self) -> None:
        """Revoke the newest generation."""
        self.store.delete_generations(self.name, self.id, keep=self.live_generation, through=self.generation)

    def upload(self, texts: Sequence[str]) -> Counts:
        """Begin, write and flip."""
        self.begin()
        counts = self.write(chunks_of(texts))
        self.flip()
        return counts

    def assert_holds(self, texts: Sequence[str], precision: str = "fp32") -> None:
        """Check that the store has exactly the points of these chunks, each with its own vector."""
        mine = models.Filter(must=[equals("document_id", self.id)])
        points, following = self.store._client.scroll(self.name, mine, limit=10_000, with_vectors=True)
        assert following is None
        payloads = [point.payload or {} for point in points]
        assert sorted(each["chunk_index"] for each in payloads) == list(range(len(texts)))
        chunks = chunks_of(texts)
        for point, payload in zip(points, payloads, strict=True):
            chunk = chunks[payload["chunk_index"]]
            told = {key: payload[key] for key in ("text", "start", "end", "page", "generation", "metadata")}
            assert told == {
                "text": chunk.text,
                "start": chunk.start,
                "end": chunk.end,
                "page": chunk.page,
                "generation": self.live_generation,
                "metadata": {"revision": self.live_generation},
            }
            assert payload["precision"] == precision
            cosine = np.dot(np.array(point.vector, np.float64), vector_of(list(chunk.text.encode())))
            assert cosine >= 0.999999
