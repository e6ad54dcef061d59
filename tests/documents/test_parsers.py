"""What all parsers promise, and each one's own ways with hostile files."""

import io
import zipfile

import pytest
from pypdf import PdfReader, PdfWriter

from embedfleet.contracts.errors import DOCUMENT_CODES, DocumentProcessingError
from embedfleet.documents.parsers import Limits
from tests.documents.make_files import STRICT_W, VIETNAMESE, make_docx, make_pdf, notes, paragraph

SAMPLES = {
    ".pdf": make_pdf([VIETNAMESE]),
    ".docx": make_docx(paragraph(VIETNAMESE)),
    ".txt": VIETNAMESE.encode(),
    ".md": VIETNAMESE.encode(),
}


def text_of(parsed):
    return "\n".join(block.text for block in parsed.blocks)


def code_of(parse, data, extension, limits=None):
    with pytest.raises(DocumentProcessingError) as caught:
        parse(data, extension, limits)
    assert caught.value.code in DOCUMENT_CODES
    assert len(caught.value.detail) > 20
    return caught.value.code


@pytest.mark.parametrize("extension", SAMPLES)
def test_vietnamese_is_read_whole(parse, extension):
    assert text_of(parse(SAMPLES[extension], extension)).strip() == VIETNAMESE


@pytest.mark.parametrize("extension", SAMPLES)
def test_characters_are_limited(parse, extension):
    limits = Limits(characters=len(VIETNAMESE) - 1)
    assert code_of(parse, SAMPLES[extension], extension, limits) == "limit_exceeded"


@pytest.mark.parametrize("extension", [".pdf", ".docx"])
def test_a_file_cut_anywhere_is_read_or_refused(parse, extension):
    data = SAMPLES[extension]
    for end in range(40, len(data), 97):
        try:
            outcome = text_of(parse(data[:end], extension)).strip()
        except DocumentProcessingError as error:
            outcome = error.code
        assert outcome in {*DOCUMENT_CODES, "", VIETNAMESE}


def test_pdf_pages_are_numbered_and_blank_ones_left_out(parse):
    parsed = parse(make_pdf(["one", "", "three"]), ".pdf")
    assert parsed.pages == 3
    assert [(block.page, block.text.strip()) for block in parsed.blocks] == [(1, "one"), (3, "three")]


def test_a_broken_pdf_page_does_not_cost_the_document(parse):
    parsed = parse(make_pdf(["first", "second", "third"], breaks=[1]), ".pdf")
    assert [block.text.strip() for block in parsed.blocks] == ["first", "third"]


def test_pdf_pages_are_limited_before_any_is_read(parse):
    assert code_of(parse, make_pdf(["x"] * 4), ".pdf", Limits(pages=3)) == "limit_exceeded"


def test_pdf_header_may_be_anywhere_in_the_first_kilobyte(parse):
    junk = b"\n" * 900
    assert "late" in text_of(parse(make_pdf(["late"], header=junk + b"%PDF-1.4\n"), ".pdf"))


