"""What a parser gives back, and the limits that it keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from embedfleet.contracts.errors import DocumentProcessingError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one file. The figures of the DOCX ones are far above any real document's.

    Attributes:
        pages: pages of a PDF.
        characters: characters of extracted text.
        entries: files inside a DOCX.
        entry_bytes: inflated size of one of them.
        total_bytes: inflated size of all of them.
        ratio: inflated size over stored size, for entries above 1 MB.
    """

    pages: int = 5_000
    characters: int = 60_000_000
    entries: int = 10_000
    entry_bytes: int = 100_000_000
    total_bytes: int = 200_000_000
    ratio: int = 200


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text that belongs together: a page, a paragraph, a table row, a heading.

    Attributes:
        text: raw text, not cleaned.
        page: from 1; None where the format has no pages.
        heading_level: 1 to 9 when the block is a heading, else None.
        wrapped: lines end where the page ran out of room, so a hyphen there may be the typesetter's.
    """

    text: str
    page: int | None = None
    heading_level: int | None = None
    wrapped: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file holds.

    Attributes:
        blocks: in reading order.
        pages: how many, where the format has pages.
        pages_without_text: pages that gave no text: blank, scanned or damaged.
    """

    blocks: list[Block]
    pages: int | None = None
    pages_without_text: int = 0


class Parser(Protocol):
    """Turns one file into blocks; pure but for reading the file."""

    def __call__(self, file: BinaryIO, limits: Limits, progress: Progress) -> Parsed:
        """Read a file.

        Args:
            file: open at its start; stays open.
            limits: bounds to keep.
            progress: called with (units done, units in all).

        Raises:
            DocumentProcessingError: the file can't be read; its code says why.
        """


class CharacterBudget:
    """Counts extracted characters against the limit.

    Args:
        limit: characters that one file may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def spend(self, characters: int) -> None:
        """Count more characters.

        Raises:
            DocumentProcessingError: `limit_exceeded`.
        """
        self._used += characters
        if self._used > self._limit:
            raise limit_exceeded(f"more than {self._limit:,} characters of text")


def limit_exceeded(what: str) -> DocumentProcessingError:
    """Return the error for a file that goes over a limit."""
    return DocumentProcessingError(
        f"The file has {what}, which is over the limit; split it into smaller files.", code="limit_exceeded"
    )


def password_needed(what: str) -> DocumentProcessingError:
    """Return the error for a file that only a password opens."""
    return DocumentProcessingError(
        f"The {what} needs a password; save it without one and send it again.", code="encrypted"
    )


def corrupt(what: str) -> DocumentProcessingError:
    """Return the error for a file that is damaged beyond reading."""
    return DocumentProcessingError(
        f"The file is damaged: {what}. Open it in its own program, save it again and send that.",
        code="corrupt",
    )
