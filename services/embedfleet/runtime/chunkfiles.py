"""Chunk files: what a document task leaves in the blobs for one embedding task.

zstd-compressed JSON lines, one `Chunk` a line, in order of index.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from embedfleet.contracts.documents import Chunk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_INFLATED_BYTES = 1 << 30


def pack(chunks: Iterable[Chunk]) -> bytes:
    """Return the file for these chunks."""
    lines = (json.dumps(asdict(chunk), ensure_ascii=False, separators=(",", ":")) for chunk in chunks)
    return zstd.compress("\n".join(lines).encode("utf-8", "surrogatepass"))


def unpack(data: bytes) -> list[Chunk]:
    """Return the chunks of a file.

    Raises:
        zstd.ZstdError: the file is damaged, or inflates beyond `MAX_INFLATED_BYTES`.
    """
    file = zstd.ZstdDecompressor()
    text = file.decompress(data, max_length=MAX_INFLATED_BYTES)
    if not file.eof:
        raise zstd.ZstdError(f"a chunk file that is cut off, or of more than {MAX_INFLATED_BYTES} bytes")
    return [Chunk(**json.loads(line)) for line in text.decode("utf-8", "surrogatepass").split("\n") if line]
