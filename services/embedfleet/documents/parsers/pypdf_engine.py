"""PDF by pypdf, in Python: slower, but reads some files that pdfium refuses."""

from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import LimitReachedError

from embedfleet.documents.parsers.block import limit_exceeded, password_needed


class Pypdf:
    """A PDF open in pypdf.

    Args:
        path: the file.

    Raises:
        DocumentProcessingError: `encrypted`.
        Exception: whatever pypdf raises on damage.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._reader = PdfReader(self._file)
            if self._reader.is_encrypted and not self._reader.decrypt(""):
                raise password_needed("PDF")
            self.pages = len(self._reader.pages)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def text_of(self, index: int) -> str:
        """Return the text of a page, from 0.

        Raises:
            DocumentProcessingError: `limit_exceeded`, a stream inflates beyond pypdf's bounds.
            Exception: whatever pypdf raises on damage.
        """
        try:
            return self._reader.pages[index].extract_text()
        except LimitReachedError as error:
            raise limit_exceeded("a page that inflates beyond all measure") from error
