"""The example documents: what the demo promises about them, checked without a model."""

import json
import re
import unicodedata
import zipfile
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pypdf import PdfReader

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENTS = sorted((EXAMPLES / "documents").iterdir())
SOURCES = sorted((EXAMPLES / "sources").glob("*.md"))
SEARCHES = json.loads((EXAMPLES / "searches.json").read_text(encoding="utf-8"))
BUILT = {".pdf", ".docx"}
VIETNAMESE = set("ăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ")
STOP_WORDS = set(
    """a an and are do for from get go has have how i in is it of on or out should someone the them there
    to too we what with bằng cho có của hay là thì trong và với""".split()  # noqa: SIM905 — a list takes 40 lines
)
WORD_TAG = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


@cache
def text_of(path: Path) -> str:
    """Return a document's text with runs of white space as one blank."""
    if path.suffix == ".pdf":
        text = "\n".join(page.extract_text() for page in PdfReader(path).pages)
    elif path.suffix == ".docx":
        with zipfile.ZipFile(path) as archive:
            body = ElementTree.fromstring(archive.read("word/document.xml"))
        text = "\n".join("".join(p.itertext()) for p in body.iter(f"{WORD_TAG}p"))
    else:
        text = path.read_text(encoding="utf-8")
    return " ".join(text.split())


def title_of(path: Path) -> str:
    """Return the first heading of a document, or of the source that it is built from."""
    source = EXAMPLES / "sources" / f"{path.stem}.md" if path.suffix in BUILT else path
    return source.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def content_words(text: str) -> set[str]:
    """Return the words of a text without stop words, cased alike."""
    return set(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).casefold())) - STOP_WORDS


def without_marks(text: str) -> str:
    """Return the text as a file name would spell it: no diacritics."""
    plain = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(mark for mark in plain if not unicodedata.combining(mark))


def related(first: set[str], second: set[str]) -> set[tuple[str, str]]:
    """Return the pairs that are equal, or that begin with the same four letters as forms of one word do."""
    return {(a, b) for a in first for b in second if a == b or (min(len(a), len(b)) > 3 and a[:4] == b[:4])}


def test_all_formats_and_at_least_twelve_documents():
    assert len(DOCUMENTS) >= 12
    assert {path.suffix for path in DOCUMENTS} == {".pdf", ".docx", ".txt", ".md"}


def test_one_pdf_is_a_book_of_forty_pages_with_text_on_each():
    pages = PdfReader(EXAMPLES / "documents" / "ferry-operations-handbook.pdf").pages
    assert len(pages) >= 40
    assert [number for number, page in enumerate(pages, 1) if len(page.extract_text()) < 80] == []


def test_the_pdfs_stay_small():
    assert sum(path.stat().st_size for path in DOCUMENTS if path.suffix == ".pdf") < 600_000


def test_vietnamese_is_in_every_format_and_composed():
    vietnamese = [path for path in DOCUMENTS if len(VIETNAMESE & set(text_of(path))) > 30]
    assert {path.suffix for path in vietnamese} == {".pdf", ".docx", ".txt", ".md"}
    for path in vietnamese:
        assert unicodedata.is_normalized("NFC", text_of(path)), path.name


def test_no_paragraph_is_said_twice():
    lines = [line for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines()]
    long = [line for line in lines if len(line) > 60 and not line.startswith("|")]
    assert len(long) == len(set(long))


def test_four_searches_one_of_them_vietnamese():
    assert len(SEARCHES) == 4
    assert sorted(search["language"] for search in SEARCHES) == ["en", "en", "en", "vi"]
    assert len({search["expect"] for search in SEARCHES}) == 4


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search["expect"])
def test_query_shares_no_content_word_with_the_name_of_its_document(search):
    path = EXAMPLES / "documents" / search["expect"]
    assert path in DOCUMENTS
    query = content_words(search["query"])
    assert len(query) >= 3
    assert related(query, content_words(title_of(path))) == set()
    assert related(content_words(without_marks(search["query"])), content_words(path.stem)) == set()


def test_every_built_document_has_a_source_and_the_other_way_round():
    assert {path.stem for path in DOCUMENTS if path.suffix in BUILT} == {path.stem for path in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_built_document_says_what_its_source_says(source):
    built = next(path for path in DOCUMENTS if path.stem == source.stem)
    words = text_of(built)
    missing = []
    for line in source.read_text(encoding="utf-8").splitlines():
        # A page break may put the running title inside a paragraph, so of those only the start must be found.
        piece = line.lstrip("# ") if line.startswith("#") else line.removeprefix("- ")[:40]
        if piece and not piece.startswith("|") and " ".join(piece.split()) not in words:
            missing.append(piece)
    assert missing == []
