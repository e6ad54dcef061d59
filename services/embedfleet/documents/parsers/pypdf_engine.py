"""PDF by pypdf, in Python: slower, but reads some files that pdfium refuses."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from pypdf import PdfReader
from pypdf.errors import LimitReachedError, PdfReadError
from pypdf.generic import ArrayObject, StreamObject

from embedfleet.documents.parsers.block import limit_exceeded, password_needed

# An empty stream that is deflated has 8 bytes; all that is longer holds something.
_EMPTY_BYTES = 16


class Pypdf:
    """A PDF open in pypdf.

    Args:
        file: open for reading; stays open.

    Raises:
        DocumentProcessingError: `encrypted`.
        Exception: whatever pypdf raises on damage.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._reader = PdfReader(file)
        if self._reader.is_encrypted and not self._reader.decrypt(""):
            raise password_needed("PDF")
        self.pages = len(self._reader.pages)

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def text_of(self, index: int) -> str:
        """Return the text of a page, from 0.

        Raises:
            DocumentProcessingError: `limit_exceeded`, a stream inflates beyond pypdf's bounds.
            Exception: whatever pypdf raises on damage.
        """
        page = self._reader.pages[index]
        try:
            text = page.extract_text()
            if not text and not all(_inflates(stream) for stream in _streams(page.get("/Contents"))):
                raise PdfReadError("the page's content can't be inflated")
            return text
        except LimitReachedError as error:
            raise limit_exceeded("a page that inflates beyond all measure") from error


def _streams(contents: Any) -> Iterator[StreamObject]:
    whole = contents.get_object() if contents is not None else None
    for part in whole if isinstance(whole, ArrayObject) else [whole]:
        stream = part.get_object() if part is not None else None
        if isinstance(stream, StreamObject):
            yield stream


def _inflates(stream: StreamObject) -> bool:
    """Return whether a stream gives any bytes, if it has any: pypdf gives none for damage, and goes on."""
    # No public name: pypdf drops /Length once a stream is read.
    stored = getattr(stream, "_data", b"")
    return len(stored) <= _EMPTY_BYTES or bool(stream.get_data())
