"""Both PDF engines read alike, and one stands in for the other."""

import io

import pytest

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers.pdf import ENGINES, SECOND_LOOKS, PdfPages
from tests.documents.make_files import VIETNAMESE, make_pdf

PDFIUM, PYPDF = ENGINES


class Broken:
    """An engine that opens every file and reads no page."""

    def __init__(self, file):
        self.pages = 2

    def text_of(self, index):
        raise RuntimeError("this page can't be read")

    def close(self):
        pass


class Blank(Broken):
    """An engine that sees nothing on any page, and counts how often it was asked."""

    asked = 0

    def __init__(self, file):
        self.pages = 100

    def text_of(self, index):
        type(self).asked += 1
        return None


@pytest.fixture
def file():
    return io.BytesIO(make_pdf([VIETNAMESE, "hai"]))


def texts(pages):
    try:
        return [pages.text_of(index).strip() for index in range(pages.count)]
    finally:
        pages.close()


@pytest.mark.parametrize(
    "engines",
    [(PDFIUM,), (PYPDF,), (Broken, PYPDF), (Broken, PDFIUM), (lambda file: 1 / 0, PYPDF)],
    ids=["pdfium", "pypdf", "pypdf for pages", "pdfium for pages", "pypdf for the file"],
)
def test_every_order_reads_the_same(file, engines):
    assert texts(PdfPages(file, engines)) == [VIETNAMESE, "hai"]


def test_pages_that_none_can_read_are_counted(file):
    pages = PdfPages(file, (Broken,))
    assert texts(pages) == ["", ""]
    assert pages.failed == 2


def test_a_file_that_none_can_open_is_corrupt(file):
    with pytest.raises(DocumentProcessingError) as caught:
        PdfPages(file, (lambda file: 1 / 0,))
    assert caught.value.code == "corrupt"


def test_an_empty_page_is_shown_to_the_next_engine_a_bounded_number_of_times(file):
    class Second(Blank):
        asked = 0

    class First(Blank):
        asked = 0

    pages = PdfPages(file, (First, Second))
    assert texts(pages) == [""] * 100
    assert (First.asked, Second.asked, pages.blank, pages.failed) == (100, SECOND_LOOKS, 100, 0)


def test_where_the_first_engine_sees_nothing_the_next_one_may_read(file):
    class Blind(Blank):
        def __init__(self, file):
            self.pages = 2

    assert texts(PdfPages(file, (Blind, PYPDF))) == [VIETNAMESE, "hai"]


def test_pdf_pages_whose_content_is_damaged_are_counted(parse):
    parsed = parse(make_pdf(["first", "second", "", "fourth"], damages=[1]), ".pdf")
    assert [block.page for block in parsed.blocks] == [1, 4]
    assert (parsed.pages, parsed.pages_without_text) == (4, 2)


def test_a_pdf_whose_every_content_is_damaged_is_corrupt(parse):
    with pytest.raises(DocumentProcessingError) as caught:
        parse(make_pdf(["one", "two"], damages=[0, 1]), ".pdf")
    assert caught.value.code == "corrupt"
