"""Text files whose chunks are as many as wanted, made of the corpus."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.documents.chunk import Chunker, TokenMeter
from embedfleet.documents.clean import CleanText, clean
from embedfleet.documents.parsers import Block

MOST_CHARACTERS = 10_000_000


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file to upload.

    Attributes:
        name: of the file.
        text: its content.
        chunks: how many chunks the chunker makes of it.
    """

    name: str
    text: str
    chunks: int


def text_files(
    texts: Sequence[str], count: int, chunks: int, meter: TokenMeter, max_tokens: int
) -> Iterator[TextFile]:
    """Yield files of about so many chunks each, no two alike.

    Args:
        texts: paragraphs, taken in turn.
        count: how many files.
        chunks: of each file; a file ends where the last of them ends.
        meter: the model's tokenizer.
        max_tokens: what the model takes.
    """
    paragraphs = cycle(texts)
    for number in range(count):
        text, cut = f"File {number}.", list[int]()
        while len(cut) <= chunks:
            text += "\n\n" + next(paragraphs)
            cut = _ends(text, meter, max_tokens)
        text = _clean(text).text[: cut[chunks - 1]]
        yield TextFile(f"file-{number:04d}.txt", text, len(_ends(text, meter, max_tokens)))


def _ends(text: str, meter: TokenMeter, max_tokens: int) -> list[int]:
    return [chunk.end for chunk in Chunker(_clean(text), ChunkOptions(), meter, max_tokens, MOST_CHARACTERS)]


def _clean(text: str) -> CleanText:
    return clean([Block(text)])
