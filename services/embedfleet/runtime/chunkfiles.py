"""Chunk files: what a document task leaves in the blobs for one embedding task.

zstd-compressed JSON lines, one `Chunk` a line, in order of index.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict

import zstandard

from embedfleet.contracts.documents import Chunk

MAX_INFLATED_BYTES = 1 << 30


def pack(chunks: Iterable[Chunk]) -> bytes:
    """Return the file for these chunks."""
    lines = (json.dumps(asdict(chunk), ensure_ascii=False, separators=(",", ":")) for chunk in chunks)
    return zstandard.ZstdCompressor(level=3).compress("\n".join(lines).encode("utf-8", "surrogatepass"))


def unpack(data: bytes) -> list[Chunk]:
    """Return the chunks of a file.

    Raises:
        zstandard.ZstdError: the file is damaged, or inflates beyond `MAX_INFLATED_BYTES`.
    """
    stated = zstandard.frame_content_size(data)  # which overrides max_output_size
    if stated > MAX_INFLATED_BYTES:
        raise zstandard.ZstdError(f"a chunk file of more than {MAX_INFLATED_BYTES} bytes")
    text = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_INFLATED_BYTES)
    return [Chunk(**json.loads(line)) for line in text.decode("utf-8", "surrogatepass").split("\n") if line]