def encrypted(user_password, owner_password):
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(["secret text"]))))
    writer.encrypt(user_password, owner_password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pdf_with_only_an_owner_password_is_read(parse):
    assert "secret text" in text_of(parse(encrypted("", "owner"), ".pdf"))


def test_pdf_with_a_user_password_is_refused(parse):
    assert code_of(parse, encrypted("user", "owner"), ".pdf") == "encrypted"


@pytest.mark.parametrize(
    "namespace", ["http://schemas.openxmlformats.org/wordprocessingml/2006/main", STRICT_W]
)
def test_docx_headings_by_style_and_by_outline_level(parse, namespace):
    styles = (
        '<w:style w:styleId="Tieude"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="Own"><w:basedOn w:val="Tieude"/></w:style>'
    )
    body = (
        paragraph("By name", '<w:pStyle w:val="Tieude"/>')
        + paragraph("Inherited", '<w:pStyle w:val="Own"/>')
        + paragraph("By level", '<w:outlineLvl w:val="0"/>')
        + paragraph("Plain")
    )
    parsed = parse(make_docx(body, styles=styles, namespace=namespace), ".docx")
    assert [(block.text, block.heading_level) for block in parsed.blocks] == [
        ("By name", 2),
        ("Inherited", 2),
        ("By level", 1),
        ("Plain", None),
    ]


def test_docx_tables_keep_their_place_and_rows(parse):
    cell = "<w:tc>{}</w:tc>".format
    row = f"<w:tr>{cell(paragraph('a'))}{cell(paragraph('b') + paragraph('c'))}</w:tr>"
    parsed = parse(make_docx(paragraph("before") + f"<w:tbl>{row}</w:tbl>" + paragraph("after")), ".docx")
    assert [block.text for block in parsed.blocks] == ["before", "a | b\nc", "after"]


def test_docx_insertions_controls_and_text_boxes_count_and_deletions_do_not(parse):
    run = "<w:r><w:t>{}</w:t></w:r>".format
    box = (
        "<mc:AlternateContent><mc:Choice><w:txbxContent>{0}</w:txbxContent></mc:Choice>"
        "<mc:Fallback><w:txbxContent>{0}</w:txbxContent></mc:Fallback></mc:AlternateContent>"
    ).format(paragraph("boxed"))
    body = (
        f"<w:p><w:ins>{run('inserted')}</w:ins><w:del>{run('deleted')}</w:del>"
        f"<w:moveFrom>{run('moved')}</w:moveFrom><w:r>{box}</w:r></w:p>"
        f"<w:sdt><w:sdtContent>{paragraph('controlled')}</w:sdtContent></w:sdt>"
    )
    words = text_of(parse(make_docx(body), ".docx")).split()
    assert words == ["boxed", "inserted", "controlled"]


def test_docx_notes_are_read(parse):
    parts = {
        "word/footnotes.xml": notes("footnote", "below"),
        "word/endnotes.xml": notes("endnote", "behind"),
    }
    relations = {"footnotes": "footnotes.xml", "endnotes": "endnotes.xml"}
    parsed = parse(make_docx(paragraph("body"), parts=parts, relations=relations), ".docx")
    assert [block.text for block in parsed.blocks] == ["body", "below", "behind"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_docx_with_a_doctype_is_refused(parse, encoding):
    prolog = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    )
    data = make_docx(paragraph("text &amp; text"), prolog=prolog)
    assert code_of(parse, _recoded(data, encoding), ".docx") == "unsafe_xml"


def _recoded(data, encoding):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            main = name == "word/document.xml"
            target.writestr(name, part.decode().encode(encoding) if main else part)
    return out.getvalue()


def test_docx_with_macros_is_refused(parse):
    with_project = make_docx(paragraph("x"), parts={"word/vbaProject.bin": b"x"})
    assert code_of(parse, with_project, ".docx") == "macro"
    kind = "application/vnd.ms-word.document.macroEnabled.main+xml"
    assert code_of(parse, make_docx(paragraph("x"), content_type=kind), ".docx") == "macro"


def test_docx_bombs_are_refused(parse):
    bomb = make_docx(paragraph("x"), parts={"word/media/a.bin": b"\0" * 5_000_000})
    assert code_of(parse, bomb, ".docx") == "limit_exceeded"
    many = make_docx(paragraph("x"), parts={f"word/{n}": b"" for n in range(20)})
    assert code_of(parse, many, ".docx", Limits(entries=10)) == "limit_exceeded"
    large = make_docx(paragraph("x" * 5_000))
    assert code_of(parse, large, ".docx", Limits(entry_bytes=1_000)) == "limit_exceeded"
    assert code_of(parse, large, ".docx", Limits(total_bytes=1_000)) == "limit_exceeded"


def test_docx_with_a_directory_of_the_64_bit_kind_is_refused(parse):
    data = make_docx(paragraph("x"))
    end = data.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + bytes(16)
    assert code_of(parse, data[:end] + locator + data[end:], ".docx") == "limit_exceeded"


def test_docx_that_lies_about_its_sizes_is_refused(parse):
    long = "<x>" + " " * 3_000_000
    data = make_docx(
        paragraph("x"), parts={"word/footnotes.xml": long}, relations={"footnotes": "footnotes.xml"}
    )
    true_size = len(long).to_bytes(4, "little")
    assert data.count(true_size) == 2
    lying = data.replace(true_size, (100).to_bytes(4, "little"))
    assert code_of(parse, lying, ".docx") in ("corrupt", "limit_exceeded")


def test_docx_of_another_office_program_is_refused(parse):
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    assert code_of(parse, make_docx(paragraph("x"), content_type=kind), ".docx") == "unsupported_type"


def test_docx_nested_deeply_is_read(parse):
    deep = "<w:sdt><w:sdtContent>" * 5_000 + paragraph("x") + "</w:sdtContent></w:sdt>" * 5_000
    assert text_of(parse(make_docx(deep), ".docx")) == "x"


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1258", "utf-8"]
)
def test_vietnamese_text_in_many_encodings(parse, encoding):
    from embedfleet.documents.clean import clean

    written = decomposed_for_1258(VIETNAMESE) if encoding == "cp1258" else VIETNAMESE
    assert clean(parse((written * 5).encode(encoding), ".txt").blocks).text == VIETNAMESE * 5


