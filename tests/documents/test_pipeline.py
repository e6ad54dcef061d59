"""One file to chunks, without the sandbox."""

import io

import pytest

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers import Limits, pdf
from embedfleet.documents.pipeline import process
from tests.documents.make_files import VIETNAMESE, make_docx, make_pdf, paragraph


def run(data, extension, tokens, max_tokens=512, **options):
    return process(
        io.BytesIO(data),
        extension,
        ChunkOptions(**options),
        tokenizer=tokens,
        max_tokens=max_tokens,
        limits=Limits(),
        progress=lambda done, total: None,
    )


def test_a_pdf_has_pages_and_the_size_asked_for(wordpiece):
    pages = [f"Trang {n}. " + VIETNAMESE[:100] for n in range(1, 4)]
    done = run(make_pdf(pages), ".pdf", wordpiece, chunk_size=120, chunk_overlap=0)
    assert (done.pages, done.chunk_size_effective) == (3, 120)
    assert {chunk.page for chunk in done.chunks} == {1, 2, 3}


def test_the_effective_size_is_the_longest_chunk_when_the_model_cuts(wordpiece):
    done = run((VIETNAMESE * 20).encode(), ".txt", wordpiece, max_tokens=64)
    assert done.chunk_size_effective == max(len(chunk.text) for chunk in done.chunks) < 1000


@pytest.mark.parametrize(
    ("extension", "data"),
    [
        (".pdf", make_pdf([""])),
        (".docx", make_docx(paragraph(" "))),
        (".txt", b" \n\t\n"),
        (".md", b"---\n\n---\n"),
        (".txt", "\u200b\u200e \u034f\n\n\u200b".encode()),  # nothing that the model sees
    ],
)
def test_a_file_without_text_has_its_own_code(wordpiece, extension, data):
    with pytest.raises(DocumentProcessingError) as caught:
        run(data, extension, wordpiece)
    assert caught.value.code == "no_text"


def test_what_a_parser_did_not_foresee_is_a_corrupt_file(wordpiece, monkeypatch):
    monkeypatch.setattr(pdf, "PdfPages", lambda path: 1 / 0)
    with pytest.raises(DocumentProcessingError) as caught:
        run(make_pdf(["x"]), ".pdf", wordpiece)
    assert caught.value.code == "corrupt"
    assert "ZeroDivisionError" in caught.value.detail


def test_overlap_may_not_multiply_a_file_beyond_measure(wordpiece):
    text = (VIETNAMESE * 400).encode()
    with pytest.raises(DocumentProcessingError, match="chunk_overlap") as caught:
        run(text, ".txt", wordpiece, 10_000, chunk_size=8_000, chunk_overlap=7_999)
    assert caught.value.code == "limit_exceeded"
    usual = run(text, ".txt", wordpiece, 10_000, chunk_size=8_000, chunk_overlap=6_000)
    assert usual.chunks
