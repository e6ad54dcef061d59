"""Documents made from a seed, and the chunks that the product owes for them."""

import io
import random
from dataclasses import dataclass
from functools import cache

from embedfleet.contracts.documents import ChunkOptions, text_hash
from embedfleet.documents.parsers import Limits
from embedfleet.documents.pipeline import process
from embedfleet.documents.tokens import ModelTokens
from embedfleet.encoders.models import locate
from embedfleet.runtime.settings import ModelSettings
from tests.documents.make_files import make_pdf

WORDS = (
    "ferry",
    "harbour",
    "tide",
    "lamp",
    "rope",
    "captain",
    "ticket",
    "winter",
    "bridge",
    "signal",
    "anchor",
)
SENTENCE_WORDS = 11


@dataclass(frozen=True, slots=True)
class File:
    """A file to upload.

    Attributes:
        name: with its extension.
        data: its bytes.
        chunks: index → sha256 of the text of each chunk that must be found in the end.
    """

    name: str
    data: bytes
    chunks: dict[int, str]


def text_file(name: str, seed: object, characters: int) -> File:
    """Return a text of about so many characters; 800 of them make a chunk."""
    data = _prose(random.Random(f"{name}{seed}"), characters).encode()
    return File(f"{name}.txt", data, expected(data, ".txt"))


def pdf_file(name: str, seed: object, pages: int, characters: int = 300) -> File:
    """Return a PDF with about so many characters on each page."""
    chance = random.Random(f"{name}{seed}")
    data = make_pdf([_prose(chance, characters)[:characters].replace(". ", ".\n") for _ in range(pages)])
    return File(f"{name}.pdf", data, expected(data, ".pdf"))


def expected(data: bytes, extension: str) -> dict[int, str]:
    """Return the chunks of a file: read here, in this process, by nobody who may be killed."""
    tokenizer, max_tokens = _tokenizer()
    processed = process(
        io.BytesIO(data),
        extension,
        ChunkOptions(),
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        limits=Limits(),
        progress=lambda done, total: None,
    )
    return {chunk.index: text_hash(chunk.text) for chunk in processed.chunks}


def _prose(chance: random.Random, characters: int) -> str:
    sentences: list[str] = []
    size = 0
    while size < characters:
        words = " ".join(chance.choices(WORDS, k=SENTENCE_WORDS)).capitalize()
        sentences.append(f"{words} {chance.random():.6f}. ")
        size += len(sentences[-1])
    return "".join(sentences)


@cache
def _tokenizer() -> tuple[ModelTokens, int]:
    files = locate(ModelSettings())
    return ModelTokens.load(files.tokenizer), files.max_tokens