def decomposed_for_1258(text):
    """Split tones off as Windows-1258 has them: the vowel with its shape, then the tone."""
    import unicodedata

    out = []
    for letter in text:
        parts = unicodedata.normalize("NFD", letter)
        tones = [p for p in parts if p in "\u0300\u0301\u0303\u0309\u0323"]
        shape = unicodedata.normalize("NFC", "".join(p for p in parts if p not in tones))
        out.append(shape + "".join(tones))
    return "".join(out)


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("shift_jis", "日本語の文章を読み込み、正しく復号できるかどうかを確かめるための文です。"),
        ("euc_jp", "日本語の文章を読み込み、正しく復号できるかどうかを確かめるための文です。"),
        ("iso2022_jp", "日本語の文章を読み込み、正しく復号できるかどうかを確かめるための文です。"),
        ("gb18030", "这是一个用来检查编码识别是否正确的中文句子，它应当被完整地读出来。"),
        ("cp1251", "Это предложение проверяет, что кириллица читается правильно и целиком."),
        ("cp1252", "Cette phrase vérifie que les lettres accentuées sont bien lues, même à la fin."),
    ],
)
def test_text_in_older_encodings(parse, encoding, sentence):
    text = (sentence + "\n") * 20
    assert text_of(parse(text.encode(encoding), ".txt")) == text


def test_a_few_wrong_bytes_do_not_change_the_encoding(parse):
    data = VIETNAMESE.encode() + b"\xff\xfe" + VIETNAMESE.encode()
    assert text_of(parse(data, ".txt")).count(VIETNAMESE) == 2


@pytest.mark.parametrize("data", [bytes(range(256)) * 40, b"\0" * 1000, b"text" + b"\0\1\2\3" * 100])
def test_binary_in_a_text_file_is_refused(parse, data):
    assert code_of(parse, data, ".txt") == "binary"


def test_markdown_is_readable_and_knows_its_headings(parse):
    source = (
        "---\ntitle: Báo cáo\n---\n# Chương một\n\nĐoạn **đậm** có [liên kết](https://a.example/x).\n\n"
        "Setext\n------\n\n| a | b |\n|---|---|\n| c | d |\n\n```python\nprint('kept')\n```\n\n"
        "<script>alert(1)</script>\n\n<!-- hidden -->\n\n![ảnh](p.png)\n"
    )
    blocks = [
        (b.text.strip(), b.heading_level) for b in parse(source.encode(), ".md").blocks if b.text.strip()
    ]
    assert blocks == [
        ("title: Báo cáo", None),
        ("Chương một", 1),
        ("Đoạn đậm có liên kết (https://a.example/x).", None),
        ("Setext", 2),
        ("a | b", None),
        ("c | d", None),
        ("python\nprint('kept')", None),
        ("ảnh (p.png)", None),
    ]


@pytest.mark.parametrize(
    "source",
    [
        "> " * 3_000 + "deep",
        "[" * 60_000 + "deep",
        "*a **b " * 9_000 + "deep",
        "<!--" * 20_000 + "deep",
        "- " * 4_000 + "deep",
    ],
    ids=["quotes", "brackets", "emphasis", "comments", "lists"],
)
def test_hostile_markdown_is_read_in_bounded_time(parse, source):
    assert "deep" in text_of(parse(source.encode(), ".md"))


def test_markdown_in_many_pieces_loses_no_line(parse):
    lines = [f"line {n} of the source" for n in range(30_000)]
    lines[9_000] = "```"
    read = text_of(parse("\n".join(lines).encode(), ".md")).split("\n")
    assert [line for line in read if "line" in line] == [line for line in lines if "line" in line]
