"""The gate: extension and content must agree."""

import pytest

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.file_types import check_type
from embedfleet.documents.parsers import parser_of
from tests.documents.make_files import make_docx, make_pdf, paragraph

PDF, DOCX = make_pdf(["x"]), make_docx(paragraph("x"))
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100


@pytest.mark.parametrize(
    ("extension", "head", "media_type"),
    [
        (".pdf", PDF, "pdf"),
        (".PDF", b"junk\n" + PDF, "pdf"),
        (".docx", DOCX, "docx"),
        (".txt", "văn bản".encode(), "text"),
        (".md", b"# x", "markdown"),
    ],
)
def test_what_agrees_passes(extension, head, media_type):
    assert check_type(extension, head) == media_type


@pytest.mark.parametrize(
    ("extension", "head", "code"),
    [
        (".exe", b"MZ", "unsupported_type"),
        ("", b"text", "unsupported_type"),
        (".pdf", b"", "empty_file"),
        (".pdf", DOCX, "unsupported_type"),
        (".pdf", b" " * 1024 + PDF, "unsupported_type"),
        (".docx", PDF, "unsupported_type"),
        (".docx", OLE, "unsupported_type"),
        (".docx", OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (".txt", DOCX, "unsupported_type"),
        (".md", PDF, "unsupported_type"),
        (".txt", b"\x7fELF\2", "unsupported_type"),
    ],
)
def test_what_disagrees_is_refused(extension, head, code):
    with pytest.raises(DocumentProcessingError) as caught:
        check_type(extension, head)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["block", "pdfium", "docx.text", "", ".pdf"])
def test_only_a_media_type_has_a_parser(name):
    with pytest.raises(ValueError, match="media type"):
        parser_of(name)
