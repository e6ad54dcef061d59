"""Documents, chunks, and the ids that make every write idempotent."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedfleet.contracts.states import DocumentState

NAMESPACE = uuid.UUID("6f1d3f6e-2a0c-5c39-9a52-6b8f0c1e7d34")
COLLECTION_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$"
TENANT_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
MEDIA_TYPES: dict[str, str] = {".pdf": "pdf", ".docx": "docx", ".txt": "text", ".md": "markdown"}

ChunkerType = Literal["sentence", "token", "markdown"]


def document_id(tenant: str, collection: str, document_key: str) -> str:
    """Return the id of a document: the same for the same tenant, collection and key."""
    return str(uuid.uuid5(NAMESPACE, "\n".join((tenant, collection, document_key))))


def point_id(document: str, generation: int, chunk_index: int) -> str:
    """Return the id of a chunk's point: a redelivered task writes the same points again."""
    return str(uuid.uuid5(uuid.UUID(document), f"{generation}:{chunk_index}"))


def text_hash(text: str) -> str:
    """Return the sha256 (hex) of a chunk's text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def qdrant_collection(tenant: str, collection: str) -> str:
    """Return the Qdrant collection that holds a tenant's collection."""
    return f"{tenant}__{collection}"


class ChunkOptions(BaseModel):
    """How a document is cut. Sizes are in characters, or in tokens for the chunker `token`."""

    model_config = ConfigDict(frozen=True)

    chunk_size: int = Field(1000, ge=50, le=8000)
    chunk_overlap: int = Field(200, ge=0)
    chunker_type: ChunkerType = "sentence"

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError(
                f"chunk_overlap ({self.chunk_overlap}) must be smaller than chunk_size ({self.chunk_size})"
            )
        return self


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's cleaned text.

    Attributes:
        index: position among the document's chunks, from 0.
        text: the text that is embedded and shown in hits.
        start: offset of the first character in the cleaned text.
        end: offset behind the last character.
        token_count: tokens of the model, special tokens included.
        page: page of the first character, from 1; None where the format has no pages.
        heading: the nearest heading above, or None.
    """

    index: int
    text: str
    start: int
    end: int
    token_count: int
    page: int | None = None
    heading: str | None = None


class Document(BaseModel):
    """A document's record in the ledger; state and sizes are those of its newest generation.

    `live_generation` is the one that search shows: 0 until the first generation is READY. Times are
    seconds since the epoch by Redis' clock; `uploaded_at` is when the API took this generation's file.
    `uploaded_by` is the name of the API key that this generation came with.
    """

    id: str
    tenant: str
    collection: str
    document_key: str
    filename: str
    media_type: str
    size_bytes: int
    content_hash: str
    options: ChunkOptions
    metadata: dict[str, Any] = Field(default_factory=dict)
    model_key: str
    state: DocumentState
    generation: int = 1
    live_generation: int = 0
    task_id: str
    blob: str
    chunk_count: int | None = None
    chunks_done: int = 0
    error: dict[str, Any] | None = None
    created_at: float
    updated_at: float
    ready_at: float | None = None
    uploaded_at: float = 0.0
    uploaded_by: str = "default"
