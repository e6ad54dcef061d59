"""The second PDF engine: pdfium, in C++, several times faster and more forgiving than pypdf."""

from pathlib import Path

import pypdfium2

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers.block import corrupt

_WRONG_PASSWORD = 4  # FPDF_ERR_PASSWORD of fpdfview.h
# pdfium puts one of these where a word was hyphenated at the end of a line.
_HYPHENS = str.maketrans({"\x02": "-", "\ufffe": "-"})


class Pdfium:
    """A PDF open in pdfium.

    Raises:
        DocumentProcessingError: `encrypted` or `corrupt`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._document = pypdfium2.PdfDocument(path)
            self.pages = len(self._document)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == _WRONG_PASSWORD:
                raise DocumentProcessingError(
                    "The PDF needs a password; save it without one and send it again.", code="encrypted"
                ) from error
            raise corrupt("it can't be opened as a PDF") from error

    def text_of(self, index: int) -> str:
        """Return the text of a page, from 0.

        Raises:
            pypdfium2.PdfiumError: the page can't be read.
        """
        page = self._document[index]
        try:
            textpage = page.get_textpage()
            try:
                return str(textpage.get_text_range()).translate(_HYPHENS).replace("\r\n", "\n")
            finally:
                textpage.close()
        finally:
            page.close()


def open_pdfium(path: Path) -> Pdfium:
    """Open a PDF."""
    return Pdfium(path)
