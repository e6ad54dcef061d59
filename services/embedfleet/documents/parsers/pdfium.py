"""PDF by pdfium, in C++: sees words by where their letters stand, and forgives damage."""

import re
from typing import BinaryIO

import pypdfium2

from embedfleet.documents.parsers.block import corrupt, password_needed

_WRONG_PASSWORD = 4  # FPDF_ERR_PASSWORD of fpdfview.h
# pdfium joins the lines of a hyphenated word and leaves one of these where the hyphen was.
_JOINTS = re.compile("[\x02\ufffe]")
_MAX_OFF_PAGE = 1.2


class Pdfium:
    """A PDF open in pdfium.

    Args:
        file: open for reading; stays open.

    Raises:
        DocumentProcessingError: `encrypted` or `corrupt`.
    """

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == _WRONG_PASSWORD:
                raise password_needed("PDF") from error
            raise corrupt("it can't be opened as a PDF") from error
        self.pages = len(self._document)

    def close(self) -> None:
        """Let go of the file."""
        self._document.close()

    def text_of(self, index: int) -> str | None:
        """Return the text of a page, from 0; None where nothing is drawn: it is empty, or damaged.

        Characters over the page's edge are kept, unless they are so many that another page lies there.

        Raises:
            pypdfium2.PdfiumError: the page can't be read.
        """
        page = self._document[index]
        try:
            text = page.get_textpage()
            try:
                on_page, everything = str(text.get_text_bounded()), str(text.get_text_range())
            finally:
                text.close()
            if not everything and pypdfium2.raw.FPDFPage_CountObjects(page) == 0:
                return None
        finally:
            page.close()
        chosen = everything if len(everything) <= _MAX_OFF_PAGE * len(on_page) else on_page
        return _JOINTS.sub("-\n", chosen)
