"""Both PDF engines read alike, and one stands in for the other."""

import pytest

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers.pdf import ENGINES, PdfPages
from tests.documents.make_files import VIETNAMESE, make_pdf

PDFIUM, PYPDF = ENGINES


class Broken:
    """An engine that opens every file and reads no page."""

    def __init__(self, path):
        self.pages = 2

    def text_of(self, index):
        raise RuntimeError("this page can't be read")

    def close(self):
        pass


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(make_pdf([VIETNAMESE, "hai"]))
    return path


def texts(pages):
    try:
        return [pages.text_of(index).strip() for index in range(pages.count)]
    finally:
        pages.close()


@pytest.mark.parametrize(
    "engines",
    [(PDFIUM,), (PYPDF,), (Broken, PYPDF), (Broken, PDFIUM), (lambda path: 1 / 0, PYPDF)],
    ids=["pdfium", "pypdf", "pypdf for pages", "pdfium for pages", "pypdf for the file"],
)
def test_every_order_reads_the_same(path, engines):
    assert texts(PdfPages(path, engines)) == [VIETNAMESE, "hai"]


def test_pages_that_none_can_read_are_counted(path):
    pages = PdfPages(path, (Broken,))
    assert texts(pages) == ["", ""]
    assert pages.failed == 2


def test_a_file_that_none_can_open_is_corrupt(path):
    with pytest.raises(DocumentProcessingError) as caught:
        PdfPages(path, (lambda path: 1 / 0,))
    assert caught.value.code == "corrupt"
