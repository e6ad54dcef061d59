"""What passes between a worker and a sandbox child: length-prefixed JSON, bounded and validated.

Four bytes (big-endian) of length, then UTF-8. The child is not trusted: the worker reads no more than
`MAX_REPLY_BYTES` a frame and takes nothing that these models don't allow.
"""

import struct
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from embedfleet.contracts.documents import Chunk, ChunkOptions

MAX_REQUEST_BYTES = 65_536
MAX_REPLY_BYTES = 8_000_000
HEADER = struct.Struct(">I")

# Said by the child that runs out, or by the worker that finds it dead.
MEMORY_DETAIL = (
    "Reading the file takes more memory than a file may have; split it, or raise FLEET_SANDBOX_MEMORY."
)


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Config(_Frame):
    """The first frame to a child: how it is to live.

    Attributes:
        tokenizer: path of the model's tokenizer.json.
        max_tokens: what the model takes, special tokens included.
        memory_bytes: address space.
        limits: fields of `parsers.Limits`.
    """

    tokenizer: str
    max_tokens: int
    memory_bytes: int
    limits: dict[str, int]


class Request(_Frame):
    """A file to read, whose open descriptor comes along; `cpu_seconds` is armed for this file alone."""

    extension: str
    options: ChunkOptions
    cpu_seconds: int


class Ready(_Frame):
    """The child waits for files.

    Attributes:
        sealed: the kernel keeps it from network, writing, signals and new processes.
        hidden: the kernel keeps it from opening other files than the interpreter's.
    """

    kind: Literal["ready"] = "ready"
    sealed: bool
    hidden: bool


class Taken(_Frame):
    """The child has the request and the open file: from here on its death is the file's."""

    kind: Literal["taken"] = "taken"


class Working(_Frame):
    """Pages or parts that are done."""

    kind: Literal["working"] = "working"
    done: int = Field(ge=0, le=1 << 40)
    total: int = Field(ge=0, le=1 << 40)


class Chunks(_Frame):
    """Some chunks, in order."""

    kind: Literal["chunks"] = "chunks"
    chunks: list[Chunk] = Field(max_length=100_000)


class Done(_Frame):
    """All chunks were sent; `retire`: the child has grown and should be replaced."""

    kind: Literal["done"] = "done"
    pages: int | None
    pages_without_text: int = Field(default=0, ge=0)
    chunk_size_effective: int = Field(ge=1)
    chunk_count: int = Field(ge=1)
    retire: bool = False


class Failed(_Frame):
    """The file can't be read; `code` is one of DOCUMENT_CODES, or `os_error` or `start`."""

    kind: Literal["failed"] = "failed"
    code: str = Field(max_length=40)
    detail: str = Field(max_length=1_000)
    retire: bool = False


Reply = Ready | Taken | Working | Chunks | Done | Failed
_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])


def pack(frame: BaseModel) -> bytes:
    """Return a frame's bytes, header first."""
    body = frame.model_dump_json().encode("utf-8")
    return HEADER.pack(len(body)) + body


def parse_reply(body: bytes) -> Reply:
    """Return a child's frame.

    Raises:
        pydantic.ValidationError: it is none of ours.
    """
    return _REPLY.validate_json(body)


def read_exactly(read: Callable[[int], bytes], size: int) -> bytes | None:
    """Read so many bytes; None when the stream ends first."""
    parts = []
    while size:
        part = read(size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_request(read: Callable[[int], bytes]) -> bytes | None:
    """Read the body of a worker's frame; None at the end of the stream.

    Raises:
        ValueError: a length beyond `MAX_REQUEST_BYTES`.
    """
    header = read_exactly(read, HEADER.size)
    if header is None:
        return None
    (size,) = HEADER.unpack(header)
    if size > MAX_REQUEST_BYTES:
        raise ValueError(f"a frame of {size} bytes")
    return read_exactly(read, size)
