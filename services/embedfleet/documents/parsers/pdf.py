"""PDF to blocks, page by page: pypdf reads, pdfium stands in where pypdf fails.

A page that neither can read is skipped: one bad page must not cost the document. pdfium aborts the
whole process when memory runs out, so this runs only inside the sandbox child.
"""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers.block import (
    Block,
    CharacterBudget,
    Limits,
    Parsed,
    Progress,
    corrupt,
    limit_exceeded,
)
from embedfleet.documents.parsers.pdf_doubts import better, doubtful


class PdfEngine(Protocol):
    """A PDF that is open in one library."""

    pages: int

    def text_of(self, index: int) -> str:
        """Return the text of a page, from 0; raises whatever the library raises."""


class PdfPages:
    """The pages of one file, read by the first engine that can.

    Args:
        path: the file.
        limits: page limit, checked before any page is read.

    Raises:
        DocumentProcessingError: `encrypted`, `corrupt` or `limit_exceeded`.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        try:
            self._first: PdfEngine | None = _open_pypdf(path)
        except (DocumentProcessingError, MemoryError):
            raise
        except Exception:
            self._first = None
        engine = self._first or self._second
        if engine is None or engine.pages < 1:
            raise corrupt("no page of the PDF can be found")
        if engine.pages > limits.pages:
            raise limit_exceeded(f"{engine.pages:,} pages")
        self.count = engine.pages
        self.failed = 0

    @cached_property
    def _second(self) -> PdfEngine | None:
        with suppress(ImportError):
            from embedfleet.documents.parsers.pdfium import open_pdfium

            return open_pdfium(self._path)
        return None

    def text_of(self, index: int) -> str:
        """Return the text of a page, from 0; empty where no engine can read it."""
        first = _attempt(self._first, index)
        if first is not None and not doubtful(first):
            return first
        second = _attempt(self._second, index)
        if first is None and second is None:
            self.failed += 1
        return better(first or "", second or "")


def parse(path: Path, limits: Limits, progress: Progress) -> Parsed:
    """Read a PDF; see `Parser`."""
    pages = PdfPages(path, limits)
    budget = CharacterBudget(limits.characters)
    blocks: list[Block] = []
    for index in range(pages.count):
        progress(index, pages.count)
        text = pages.text_of(index)
        budget.spend(len(text))
        if text and not text.isspace():
            blocks.append(Block(text, page=index + 1, wrapped=True))
    progress(pages.count, pages.count)
    if not blocks and pages.failed == pages.count:
        raise corrupt("none of its pages can be read")
    return Parsed(blocks, pages.count)


def _attempt(engine: PdfEngine | None, index: int) -> str | None:
    if engine is None or index >= engine.pages:
        return None
    try:
        return engine.text_of(index)
    except (DocumentProcessingError, MemoryError):
        raise
    except Exception:
        return None


class _Pypdf:
    """A PDF open in pypdf."""

    def __init__(self, path: Path) -> None:
        from pypdf import PdfReader

        self._reader = PdfReader(path)
        self.pages = 0

    def unlock(self) -> bool:
        """Try the empty password where one is needed; False: a real one is."""
        return not self._reader.is_encrypted or bool(self._reader.decrypt(""))

    def count(self) -> None:
        """Walk the page tree; a cyclic one raises."""
        self.pages = len(self._reader.pages)

    def text_of(self, index: int) -> str:
        """Return the text of a page.

        Raises:
            DocumentProcessingError: `limit_exceeded`, a stream inflates beyond pypdf's bounds.
        """
        from pypdf.errors import LimitReachedError

        try:
            return self._reader.pages[index].extract_text()
        except LimitReachedError as error:
            raise limit_exceeded("a page that inflates beyond all measure") from error


def _open_pypdf(path: Path) -> PdfEngine:
    engine = _Pypdf(path)
    if not engine.unlock():
        raise DocumentProcessingError(
            "The PDF needs a password; save it without one and send it again.", code="encrypted"
        )
    engine.count()
    return engine
