"""One file to chunks: type gate, parse, clean, chunk. Runs inside the sandbox child."""

from dataclasses import dataclass
from typing import BinaryIO

from embedfleet.contracts.documents import Chunk, ChunkOptions
from embedfleet.contracts.errors import DocumentProcessingError, FleetError
from embedfleet.documents.chunk import Chunker, TokenMeter
from embedfleet.documents.clean import CleanText, clean
from embedfleet.documents.file_types import HEAD_BYTES, check_type
from embedfleet.documents.parsers import Limits, Parsed, Progress, parser_of

# Overlap repeats text: chunks may hold this many times the characters that a file may have, ...
MAX_REPEAT = 2
# ... and of those it has, so many times and some: an overlap of 80 % repeats everything five times.
MAX_REPEAT_OF_TEXT = 6
FREE_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of a file.

    Attributes:
        chunks: at least one, in order.
        pages: pages of the file; None where the format has none.
        chunk_size_effective: the size that was asked for, or the longest chunk (in the option's unit)
            when the model's limit cut chunks.
        pages_without_text: pages that gave no text: blank, scanned or damaged.
    """

    chunks: list[Chunk]
    pages: int | None
    chunk_size_effective: int
    pages_without_text: int = 0


def process(
    file: BinaryIO,
    extension: str,
    options: ChunkOptions,
    *,
    tokenizer: TokenMeter,
    max_tokens: int,
    limits: Limits,
    progress: Progress,
) -> Processed:
    """Turn one file into chunks.

    Args:
        file: open for reading, and seekable.
        extension: the uploaded name's extension, with its dot.
        options: how to cut.
        tokenizer: the model's.
        max_tokens: what the model takes, special tokens included.
        limits: bounds of reading.
        progress: called with (pages or parts done, in all).

    Raises:
        DocumentProcessingError: the file can't be turned into chunks; its code says why.
        OSError: the file can't be read.
        MemoryError: it does not fit.
    """
    parsed, text = read(file, extension, limits, progress)
    room = min(MAX_REPEAT * limits.characters, MAX_REPEAT_OF_TEXT * len(text.text) + FREE_CHARACTERS)
    chunker = Chunker(text, options, tokenizer, max_tokens, room)
    chunks = list(chunker)
    if not chunks:
        raise _no_text()
    effective = chunker.longest if chunker.limited else options.chunk_size
    return Processed(chunks, parsed.pages, effective, parsed.pages_without_text)


def read(file: BinaryIO, extension: str, limits: Limits, progress: Progress) -> tuple[Parsed, CleanText]:
    """Parse and clean one file; raises as `process` does."""
    file.seek(0)
    media_type = check_type(extension, file.read(HEAD_BYTES))
    parse = parser_of(media_type)
    file.seek(0)
    try:
        parsed = parse(file, limits, progress)
    except (FleetError, OSError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise DocumentProcessingError(
            f"The file can't be read as {media_type} ({type(error).__name__}); "
            "open it in its own program, save it again and send that.",
            code="corrupt",
        ) from error
    text = clean(parsed.blocks)
    if not text.text:
        raise _no_text()
    return parsed, text


def _no_text() -> DocumentProcessingError:
    return DocumentProcessingError(
        "The file has no text; a scan needs text recognition (OCR) first.", code="no_text"
    )
